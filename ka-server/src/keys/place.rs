//! The directory with the key of this machine's clones, which `ka-d rescue` puts into boot entries and `ka-d clone` serves
//! with. Whichever comes first makes it. The directory is never cloned, and only root can read it.

use std::fs::{self, DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use ka_desc::error::Error;
use ka_desc::manifest::OWN;
use rustix::process::geteuid;

use super::server::{make, named};

/// The way out where such a directory cannot be had.
const ELSEWHERE: &str = "to keep a key elsewhere: ka-d-server --identity ID --make-key KEY, then --key-file KEY (ka-d clone: \
                         --identity ID, too)";

/// Another process may make the same at the same time, and be faster at each of the two files.
const TRIES: u32 = 3;

/// A directory with an identity and a key for it.
#[derive(Clone, Debug)]
pub struct Place(PathBuf);

impl Place {
    /// The one of this machine.
    #[must_use]
    pub fn own() -> Self {
        Self(OWN.into())
    }

    /// Whether this process may use it: a session of clones is root's.
    #[must_use]
    pub fn is_ours() -> bool {
        geteuid().is_root()
    }

    /// The server's identity.
    #[must_use]
    pub fn identity(&self) -> PathBuf {
        self.0.join("identity")
    }

    /// The nodes' key.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.0.join("key")
    }

    /// Makes what is missing, and makes sure that nobody else can read it.
    ///
    /// # Errors
    /// In words, with the way out: it cannot be made, others can read it, or a part of it is gone.
    pub fn ready(&self) -> Result<(), Error> {
        let dir = &self.0;
        match DirBuilder::new().mode(0o700).create(dir) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                return Err(
                    format!("the nodes' key cannot be kept in {}: {e}; {ELSEWHERE}", dir.display()).into()
                );
            }
            _ => {}
        }
        // What a link leads to may be cloned.
        if fs::canonicalize(dir).map_err(|e| named(dir, &e))? != *dir {
            return Err(format!(
                "{} is reached by a symbolic link, and what is behind it may be cloned; {ELSEWHERE}",
                dir.display()
            )
            .into());
        }
        private(dir)?;
        let (identity, key) = (self.identity(), self.key());
        let exists = |path: &Path| fs::symlink_metadata(path).is_ok();
        if exists(&key) && !exists(&identity) {
            return Err(format!(
                "{} is of no use without {}, which is gone: remove it, and make the boot entries anew",
                key.display(),
                identity.display()
            )
            .into());
        }
        let mut failed = None;
        for _ in 0..TRIES {
            if exists(&key) {
                return private(&key);
            }
            failed = make(identity.clone(), &key).err();
        }
        private(&key).map_err(|why| failed.unwrap_or(why))
    }
}

/// Whether a file or directory is ours, and nobody else's to read.
fn private(path: &Path) -> Result<(), Error> {
    let about: Metadata = fs::symlink_metadata(path).map_err(|e| named(path, &e))?;
    if about.is_symlink() || about.uid() != geteuid().as_raw() || about.mode() & 0o077 != 0 {
        let mode = if about.is_dir() { "700" } else { "600" };
        return Err(format!(
            "{}: others can read the nodes' key, or change it: chown and chmod it to root and {mode}, or remove it and \
             make the boot entries anew",
            path.display()
        ).into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::server::choose;
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn place() -> (tempfile::TempDir, Place) {
        let dir = tempfile::tempdir().unwrap();
        let place = Place(fs::canonicalize(dir.path()).unwrap().join("ka"));
        (dir, place)
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn whoever_comes_first_makes_the_key_and_all_have_the_same() {
        let (_dir, place) = place();
        std::thread::scope(|s| {
            let all: Vec<_> = (0..8).map(|_| s.spawn(|| place.ready())).collect();
            assert!(all.into_iter().all(|one| one.join().unwrap().is_ok()));
        });
        assert_eq!([mode(&place.0), mode(&place.identity()), mode(&place.key())], [0o700, 0o600, 0o600]);
        let key = fs::read(place.key()).unwrap();
        place.ready().unwrap();
        assert_eq!(fs::read(place.key()).unwrap(), key);
        choose(Some(place.identity()), Some(place.key()), false).unwrap();
        // A new one is made by removing the old one.
        fs::remove_file(place.key()).unwrap();
        place.ready().unwrap();
        assert_ne!(fs::read(place.key()).unwrap(), key);
    }

    #[test]
    fn a_place_that_others_reach_is_refused_with_the_way_out() {
        let (dir, place) = place();
        let said = || place.ready().unwrap_err().to_string();
        place.ready().unwrap();
        for path in [&place.0, &place.key()] {
            let was = fs::metadata(path).unwrap().permissions();
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
            assert!(said().contains("others can read the nodes' key"), "{}", said());
            fs::set_permissions(path, was).unwrap();
        }
        fs::remove_file(place.identity()).unwrap();
        assert!(said().contains("which is gone"), "{}", said());
        fs::rename(&place.0, dir.path().join("else")).unwrap();
        symlink("else", &place.0).unwrap();
        assert!(said().contains("by a symbolic link") && said().contains("--key-file KEY"), "{}", said());
        fs::remove_file(&place.0).unwrap();
        fs::remove_dir_all(dir.path().join("else")).unwrap();
        fs::write(&place.0, "").unwrap();
        assert!(place.ready().is_err(), "a file");
        let place = Place(dir.path().join("no/such"));
        assert!(place.ready().unwrap_err().to_string().contains("cannot be kept in"));
    }
}
