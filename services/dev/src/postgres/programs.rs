//! Finding Postgres's programs where distributions put them, off PATH included.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

/// The oldest major version that the schema runs on.
const OLDEST: u32 = 15;

/// Folders with one folder per version inside: Debian and Ubuntu, Fedora and its kin, Homebrew.
const VERSIONED: [(&str, &str, &str); 5] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/opt/homebrew/opt", "postgresql@", "bin"),
    ("/usr/local/opt", "postgresql@", "bin"),
    ("/home/linuxbrew/.linuxbrew/opt", "postgresql@", "bin"),
];

/// One installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Programs {
    bin: PathBuf,
    pub(crate) major: u32,
    /// As Postgres says it: `15.18`, `18beta1`.
    pub(crate) version: String,
}

impl Programs {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }
}

/// The installation for a cluster that version `made_by` made, or, where there is none yet, the first that is new
/// enough. `asked` is the only folder looked at when given.
pub(crate) fn choose(asked: Option<&Path>, made_by: Option<u32>, data: &Path) -> Result<Programs> {
    let folders = match asked {
        Some(folder) => vec![folder.to_owned()],
        None => {
            // No setting of ours: where programs are looked for.
            let path = std::env::var_os("PATH").unwrap_or_default();
            candidates(std::env::split_paths(&path), Path::new("/"))
        }
    };
    let found: Vec<_> = folders
        .iter()
        .filter_map(|folder| inspect(folder))
        .collect();
    if let Some(folder) = asked
        && found.is_empty()
    {
        bail!(
            "{} does not hold Postgres's programs initdb and postgres (--postgres-bin)",
            folder.display()
        );
    }
    pick(found, made_by, data)
}

fn pick(found: Vec<Programs>, made_by: Option<u32>, data: &Path) -> Result<Programs> {
    let here = found
        .iter()
        .map(|p| format!("{} in {}", p.version, p.bin.display()))
        .collect::<Vec<_>>()
        .join(", ");
    let fits = |p: &Programs| made_by.map_or(p.major >= OLDEST, |major| p.major == major);
    if let Some(programs) = found.into_iter().find(fits) {
        return Ok(programs);
    }
    if here.is_empty() {
        bail!(
            "Postgres is not installed: no folder of PATH and none of the usual places has its programs initdb and postgres. \
             Run `make setup`, which installs them, or name a running server with --database-url."
        );
    }
    match made_by {
        Some(major) => bail!(
            "the cluster in {} was made by Postgres {major}, and this machine has Postgres {here}. Nothing was touched. \
             Install Postgres {major}, or choose another folder with --data-dir.",
            data.display()
        ),
        None => bail!(
            "Rollcall needs Postgres {OLDEST} or newer, and this machine has Postgres {here}. Install a newer one, or name a \
             running server with --database-url."
        ),
    }
}

/// Folders worth a look, in order: PATH, then versioned folders below `root`, newest version first.
fn candidates(path: impl Iterator<Item = PathBuf>, root: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<_> = path.filter(|folder| folder.is_absolute()).collect();
    for (parent, prefix, bin) in VERSIONED {
        let parent = root.join(parent.trim_start_matches('/'));
        let Ok(entries) = std::fs::read_dir(&parent) else {
            continue;
        };
        let mut versions: Vec<(u32, PathBuf)> = entries
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name();
                let version = name.to_str()?.strip_prefix(prefix)?.parse().ok()?;
                Some((version, entry.path().join(bin)))
            })
            .collect();
        versions.sort_by(|one, other| other.cmp(one));
        folders.extend(versions.into_iter().map(|(_, folder)| folder));
    }
    folders
}

fn inspect(bin: &Path) -> Option<Programs> {
    // A client-only installation has `psql` but not these two.
    if !["initdb", "postgres"]
        .iter()
        .all(|name| bin.join(name).is_file())
    {
        return None;
    }
    let output = Command::new(bin.join("postgres"))
        .arg("--version")
        .output()
        .ok()?;
    let (major, version) = parse_version(std::str::from_utf8(&output.stdout).ok()?)?;
    Some(Programs {
        bin: bin.to_owned(),
        major,
        version,
    })
}

/// `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)` is `(15, "15.18")`.
fn parse_version(line: &str) -> Option<(u32, String)> {
    let version = line
        .split_once("(PostgreSQL) ")?
        .1
        .split_whitespace()
        .next()?;
    let digits = version
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(version.len());
    Some((version[..digits].parse().ok()?, version.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn programs(version: &str) -> Programs {
        let (major, version) =
            parse_version(&format!("postgres (PostgreSQL) {version}\n")).unwrap();
        Programs {
            bin: PathBuf::from(format!("/pg/{major}")),
            major,
            version,
        }
    }

    #[test]
    fn versions_of_all_shapes_are_read() {
        for (line, major, version) in [
            (
                "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n",
                15,
                "15.18",
            ),
            ("postgres (PostgreSQL) 18beta1\n", 18, "18beta1"),
            ("postgres (PostgreSQL) 19devel\n", 19, "19devel"),
            ("postgres (PostgreSQL) 9.6.24\n", 9, "9.6.24"),
        ] {
            assert_eq!(
                parse_version(line),
                Some((major, version.to_owned())),
                "{line}"
            );
        }
        for rubbish in [
            "",
            "postgres",
            "postgres (PostgreSQL) ",
            "postgres (PostgreSQL) x",
            "mysqld  Ver 8.0",
        ] {
            assert_eq!(parse_version(rubbish), None, "{rubbish:?}");
        }
    }

    #[test]
    fn path_comes_first_then_the_newest_version() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["9.6", "15", "17", "common"] {
            fs::create_dir_all(root.path().join("usr/lib/postgresql").join(folder)).unwrap();
        }
        fs::create_dir_all(root.path().join("opt/homebrew/opt/postgresql@16")).unwrap();
        let path = ["/a/bin", "relative"].map(PathBuf::from).into_iter();
        let found = candidates(path, root.path());
        let shown: Vec<_> = found
            .iter()
            .map(|f| f.strip_prefix(root.path()).unwrap_or(f).to_str().unwrap())
            .collect();
        assert_eq!(
            shown,
            [
                "/a/bin",
                "usr/lib/postgresql/17/bin",
                "usr/lib/postgresql/15/bin",
                "opt/homebrew/opt/postgresql@16/bin"
            ]
        );
    }

    #[test]
    fn a_folder_counts_when_it_has_the_servers_programs() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        };
        write("postgres", "#!/bin/sh\necho 'postgres (PostgreSQL) 16.4'\n");
        assert_eq!(inspect(folder.path()), None, "initdb is missing");
        write("initdb", "#!/bin/sh\n");
        let found = inspect(folder.path()).unwrap();
        assert_eq!(
            (found.major, found.path("initdb")),
            (16, folder.path().join("initdb"))
        );
    }

    #[test]
    fn a_new_cluster_takes_the_first_that_is_new_enough() {
        let found = vec![programs("13.1"), programs("17.2"), programs("16.1")];
        assert_eq!(pick(found, None, Path::new("/d")).unwrap().major, 17);
    }

    #[test]
    fn an_old_cluster_takes_the_version_that_made_it() {
        let found = vec![programs("17.2"), programs("15.18")];
        assert_eq!(
            pick(found.clone(), Some(15), Path::new("/d"))
                .unwrap()
                .major,
            15
        );
        let error = pick(found, Some(16), Path::new("/d"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("Install Postgres 16") && error.contains("--data-dir"),
            "{error}"
        );
    }

    #[test]
    fn what_is_missing_is_said_with_the_command_that_helps() {
        let none = pick(vec![], None, Path::new("/d")).unwrap_err().to_string();
        assert!(none.contains("make setup"), "{none}");
        let old = pick(vec![programs("13.1")], None, Path::new("/d"))
            .unwrap_err()
            .to_string();
        assert!(
            old.contains("15 or newer") && old.contains("13.1 in /pg/13"),
            "{old}"
        );
    }
}
