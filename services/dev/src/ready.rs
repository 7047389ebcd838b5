//! What is true once everything runs: for scripts in the ready file, for people as the text that says what to try.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::progress::say;
use crate::secrets;
use crate::state::ApiKey;

/// The content of the ready file.
#[derive(Serialize, Deserialize)]
pub(crate) struct Ready {
    pub(crate) http: String,
    /// The transmitter that the relay hosts.
    pub(crate) coap: String,
    pub(crate) organization: String,
    pub(crate) project_id: i64,
    pub(crate) api_key: ApiKey,
    /// As a user who may do everything; for `psql`.
    pub(crate) postgres: String,
    pub(crate) s3: S3,
}

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct S3 {
    pub(crate) endpoint: String,
    pub(crate) bucket: String,
    pub(crate) access_key: String,
    pub(crate) secret_key: String,
}

/// A file that is there while everything runs.
pub(crate) struct ReadyFile(PathBuf);

impl ReadyFile {
    /// Removes what a run that was killed has left, so that nobody takes it for ours. Any other file is refused.
    pub(crate) fn prepare(path: &Path) -> Result<Self> {
        match fs::read(path) {
            Ok(text) if serde_json::from_slice::<Ready>(&text).is_ok() => {
                fs::remove_file(path)
                    .with_context(|| format!("remove the old {}", path.display()))?;
            }
            Ok(_) => bail!(
                "{} is not an old ready file, so it stays. Choose another --ready-file",
                path.display()
            ),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("--ready-file {} cannot be used", path.display()));
            }
        }
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        if !folder.is_dir() {
            bail!(
                "the folder of --ready-file {} does not exist. Make it, or choose another file",
                path.display()
            );
        }
        Ok(Self(path.to_owned()))
    }

    pub(crate) fn write(&self, ready: &Ready) -> Result<()> {
        let text = serde_json::to_vec_pretty(ready).expect("all keys are strings");
        secrets::write_private(&self.0, &text)
            .with_context(|| format!("write --ready-file {}", self.0.display()))
    }

    /// Called on the way out, where there is nothing better to do about an error than to say it.
    pub(crate) fn remove(&self) {
        match fs::remove_file(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                eprintln!(
                    "rollcall: {} could not be removed: {error}",
                    self.0.display()
                );
            }
            _ => {}
        }
    }
}

/// Where a client on this machine finds a server that listens on `addr`.
pub(crate) fn url_of(addr: SocketAddr) -> String {
    let mut addr = addr;
    if addr.ip().is_unspecified() {
        addr.set_ip(if addr.is_ipv4() {
            [127, 0, 0, 1].into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        });
    }
    format!("http://{addr}")
}

impl Ready {
    /// The addresses, the key, and lines to paste.
    pub(crate) fn show(&self, data_dir: &Path) {
        let Self {
            http,
            coap,
            organization,
            project_id,
            api_key,
            postgres,
            s3,
        } = self;
        let sessions = format!("{http}/api/v1/projects/{project_id}/sessions");
        let curl = format!("curl -u {}:{}", api_key.id, api_key.secret);
        let photo = shell_word(&format!("session[data][photo1]=@{}", photo().display()));
        say(format_args!(
            r#"
Rollcall is ready.

  api           {http}
  transmitter   {coap}
  organization  {organization}, project {project_id}
  key           id      {}
                secret  {}
  postgres      {postgres}
  s3            {}, bucket {}

Try it in another terminal. A form as JSON:

{curl} {sessions} -H 'Content-Type: application/json' -d '{{"session":{{"uuid":"{JSON_UUID}","unit_id":"mydevice","created":1234567890,"saved":1234567890,"data":{{"point1":"value1","point2":"value2","sketch1":{{"rawData":"aGVsbG8="}}}}}}}}'

A form with a photo:

{curl} {sessions} -F 'session[uuid]={FORM_UUID}' -F 'session[unit_id]=mydevice' -F 'session[created]=1234567890' -F 'session[saved]=1234567890' -F 'session[data][point1]=value1' -F 'session[data][__timezone__]=36000' -F {photo}

Both, read back; then the photo's bytes:

{curl} {sessions}
{curl} {sessions}/{FORM_UUID}/attachments/photo1 -o photo-read-back.jpg

As dashboards and vendors read: a list, one session, and what happens, while you post in another terminal:

{curl} -g '{http}/v1/sessions?pretty&page[size]=10'
{curl} '{http}/v1/sessions/{FORM_UUID}?pretty'
{curl} -N -H 'Accept: text/event-stream' {http}/v1/events

A guest gets pager 7 at the front desk (libcoap's client; apt install libcoap3-bin), and is on the roll moments later:

coap-client-notls -m post -e '{{"number":7,"label":"Sarah","partySize":4}}' {coap}/v1/sessions
{curl} -g '{http}/v1/sessions?pretty&filter[kind]=pager'

The whole API in a browser: {http}/docs

Ctrl-C stops everything. What was stored, the key and the addresses stay in {}."#,
            api_key.id,
            api_key.secret,
            s3.endpoint,
            s3.bucket,
            data_dir.display(),
        ));
    }
}

/// The seed's own.
const JSON_UUID: &str = "12341234-12341234-1234-1234-123412341234";
const FORM_UUID: &str = "56785678-56785678-5678-5678-567856785678";

/// The photo that the repository ships, named from where the user is, if that is the repository.
fn photo() -> PathBuf {
    let relative = Path::new("services/dev/examples/photo.jpg");
    if relative.is_file() {
        return relative.to_owned();
    }
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/photo.jpg")
}

fn shell_word(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready() -> Ready {
        Ready {
            http: "http://127.0.0.1:8080".to_owned(),
            coap: "coap://127.0.0.1:5683".to_owned(),
            organization: "demo".to_owned(),
            project_id: 1,
            api_key: ApiKey {
                id: "i".to_owned(),
                secret: "s".to_owned(),
            },
            postgres: "postgres://postgres@127.0.0.1/rollcall".to_owned(),
            s3: S3 {
                endpoint: "http://127.0.0.1:9000".to_owned(),
                bucket: "rollcall".to_owned(),
                access_key: "a".to_owned(),
                secret_key: "s".to_owned(),
            },
        }
    }

    #[test]
    fn the_ready_file_has_the_promised_shape() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ready.json");
        let file = ReadyFile::prepare(&path).unwrap();
        file.write(&ready()).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let expected = serde_json::json!({
            "http": "http://127.0.0.1:8080",
            "coap": "coap://127.0.0.1:5683",
            "organization": "demo",
            "project_id": 1,
            "api_key": {"id": "i", "secret": "s"},
            "postgres": "postgres://postgres@127.0.0.1/rollcall",
            "s3": {"endpoint": "http://127.0.0.1:9000", "bucket": "rollcall", "access_key": "a", "secret_key": "s"},
        });
        assert_eq!(json, expected);
        ReadyFile::prepare(&path).unwrap();
        assert!(!path.exists(), "one that a killed run has left is removed");
    }

    #[test]
    fn a_file_of_somebody_elses_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("thesis.txt");
        fs::write(&path, "years of work").unwrap();
        assert!(ReadyFile::prepare(&path).is_err() && path.exists());
        assert!(ReadyFile::prepare(&folder.path().join("none/ready.json")).is_err());
    }

    #[test]
    fn an_address_of_all_interfaces_is_reached_on_loopback() {
        for (addr, url) in [
            ("0.0.0.0:80", "http://127.0.0.1:80"),
            ("[::]:80", "http://[::1]:80"),
            ("10.1.2.3:80", "http://10.1.2.3:80"),
        ] {
            assert_eq!(url_of(addr.parse().unwrap()), url);
        }
    }

    #[test]
    fn paths_survive_the_shell() {
        assert_eq!(shell_word("my photo's.jpg"), r"'my photo'\''s.jpg'");
    }
}
