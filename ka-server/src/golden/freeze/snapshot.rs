//! Snapshots of btrfs subvolumes, which do not change while they are read; deleted at the end, or by the next run.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ka_core::stream::ours;
use ka_desc::error::Error;
use ka_desc::run::{Call, Here, Runner};
use rustix::fs::{FlockOperation, flock};
use rustix::mount::{UnmountFlags, unmount};

use crate::golden::private::Private;

/// The directory of our snapshots, at the top of a btrfs. No clone is to have it.
pub const DIRECTORY: &str = ".ka-d-snapshots";

/// The snapshots of one btrfs.
///
/// Each run has a directory of its own, and a lock on it: a directory that can be locked is one of a run that was killed.
#[derive(Debug)]
pub struct Snapshots {
    top: PathBuf,
    own: PathBuf,
    made: Vec<PathBuf>,
    /// For as long as this is open, nobody else tidies up.
    _lock: File,
}

impl Snapshots {
    /// Makes ready for snapshots of the btrfs on `device`, and deletes those that a killed run has left there.
    ///
    /// # Errors
    /// A sentence: the file system cannot be mounted once more, or not be written to.
    pub fn new(private: &Private, name: &str, device: &Path) -> Result<Self, Error> {
        let cannot = |e: String| format!("{} can have no snapshots: {e}", device.display());
        let io = |e: io::Error| cannot(e.to_string());
        let top = private.make(name).map_err(io)?;
        let args = ["-t", "btrfs", "-o", "subvolid=5"].map(str::to_owned).into_iter();
        let mount = Call::new("mount", args.chain([device.display().to_string(), top.display().to_string()]));
        Here.write(&mount).map_err(|e| cannot(e.to_string()))?;
        Self::within(&top).map_err(|e| {
            leave(&top);
            io(e).into()
        })
    }

    fn within(top: &Path) -> io::Result<Self> {
        let directory = top.join(DIRECTORY);
        match DirBuilder::new().mode(0o700).create(&directory) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => ours::check_directory(&directory)?,
        }
        // One run at a time looks what others have left: a directory that was just made has no lock yet.
        let all = File::open(&directory)?;
        flock(&all, FlockOperation::LockExclusive)?;
        for entry in fs::read_dir(&directory)?.flatten() {
            let lock = File::open(entry.path());
            if lock.is_ok_and(|lock| flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok()) {
                delete(&entry.path());
            }
        }
        let only_ours = Permissions::from_mode(0o700);
        let own =
            tempfile::Builder::new().prefix("run-").permissions(only_ours).tempdir_in(&directory)?.keep();
        let lock = File::open(&own)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self { top: top.into(), own, made: Vec::new(), _lock: lock })
    }

    /// Makes a snapshot that cannot be written to, of a subvolume or of what is topmost.
    ///
    /// # Errors
    /// What btrfs said.
    pub fn take(&mut self, subvolume: Option<&str>) -> Result<PathBuf, Error> {
        let to = self.own.join(self.made.len().to_string());
        let from = self.top.join(subvolume.unwrap_or(""));
        let (from, into) = (from.display().to_string(), to.display().to_string());
        let call = Call::new("btrfs", ["subvolume", "snapshot", "-r", &from, &into]);
        Here.write(&call).map_err(|e| e.to_string())?;
        self.made.push(to.clone());
        Ok(to)
    }
}

impl Drop for Snapshots {
    fn drop(&mut self) {
        delete(&self.own);
        // Others may have theirs there.
        let _ = fs::remove_dir(self.top.join(DIRECTORY));
        leave(&self.top);
    }
}

/// Deletes a run's snapshots, and its directory. What cannot be deleted is left for the next run.
fn delete(own: &Path) {
    for entry in fs::read_dir(own).into_iter().flatten().flatten() {
        let _ = Here.write(&Call::new("btrfs", ["subvolume", "delete", &entry.path().display().to_string()]));
    }
    let _ = fs::remove_dir(own);
}

/// The mount goes with the namespace at the latest, and so does its directory.
fn leave(top: &Path) {
    let _ = unmount(top, UnmountFlags::DETACH);
    let _ = fs::remove_dir(top);
}
