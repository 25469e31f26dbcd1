//! The nouns: what a golden node is, as far as its clones are concerned.

use std::path::{Path, PathBuf};

use ka_desc::layout::{Contents, Found, FoundPartition, Geometry};
use ka_desc::manifest::{Firmware, Part, Piece};

/// A golden node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Golden {
    /// Its host name.
    pub host: String,
    /// The firmware that started it; of a tree or an image, the one that could.
    pub firmware: Firmware,
    /// All its disks.
    pub disks: Vec<GoldenDisk>,
    /// Its file systems that are on a device or come by the network, in the order in which they were mounted.
    pub mounts: Vec<Mount>,
    /// The partitions that are in use as swap.
    pub swaps: Vec<Part>,
    /// The text of its fstab.
    pub fstab: String,
    /// The oddities that were found, as sentences.
    pub warnings: Vec<String>,
}

/// One of its disks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoldenDisk {
    /// The name of the disk in a desc: the kernel's name, or that of the image's file.
    pub name: String,
    /// Its node, or the image.
    pub path: PathBuf,
    /// The size of the disk.
    pub geometry: Geometry,
    /// Its table and what is on it; `None` if there is no table.
    pub found: Option<Found>,
    /// The disk is on USB, or its medium can be taken out.
    pub portable: bool,
    /// The kernel modules of its controllers, from the disk up.
    pub modules: Vec<String>,
    /// Its first 440 bytes: the code that a BIOS starts. Empty if they could not be read.
    pub code: Vec<u8>,
    /// Its boot records.
    pub records: Vec<(Piece, Vec<u8>)>,
}

/// One of its file systems, where it is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The mount point, as the clones see it.
    pub at: PathBuf,
    /// The path at which it can be read here.
    pub here: PathBuf,
    /// The device that its files say they are on.
    pub device: Option<u64>,
    /// Its type, as the kernel says it.
    pub fs: String,
    /// The source that was mounted.
    pub source: PathBuf,
    /// The subvolume of a btrfs, unless it is the topmost.
    pub subvolume: Option<String>,
    /// The mount shows only a directory of its file system.
    pub partial: bool,
    /// The mount can be written to.
    pub writable: bool,
    /// The storage that the file system is on.
    pub on: On,
    /// The space that is used.
    pub used: Used,
    /// The loaders that UEFI could start from it, such as `/EFI/debian/shimx64.efi`.
    pub loaders: Vec<String>,
}

/// The storage that a file system is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum On {
    /// A partition.
    Part(Part),
    /// A whole disk, which has no table.
    Whole(String),
    /// Something that is built on these disks.
    Built {
        /// The name of its kind, such as `LVM`.
        what: String,
        /// The disks below it.
        disks: Vec<String>,
    },
    /// Another machine.
    Network,
    /// A file of one of the golden node's own file systems.
    File,
    /// Nothing that is known.
    Unknown,
}

/// The used space of a file system; of a btrfs, all its subvolumes together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// The bytes that are taken.
    pub bytes: u64,
    /// The bytes that files can take, of those of its partition.
    pub capacity: u64,
    /// The inodes that are taken; 0 where there is no such count.
    pub inodes: u64,
}

impl Golden {
    /// The disk that a desc calls so.
    #[must_use]
    pub fn disk(&self, name: &str) -> Option<&GoldenDisk> {
        self.disks.iter().find(|disk| disk.name == name)
    }

    /// A partition, as it was found.
    #[must_use]
    pub fn partition(&self, part: &Part) -> Option<&FoundPartition> {
        self.disk(&part.disk)?.found.as_ref()?.partition(part.number)
    }

    /// Returns the contents of a partition.
    #[must_use]
    pub fn contents(&self, part: &Part) -> Option<&Contents> {
        self.partition(part)?.contents.as_ref()
    }

    /// The size of a partition, in bytes.
    #[must_use]
    pub fn part_bytes(&self, part: &Part) -> u64 {
        let sector = self.disk(&part.disk).map_or(0, |disk| disk.geometry.sector_bytes);
        self.partition(part).map_or(0, |p| p.sectors.saturating_mul(sector.into()))
    }
}

impl Mount {
    /// The partition it is on.
    #[must_use]
    pub fn part(&self) -> Option<&Part> {
        match &self.on {
            On::Part(part) => Some(part),
            _ => None,
        }
    }

    /// Whether it is at `path`.
    #[must_use]
    pub fn is_at(&self, path: &str) -> bool {
        self.at == Path::new(path)
    }
}
