//! The golden node's files as they are read: each file system once more, in one tree, without what is mounted over it.
//!
//! ```text
//! the golden node          /run/ka/still/root, in our namespace alone, read-only
//! / ext4                   / ext4, with the directories that /dev, /proc and /tmp hide
//! ├── dev devtmpfs         ├── dev   an empty directory, or what is really in it
//! ├── home @home           ├── home  a snapshot of @home, if it is a btrfs
//! └── tmp tmpfs            └── tmp
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount_bind, mount_change, mount_remount, unmount,
};
use serde::Serialize;

use super::quiesce::Quiesced;
use super::snapshot::Snapshots;
use crate::golden::facts::Mount;
use crate::golden::private::Private;
use ka_desc::error::Error;

/// The stillness of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The files are in a snapshot.
    Snapshot,
    /// Nobody can write to it.
    Unwritable,
    /// The file system changes while it is read.
    Changing,
}

impl State {
    /// For the report.
    #[must_use]
    pub fn says(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Unwritable => "read-only file system",
            Self::Changing => "crash-consistent copy of a running system",
        }
    }
}

/// The files, for as long as this lives. Dropped, it leaves nothing behind; killed, it leaves snapshots, which the next run
/// deletes.
#[derive(Debug)]
pub struct Still {
    root: PathBuf,
    states: Vec<(PathBuf, State)>,
    /// The reasons why some of this could not be had, as sentences.
    warnings: Vec<String>,
    // Dropped in this order: a snapshot goes when nothing shows it, and services wake when nothing reads them.
    bound: Bound,
    snapshots: Vec<(PathBuf, Snapshots)>,
    quiesced: Option<Quiesced>,
}

impl Still {
    /// Holds the files of these mounts, which come in the order of a [`Planned`](crate::golden::plan::make::Planned). `quiesced` is told
    /// to go on as soon as all that changes is a snapshot, and at the end otherwise.
    ///
    /// # Errors
    /// A sentence: a file system cannot be mounted once more.
    pub fn hold(private: &Private, mounts: &[&Mount], quiesced: Quiesced) -> Result<Self, Error> {
        for mount in mounts {
            // Hours may have passed since it was looked at.
            if fs::metadata(&mount.here).map(|meta| meta.dev()).ok() != mount.device {
                return Err(format!(
                    "{} is not what was mounted there when the golden node was looked at: mount it again, and start anew",
                    mount.at.display()
                ).into());
            }
        }
        let root = private.make("root").map_err(|e| format!("the golden node's files: {e}"))?;
        let mut still = Self {
            bound: Bound { root: root.clone(), mounts: Vec::new() },
            root,
            states: Vec::new(),
            warnings: Vec::new(),
            snapshots: Vec::new(),
            quiesced: Some(quiesced),
        };
        // All snapshots are taken before anything else is done, so that they are as near to each other as can be.
        let from: Vec<PathBuf> = mounts.iter().map(|mount| still.source(private, mount)).collect();
        let changes = still.states.iter().any(|(_, state)| *state == State::Changing);
        if let Some(Err(why)) = still.quiesced.take_if(|_| !changes).map(Quiesced::resume) {
            still.warnings.push(why.to_string());
        }
        for (mount, from) in mounts.iter().zip(from) {
            still.bound.bind(&from, &mount.at)?;
        }
        Ok(still)
    }

    /// Returns the directory of the tree, from which tar packs.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the stillness of each file system.
    #[must_use]
    pub fn states(&self) -> &[(PathBuf, State)] {
        &self.states
    }

    /// Returns what could not be had, as sentences.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Lets them go, and says how `--resume` went.
    ///
    /// # Errors
    /// As for [`Quiesced::resume`].
    pub fn release(mut self) -> Result<(), Error> {
        self.quiesced.take().map_or(Ok(()), Quiesced::resume)
    }

    /// Returns the directory of a mount's files: in a snapshot, or where they are anyway.
    fn source(&mut self, private: &Private, mount: &Mount) -> PathBuf {
        let (from, state) = match mount.fs.as_str() {
            _ if !mount.writable => (None, State::Unwritable),
            "btrfs" => match self.snapshot(private, mount) {
                Ok(path) => (Some(path), State::Snapshot),
                Err(why) => {
                    self.warnings.push(format!("{} is read as it changes: {why}", mount.at.display()));
                    (None, State::Changing)
                }
            },
            _ => (None, State::Changing),
        };
        self.states.push((mount.at.clone(), state));
        from.unwrap_or_else(|| mount.here.clone())
    }

    fn snapshot(&mut self, private: &Private, mount: &Mount) -> Result<PathBuf, Error> {
        let known = self.snapshots.iter().position(|(device, _)| *device == mount.source);
        let at = match known {
            Some(at) => at,
            None => {
                let name = format!("btrfs-{}", self.snapshots.len());
                let made = Snapshots::new(private, &name, &mount.source)?;
                self.snapshots.push((mount.source.clone(), made));
                self.snapshots.len() - 1
            }
        };
        self.snapshots[at].1.take(mount.subvolume.as_deref())
    }
}

/// Deletes the snapshots that a killed run has left on the file systems of these mounts.
pub fn tidy(private: &Private, mounts: &[&Mount]) {
    let btrfs = mounts.iter().filter(|mount| mount.writable && mount.fs == "btrfs");
    let devices: BTreeSet<&PathBuf> = btrfs.map(|mount| &mount.source).collect();
    for (number, device) in devices.into_iter().enumerate() {
        // Whoever makes ready for new ones does that. What cannot be done now is said when they are needed.
        drop(Snapshots::new(private, &format!("tidy-{number}"), device));
    }
}

/// Tries whether each of these mounts, which come in the order of a plan, finds its place in the tree, without any
/// snapshot.
///
/// # Errors
/// A sentence: a mount is below one that is not cloned, so its directory is not there.
pub fn places(private: &Private, mounts: &[&Mount]) -> Result<(), Error> {
    let root = private.make("places").map_err(|e| format!("the golden node's files: {e}"))?;
    let mut bound = Bound { root, mounts: Vec::new() };
    mounts.iter().try_for_each(|mount| bound.bind(&mount.here, &mount.at))
}

/// The mounts in the tree.
#[derive(Debug)]
struct Bound {
    root: PathBuf,
    mounts: Vec<PathBuf>,
}

impl Bound {
    /// Shows at `at`, below our root, what is at `from`, without what is mounted below that.
    fn bind(&mut self, from: &Path, at: &Path) -> Result<(), Error> {
        let to = self.root.join(at.strip_prefix("/").unwrap_or(at));
        let cannot = |e: rustix::io::Errno| format!("{} cannot be mounted once more: {e}", at.display());
        if fs::symlink_metadata(&to).is_ok_and(|meta| meta.is_symlink()) {
            return Err(format!("{} is a symbolic link in the file system below it", at.display()).into());
        }
        mount_bind(from, &to).map_err(cannot)?;
        self.mounts.push(to.clone());
        // What the golden node mounts from now on belongs over its own files, not over these.
        mount_change(&to, MountPropagationFlags::PRIVATE).map_err(cannot)?;
        mount_remount(&to, MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOATIME, c"")
            .map_err(cannot)?;
        Ok(())
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        for at in self.mounts.drain(..).rev() {
            // What still reads keeps what it has open.
            let _ = unmount(&at, UnmountFlags::DETACH);
        }
        let _ = fs::remove_dir(&self.root);
    }
}
