//! The uses of a disk: mounts, swap, what the kernel has built on it, loop devices.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::mountinfo::{self, Line, unescape};
use super::sysfs::Machine;

/// A use of a disk, or of something on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// The node in use: the disk, a partition of it, or what is built on that.
    pub node: PathBuf,
    /// The kind of use.
    pub how: How,
}

/// The kind of use of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// The device is mounted at this mount point.
    Mounted(PathBuf),
    /// An interrupted run of ours left the device mounted at this mount point.
    Leftover(PathBuf),
    /// The device is swap.
    Swap,
    /// The device is part of an array.
    Array {
        /// The array's node.
        holder: PathBuf,
        /// All of the array lies on this disk.
        wholly: bool,
    },
    /// The device is part of what the device mapper has made: an LVM volume, an open LUKS volume.
    Mapped {
        /// The mapping's node.
        holder: PathBuf,
        /// Its name for dmsetup.
        name: String,
        /// All of it lies on this disk.
        wholly: bool,
    },
    /// Something else of the kernel's is built on the device.
    Held(PathBuf),
    /// A loop device stands for the device, and is itself not in use.
    Loop(PathBuf),
    /// The device is open exclusively: by the kernel, or by a program that formats or checks it.
    Open,
}

/// Below this name, file systems are mounted for a moment to make subvolumes.
pub(crate) const LEFTOVER: &str = "ka-desc-subvolumes-";

/// A new directory to mount something on for a moment. Whoever made it removes it: it is never removed with what is in it.
pub(crate) fn mount_point() -> io::Result<PathBuf> {
    let only_ours = Permissions::from_mode(0o700);
    Ok(tempfile::Builder::new().prefix(LEFTOVER).permissions(only_ours).tempdir()?.keep())
}

/// The uses of the disk at `path`, from the top down: the uses of a device that is built on it come before that device.
pub(crate) fn of(machine: &Machine, path: &Path, name: Option<&str>) -> Vec<Use> {
    let mut look = Look { machine, family: Vec::new(), uses: Vec::new() };
    match name {
        Some(disk) => {
            let own: Vec<String> = std::iter::once(disk.to_owned()).chain(machine.partitions(disk)).collect();
            look.family = own.clone();
            own.iter().for_each(|name| look.device(name));
            // Whoever has a partition for himself alone has the disk, too; so this says something only if nobody is known.
            if look.uses.iter().all(|u| matches!(u.how, How::Loop(_))) {
                look.claims(&own);
            }
        }
        None => look.loops_over(path),
    }
    look.uses
}

struct Look<'a> {
    machine: &'a Machine,
    /// The disk, its partitions, and what lies wholly on them.
    family: Vec<String>,
    uses: Vec<Use>,
}

impl Look<'_> {
    fn device(&mut self, name: &str) {
        let node = self.machine.node(name);
        for holder in self.machine.list(name, "holders") {
            let wholly = self.machine.list(&holder, "slaves").iter().all(|slave| self.family.contains(slave));
            if wholly && !self.family.contains(&holder) {
                self.family.push(holder.clone());
            }
            let at = self.machine.node(&holder);
            // A mapping or an array with several partitions of this disk is met several times.
            let known = self.uses.iter().any(|u| u.how.holder() == Some(&at));
            if !known {
                self.device(&holder);
                let how = self.held(&holder, at, wholly);
                self.uses.push(Use { node: node.clone(), how });
            }
        }
        self.loops_over(&node);
        for (source, target) in self.mounts(name) {
            let leftover = target.file_name().is_some_and(|n| n.to_string_lossy().starts_with(LEFTOVER));
            let how = if leftover { How::Leftover(target) } else { How::Mounted(target) };
            self.uses.push(Use { node: source, how });
        }
        let swaps = self.machine.file("proc/swaps").unwrap_or_default();
        let swap = |line: &str| {
            let path = unescape(line.split_whitespace().next().unwrap_or(""));
            self.machine.name_of(&path).as_deref() == Some(name) || path == node
        };
        if swaps.lines().skip(1).any(swap) {
            self.uses.push(Use { node: node.clone(), how: How::Swap });
        }
    }

    /// The kernel's own last word; it knows of uses that no file tells of.
    fn claims(&mut self, names: &[String]) {
        // A partition's says more than that of its disk, which comes first.
        let mut nodes = names.iter().rev().map(|name| self.machine.node(name));
        if let Some(node) = nodes.find(|node| self.machine.is_real() && is_claimed(node)) {
            self.uses.push(Use { node, how: How::Open });
        }
    }

    fn held(&self, holder: &str, at: PathBuf, wholly: bool) -> How {
        match self.machine.line(holder, "dm/name") {
            Some(name) => How::Mapped { holder: at, name, wholly },
            None if holder.starts_with("md") => How::Array { holder: at, wholly },
            None => How::Held(at),
        }
    }

    /// Adds the loop devices whose contents are at `path`, and their uses.
    fn loops_over(&mut self, path: &Path) {
        for name in self.machine.list("", "").into_iter().filter(|name| name.starts_with("loop")) {
            if !self.is_over(&name, path) {
                continue;
            }
            let before = self.uses.len();
            let own: Vec<String> =
                std::iter::once(name.clone()).chain(self.machine.partitions(&name)).collect();
            own.iter().for_each(|name| self.device(name));
            if self.uses.len() == before {
                self.claims(&own);
            }
            if !self.is_over(&name, path) {
                // It went while we looked, and may be somebody else's by now.
                self.uses.truncate(before);
            } else if self.uses[before..].iter().all(|u| matches!(u.how, How::Leftover(_) | How::Loop(_))) {
                self.uses.push(Use { node: path.into(), how: How::Loop(self.machine.node(&name)) });
            }
        }
    }

    /// Whether a loop device's contents are at `path`.
    fn is_over(&self, name: &str, path: &Path) -> bool {
        self.machine.line(name, "loop/backing_file").is_some_and(|file| Path::new(&file) == path)
    }

    /// The mounts of a device: for each, the device's node and the mount point.
    fn mounts(&self, name: &str) -> Vec<(PathBuf, PathBuf)> {
        let number = self.machine.line(name, "dev");
        let table = self.machine.mountinfo().unwrap_or_default();
        // btrfs has a number of its own, and others may have another name.
        let ours = |line: &Line| {
            number.as_deref() == Some(line.number.as_str())
                || line.source == self.machine.node(name)
                || self.machine.name_of(&line.source).as_deref() == Some(name)
        };
        mountinfo::lines(&table).filter(ours).map(|line| (self.machine.node(name), line.at)).collect()
    }
}

impl How {
    fn holder(&self) -> Option<&PathBuf> {
        match self {
            Self::Array { holder, .. } | Self::Mapped { holder, .. } | Self::Held(holder) => Some(holder),
            _ => None,
        }
    }
}

/// Whether the kernel refuses to open it for us alone.
fn is_claimed(node: &Path) -> bool {
    let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NONBLOCK;
    matches!(rustix::fs::open(node, flags, Mode::empty()), Err(Errno::BUSY))
}
