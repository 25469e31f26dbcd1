//! The server's identity and its session's key: made, kept and given out in files that nobody else can read.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ka_core::console::key;
use ka_core::console::shell::quoted;
use ka_core::net::{Identity, ServerKey};
use ka_desc::error::Error;
use rustix::process::geteuid;
use zeroize::Zeroizing;

/// More than an identity has.
const FILE_BYTES: u64 = 4096;

/// The settings by which a server lets nodes in.
#[derive(Clone, Debug)]
pub struct Keys {
    /// The file with the server's secret identity, made if there is none; without one each session has a new identity.
    pub identity: Option<PathBuf>,
    /// The file with the nodes' key, which is not printed; without one each session has a new key.
    pub key_file: Option<PathBuf>,
    /// Whether nodes need no key.
    pub insecure: bool,
    /// Whether the payload is encrypted, in a session with a key.
    pub encrypt: bool,
}

impl Default for Keys {
    fn default() -> Self {
        Self { identity: None, key_file: None, insecure: false, encrypt: true }
    }
}

impl Keys {
    /// Whether the payload is encrypted.
    #[must_use]
    pub fn encrypts(&self) -> bool {
        self.encrypt && !self.insecure
    }

    /// Whether the nodes have the key already.
    #[must_use]
    pub fn is_given_out(&self) -> bool {
        self.key_file.is_some()
    }

    /// The files with this server's secrets.
    pub fn secrets(&self) -> impl Iterator<Item = PathBuf> + use<> {
        [self.identity.clone(), self.key_file.clone()].into_iter().flatten()
    }

    /// Whether this goes together, as far as that is known without a look at any file.
    ///
    /// # Errors
    /// In words.
    pub fn check(&self) -> Result<(), Error> {
        match (&self.identity, &self.key_file) {
            (None, Some(file)) if !self.insecure => choose(None, Some(file.clone()), false).map(drop),
            _ => Ok(()),
        }
    }

    /// Returns the key to serve with.
    ///
    /// # Errors
    /// In words, with the path: a file cannot be read or made, is not private, or the two do not belong together.
    pub fn server_key(&self) -> Result<ServerKey, Error> {
        choose(self.identity.clone(), self.key_file.clone(), self.insecure)
    }

    /// Makes a key for the nodes of sessions with this identity, and writes it to the new file at `path`; a sentence says
    /// so.
    ///
    /// # Errors
    /// As for [`server_key`](Self::server_key).
    pub fn make(&self, path: &Path) -> Result<String, Error> {
        match &self.identity {
            Some(_) if self.insecure => {
                Err("a key has no use with --insecure (or KA_INSECURE): leave it out".into())
            }
            Some(identity) => make(identity.clone(), path),
            None => Err(NO_IDENTITY.into()),
        }
    }
}

/// The error of a key that is asked for without an identity.
pub const NO_IDENTITY: &str =
    "a key is made for an identity: name the file where that is, or is to be: --identity ID --make-key KEY";

pub(super) fn make(identity: PathBuf, path: &Path) -> Result<String, Error> {
    let server = choose(Some(identity.clone()), None, false)?;
    let text = server.key().text().ok_or("there is no key without security")?;
    write_new(path, &text).map_err(|e| named(path, &e))?;
    let [identity, key] = [&*identity, path].map(|path| quoted(path.as_os_str()));
    Ok(format!(
        "the key is in {key}: serve with --identity {identity} --key-file {key}, and give {key} to the nodes"
    ))
}

pub(super) fn choose(
    identity: Option<PathBuf>,
    key_file: Option<PathBuf>,
    insecure: bool,
) -> Result<ServerKey, Error> {
    let random = |e: io::Error| Error::from(format!("no random numbers: {e}"));
    match (identity, key_file, insecure) {
        (None, None, true) => ServerKey::insecure().map_err(random),
        (_, _, true) => {
            Err("--insecure (or KA_INSECURE) has no use for --identity or --key-file: leave them out".into())
        }
        (None, Some(file), false) => {
            let file = quoted(file.as_os_str());
            Err(format!(
                "--key-file {file} needs the --identity that this key was made with, too: --identity ID --key-file {file}; \
                 if that is lost, make both anew: --identity ID --make-key KEY"
            ).into())
        }
        (None, None, false) => ServerKey::generate().map_err(random),
        (Some(path), None, false) => ServerKey::of(kept(&path)?).map_err(random),
        (Some(path), Some(file), false) => {
            let key = key::read(&file)?;
            ServerKey::with(kept(&path)?, key).ok_or_else(|| {
                format!(
                    "the key in {0} is not of the identity in {1}: serve with the identity that it was made with, or make \
                     another key: --identity {1} --make-key KEY",
                    file.display(),
                    path.display()
                )
                .into()
            })
        }
    }
}

/// The identity in this file, or a new one that is kept there.
fn kept(path: &Path) -> Result<Identity, Error> {
    match File::open(path) {
        Ok(file) => {
            let about = file.metadata().map_err(|e| named(path, &e))?;
            if about.uid() != geteuid().as_raw() {
                return Err(format!(
                    "{}: another user (number {}) knows this secret: chown it to the user that serves, or make a new one",
                    path.display(),
                    about.uid()
                )
                .into());
            }
            if about.mode() & 0o077 != 0 {
                return Err(format!(
                    "{}: others can read this secret: chmod 600 it, or make a new one",
                    path.display()
                )
                .into());
            }
            let mut text = Zeroizing::new(String::new());
            file.take(FILE_BYTES).read_to_string(&mut text).map_err(|e| named(path, &e))?;
            Identity::parse(&text)
                .ok_or_else(|| format!("{}: this is no server identity", path.display()).into())
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let new = Identity::generate().map_err(|e| format!("no random numbers: {e}"))?;
            write_new(path, &new.text()).map_err(|e| named(path, &e))?;
            Ok(new)
        }
        Err(e) => Err(named(path, &e).into()),
    }
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A new file for its owner only; whole, and on the disk, or not there at all.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let dir = directory(path);
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        file.write_all(b"\n")?;
    }
    file.as_file().sync_all()?;
    file.persist_noclobber(path).map_err(|e| e.error)?;
    File::open(dir)?.sync_all()
}

pub(super) fn named(path: &Path, e: &io::Error) -> String {
    format!("{}: {e}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn an_identity_is_made_once_and_kept_private() {
        let dir = tempfile::tempdir().unwrap();
        let [id, other, key] = ["id", "other", "key"].map(|n| dir.path().join(n));
        let words = make(id.clone(), &key).unwrap();
        assert!(
            words.contains(&format!("--identity {} --key-file {}", id.display(), key.display())),
            "{words}"
        );
        for file in [&id, &key] {
            assert_eq!(fs::metadata(file).unwrap().mode() & 0o777, 0o600);
        }
        let choose = |id: Option<&PathBuf>, key: Option<&PathBuf>, insecure| {
            choose(id.cloned(), key.cloned(), insecure)
        };
        let server = choose(Some(&id), Some(&key), false).unwrap();
        assert_eq!(server.key(), &key::read(&key).unwrap());
        let again = choose(Some(&id), None, false).unwrap();
        assert_eq!(again.identity().public(), server.identity().public());
        assert_ne!(again.key(), server.key());

        let why = |id: Option<&PathBuf>, key: Option<&PathBuf>, insecure| {
            choose(id, key, insecure).unwrap_err().to_string()
        };
        assert!(why(Some(&other), Some(&key), false).contains("is not of the identity in"));
        let lacks = why(None, Some(&key), false);
        let way = format!("--identity ID --key-file {}; if that is lost", key.display());
        assert!(lacks.contains("needs the --identity") && lacks.contains(&way), "{lacks}");
        assert!(why(Some(&id), None, true).contains("has no use for"));
        assert!(why(Some(&key), None, false).contains("no server identity"));
        fs::set_permissions(&id, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(why(Some(&id), None, false).contains("others can read this secret"));
        if geteuid().is_root() {
            std::os::unix::fs::chown(&id, Some(1 << 30), None).unwrap();
            assert!(
                why(Some(&id), None, false).contains("another user (number 1073741824) knows this secret")
            );
        }
        assert!(make(other, &key).unwrap_err().to_string().contains("File exists"));
    }
}
