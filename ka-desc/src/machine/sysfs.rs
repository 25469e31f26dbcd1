//! A machine as its kernel tells of it, in `/sys` and `/proc`.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use super::mountinfo;
use crate::layout::Geometry;

/// The machine whose disks are looked at.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The directory with the machine's `/sys`, `/proc` and `/dev`; `/` except in tests.
    root: PathBuf,
}

impl Default for Machine {
    fn default() -> Self {
        Self { root: "/".into() }
    }
}

impl Machine {
    /// A machine whose `/sys`, `/proc` and `/dev` are below `root`: for tests.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        Self { root: root.into() }
    }

    /// The disks of this machine that could be meant when none is named: those with a size that do not live in memory
    /// and stand for no other device.
    ///
    /// # Errors
    /// There is no `/sys`.
    pub fn disks(&self) -> io::Result<Vec<PathBuf>> {
        let mut disks = Vec::new();
        for entry in fs::read_dir(self.root.join("sys/class/block"))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let virtual_ =
                ["loop", "ram", "zram", "dm-", "md", "sr", "fd", "nbd"].iter().any(|p| name.starts_with(p));
            let whole = !self.block(&name).join("partition").exists();
            if whole && !virtual_ && self.geometry(&name).is_ok_and(|g| g.disk_bytes > 0) {
                disks.push(self.node(&name));
            }
        }
        disks.sort();
        Ok(disks)
    }

    /// Reads the mount table of this thread, as in proc(5). A thread may have a mount namespace of its own.
    ///
    /// # Errors
    /// There is no `/proc`.
    pub fn mountinfo(&self) -> io::Result<String> {
        self.file("proc/thread-self/mountinfo")
    }

    /// The mount points at `dir` and below it, in the order in which they were mounted.
    ///
    /// # Errors
    /// There is no `/proc`.
    pub(crate) fn mounted_below(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let table = self.mountinfo()?;
        Ok(mountinfo::lines(&table).map(|line| line.at).filter(|at| at.starts_with(dir)).collect())
    }

    /// The path, below the root, of the file that this machine has at `path`.
    #[must_use]
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The file of `/proc` or `/sys` at `path`.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn file(&self, path: &str) -> io::Result<String> {
        fs::read_to_string(self.path(path))
    }

    /// The kernel's directory of a block device.
    #[must_use]
    pub fn block(&self, name: &str) -> PathBuf {
        self.root.join("sys/class/block").join(name)
    }

    /// The node of a block device.
    #[must_use]
    pub fn node(&self, name: &str) -> PathBuf {
        self.root.join("dev").join(name)
    }

    /// One line of what the kernel tells of a block device.
    #[must_use]
    pub fn line(&self, name: &str, what: &str) -> Option<String> {
        fs::read_to_string(self.block(name).join(what)).ok().map(|text| text.trim().to_owned())
    }

    /// The names of what is in a directory of a block device.
    #[must_use]
    pub fn list(&self, name: &str, what: &str) -> Vec<String> {
        let entries = fs::read_dir(self.block(name).join(what)).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// The partitions of a disk that have nodes.
    #[must_use]
    pub fn partitions(&self, name: &str) -> Vec<String> {
        let all = self.list(name, "");
        all.into_iter().filter(|part| self.block(name).join(part).join("partition").exists()).collect()
    }

    /// The number of a partition.
    #[must_use]
    pub fn partition_number(&self, name: &str) -> Option<u32> {
        self.line(name, "partition")?.parse().ok()
    }

    /// The kernel's name for what is at `path`, if it is a block device of this machine.
    #[must_use]
    pub fn name_of(&self, path: &Path) -> Option<String> {
        let path = fs::canonicalize(path).ok()?;
        let name = path.file_name()?.to_string_lossy().into_owned();
        let real = fs::metadata(&path).ok()?.file_type().is_block_device();
        let stands_for_one = self.root != Path::new("/") && path.starts_with(self.root.join("dev"));
        ((real || stands_for_one) && self.block(&name).exists()).then_some(name)
    }

    /// Whether nodes here are those of the running kernel.
    pub(crate) fn is_real(&self) -> bool {
        self.root == Path::new("/")
    }

    /// The disk that a partition is on, by the kernel's names for them.
    #[must_use]
    pub fn disk_of(&self, partition: &str) -> Option<String> {
        let real = fs::canonicalize(self.block(partition)).ok()?;
        Some(real.parent()?.file_name()?.to_string_lossy().into_owned())
    }

    pub(super) fn geometry(&self, name: &str) -> io::Result<Geometry> {
        let missing = |what: &str| {
            let path = self.block(name).join(what);
            io::Error::new(io::ErrorKind::InvalidData, format!("{} says nothing", path.display()))
        };
        let number = |what: &str| {
            self.line(name, what).and_then(|text| text.parse().ok()).ok_or_else(|| missing(what))
        };
        // `size` counts by 512 bytes, whatever the sectors are.
        let disk_bytes: u64 = number("size")?;
        let sector_bytes = number("queue/logical_block_size")?;
        Ok(Geometry { disk_bytes: disk_bytes.saturating_mul(512), sector_bytes: sector_bytes as u32 })
    }

    /// The identifiers of a disk: from the kernel's files, and from udev's, if there is one.
    pub(super) fn identity(&self, name: &str, files: &[&str], udev: &[&str]) -> Vec<String> {
        let read = |file: &&str| {
            let bytes = fs::read(self.block(name).join(file)).ok()?;
            // A page of vital product data has a header of four bytes.
            let bytes = if file.ends_with("vpd_pg80") { bytes.get(4..)? } else { &bytes[..] };
            Some(
                String::from_utf8_lossy(bytes)
                    .trim_matches(|c: char| c.is_whitespace() || c == '\0')
                    .to_owned(),
            )
        };
        let mut all: Vec<String> = files.iter().filter_map(read).collect();
        let number = self.line(name, "dev").unwrap_or_default();
        let known = self.file(&format!("run/udev/data/b{number}")).unwrap_or_default();
        let entries = known.lines().filter_map(|line| line.strip_prefix("E:")?.split_once('='));
        all.extend(entries.filter(|(key, _)| udev.contains(key)).map(|(_, value)| value.to_owned()));
        all.retain(|text| !text.is_empty());
        all.dedup();
        all
    }
}
