//! A mount namespace of our own: what is mounted in it is seen by nobody else, and goes when we do, however that is.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use ka_desc::error::Error;
use ka_desc::private;
use rustix::mount::{MountFlags, mount};

/// The directory of what belongs to a running `ka-d`; it is gone after the next boot.
pub const RUN: &str = "/run/ka";

/// That this thread, and whatever it starts, is in such a namespace.
#[derive(Debug)]
pub struct Private {
    dir: PathBuf,
}

impl Private {
    /// Moves this thread into a mount namespace of its own. A program does that before it starts other threads, which
    /// would stay outside; its children are inside.
    ///
    /// # Errors
    /// A sentence: this needs root.
    pub fn enter() -> Result<Self, Error> {
        let dir = Path::new(RUN).join("still");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(|e| format!("{}: {e}: the golden node is cloned by root", dir.display()))?;
        let inside = || -> io::Result<()> {
            private::enter()?;
            // Directories for mounts are made in memory, and go with it; the one below it stays, empty.
            mount("ka-d", &dir, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"mode=0700,size=1m")?;
            Ok(())
        };
        inside().map_err(|e| {
            format!("no mount namespace is to be had ({e}): the golden node is cloned by root")
        })?;
        Ok(Self { dir })
    }

    /// A new directory in memory.
    ///
    /// # Errors
    /// It is there already.
    pub(super) fn make(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.dir.join(name);
        fs::create_dir(&path)?;
        Ok(path)
    }
}
