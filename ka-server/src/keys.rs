//! The server's identity and its session's key: made, kept and given out in files that nobody else can read.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use clap::Args;
use ka_client::console::key::{self, InsecureArgs};
use ka_core::net::{Identity, ServerKey};
use zeroize::Zeroizing;

/// More than an identity has.
const FILE_BYTES: u64 = 4096;

/// What this server lets nodes in by.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Security")]
pub struct KeyArgs {
    /// Keep this server's secret identity in FILE, which is made if there is none; otherwise each session has a new one
    #[arg(long, value_name = "FILE", env = "KA_IDENTITY")]
    identity: Option<PathBuf>,

    /// The nodes' key is the one in FILE, made before by --make-key, and is not printed; otherwise each session has a
    /// new one
    #[arg(long, value_name = "FILE", env = "KA_KEY_FILE")]
    key_file: Option<PathBuf>,

    /// Make a key for the nodes of sessions with this --identity, write it to the new file FILE, and serve nothing
    #[arg(long, value_name = "FILE", requires = "identity", conflicts_with = "key_file")]
    pub make_key: Option<PathBuf>,

    #[command(flatten)]
    insecure: InsecureArgs,
}

impl KeyArgs {
    /// Whether nodes need no key.
    #[must_use]
    pub fn is_insecure(&self) -> bool {
        self.insecure.insecure
    }

    /// Whether the nodes have the key already.
    #[must_use]
    pub fn is_given_out(&self) -> bool {
        self.key_file.is_some()
    }

    /// What to serve with.
    ///
    /// # Errors
    /// In words, with the path: a file cannot be read or made, is not private, or the two do not belong together.
    pub fn server_key(&self) -> Result<ServerKey, String> {
        let random = |e: io::Error| format!("no random numbers: {e}");
        match (&self.identity, &self.key_file, self.insecure.insecure) {
            (None, None, true) => ServerKey::insecure().map_err(random),
            (_, _, true) => {
                Err("--insecure (or KA_INSECURE) has no use for --identity or --key-file: leave them out"
                    .into())
            }
            (None, Some(_), false) => {
                Err("a key made before needs the --identity that it was made with, too".into())
            }
            (None, None, false) => ServerKey::generate().map_err(random),
            (Some(path), None, false) => ServerKey::of(identity(path)?).map_err(random),
            (Some(path), Some(file), false) => {
                let key = key::read(file)?;
                ServerKey::with(identity(path)?, key).ok_or_else(|| {
                    format!(
                        "the key in {} is not of the identity in {}: make one with --make-key",
                        file.display(),
                        path.display()
                    )
                })
            }
        }
    }

    /// `--make-key`: writes the key; says so in words.
    ///
    /// # Errors
    /// As for [`server_key`](Self::server_key).
    pub fn make(&self, path: &Path) -> Result<String, String> {
        let server = self.server_key()?;
        let text = server.key().text().ok_or("there is no key without security")?;
        write_new(path, &text).map_err(|e| named(path, &e))?;
        Ok(format!("the key is in {}: serve with --key-file, and give the file to the nodes", path.display()))
    }
}

/// The identity in this file, or a new one that is kept there.
fn identity(path: &Path) -> Result<Identity, String> {
    match File::open(path) {
        Ok(file) => {
            let private = file.metadata().map_err(|e| named(path, &e))?.mode() & 0o077 == 0;
            if !private {
                return Err(format!(
                    "{}: others can read this secret: chmod 600 it, or make a new one",
                    path.display()
                ));
            }
            let mut text = Zeroizing::new(String::new());
            file.take(FILE_BYTES).read_to_string(&mut text).map_err(|e| named(path, &e))?;
            Identity::parse(&text).ok_or_else(|| format!("{}: this is no server identity", path.display()))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let new = Identity::generate().map_err(|e| format!("no random numbers: {e}"))?;
            write_new(path, &new.text()).map_err(|e| named(path, &e))?;
            Ok(new)
        }
        Err(e) => Err(named(path, &e)),
    }
}

/// A new file for its owner only, on the disk when this returns.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        file.write_all(b"\n")?;
    }
    file.sync_all()
}

fn named(path: &Path, e: &io::Error) -> String {
    format!("{}: {e}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn args(identity: Option<&Path>, key_file: Option<&Path>, insecure: bool) -> KeyArgs {
        KeyArgs {
            identity: identity.map(Into::into),
            key_file: key_file.map(Into::into),
            make_key: None,
            insecure: InsecureArgs { insecure },
        }
    }

    #[test]
    fn an_identity_is_made_once_and_kept_private() {
        let dir = tempfile::tempdir().unwrap();
        let [id, other, key] = ["id", "other", "key"].map(|n| dir.path().join(n));
        args(Some(&id), None, false).make(&key).unwrap();
        for file in [&id, &key] {
            assert_eq!(fs::metadata(file).unwrap().mode() & 0o777, 0o600);
        }
        let server = args(Some(&id), Some(&key), false).server_key().unwrap();
        assert_eq!(server.key(), &key::read(&key).unwrap());
        let again = args(Some(&id), None, false).server_key().unwrap();
        assert_eq!(again.identity().public(), server.identity().public());
        assert_ne!(again.key(), server.key());

        let why = |a: KeyArgs| a.server_key().unwrap_err();
        assert!(why(args(Some(&other), Some(&key), false)).contains("is not of the identity in"));
        assert!(why(args(None, Some(&key), false)).contains("needs the --identity"));
        assert!(why(args(Some(&id), None, true)).contains("has no use for"));
        assert!(why(args(Some(&key), None, false)).contains("no server identity"));
        fs::set_permissions(&id, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(why(args(Some(&id), None, false)).contains("others can read this secret"));
        assert!(args(Some(&other), None, false).make(&key).unwrap_err().contains("File exists"));
    }
}
