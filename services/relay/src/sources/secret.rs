//! Passwords and tokens of sources: out of a file or the environment, never out of the configuration itself.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use secrecy::SecretString;

/// What the file holds, or the environment variable, whichever is named; nothing where neither is. `what` is the key's
/// name in the configuration without `_file`: `password`.
#[expect(
    clippy::disallowed_methods,
    reason = "the configuration names the variable: each source has one of its own, which no flag's help could list"
)]
pub fn read(what: &str, file: Option<&Path>, env: Option<&str>) -> Result<Option<SecretString>> {
    let text = match (file, env) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => {
            anyhow::bail!("`{what}_file` and `{what}_env` are both set: leave one of them out")
        }
        (Some(file), None) => std::fs::read_to_string(file)
            .with_context(|| format!("read `{what}_file` {}", file.display()))?,
        (None, Some(env)) => std::env::var(env).with_context(|| {
            format!(
                "`{what}_env` names the environment variable {env}: set it, or use `{what}_file`"
            )
        })?,
    };
    let text = text.trim_end_matches(['\r', '\n']);
    ensure!(
        !text.is_empty(),
        "`{what}_file` or `{what}_env` names something empty: put the {what} there"
    );
    Ok(Some(SecretString::from(text)))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn a_password_file_loses_its_last_line_break_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, " with spaces \n").unwrap();
        let read = read("password", Some(&file), None).unwrap().unwrap();
        assert_eq!(read.expose_secret(), " with spaces ");
    }

    #[test]
    fn what_is_not_there_is_said_by_its_name() {
        let error = read("password", Some(Path::new("nowhere")), None).unwrap_err();
        assert_eq!(error.to_string(), "read `password_file` nowhere");
        let error = read("token", None, Some("ROLLCALL_NO_SUCH_TOKEN")).unwrap_err();
        assert!(
            error.to_string().contains("ROLLCALL_NO_SUCH_TOKEN"),
            "{error}"
        );
        let both = read("token", Some(Path::new("a")), Some("B")).unwrap_err();
        assert!(both.to_string().contains("both set"), "{both}");
        assert!(read("token", None, None).unwrap().is_none());
    }
}
