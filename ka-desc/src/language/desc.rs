//! The types: what a desc says.

use std::collections::BTreeSet;
use std::fmt;

use super::guid::Guid;
use super::words::Table;
use super::words::{Fs, Kind};

/// A whole desc: one disk, or several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desc {
    /// The disks, in order.
    pub disks: Vec<Disk>,
}

/// One disk: its table and its partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// The desc's name for the disk; needed if there are several. No device's name, though it may look like one.
    pub name: Option<String>,
    /// Which table it gets, if the desc says so; see [`Disk::table`].
    pub table: Option<Table>,
    /// The table's identity; random if it is not said.
    pub id: Option<TableId>,
    /// The only size of a sector, in bytes, that the desc is for.
    pub sector_bytes: Option<u32>,
    /// Its partitions, in the order in which they lie on the disk.
    pub partitions: Vec<Partition>,
}

/// The identity of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableId {
    /// An MBR's 32 bits, by which Windows knows the disk.
    Mbr(u32),
    /// A GPT's GUID.
    Gpt(Guid),
}

/// One line: a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// The action on the partition.
    pub action: Action,
    /// Whether it lies within the extended partition of an MBR.
    pub logical: bool,
    /// The purpose of the partition.
    pub kind: Kind,
    /// The size of the partition.
    pub size: Size,
    /// The least bytes it is of use with; for sizes that depend on the disk.
    pub min_bytes: Option<u64>,
    /// The place where a kept or reused partition must begin, in bytes from the disk's start.
    pub at_bytes: Option<u64>,
    /// Its number, if it is not the next free one.
    pub number: Option<u32>,
    /// Whether firmware or boot loaders start from it: the active flag of an MBR, the legacy attribute of a GPT.
    pub bootable: bool,
    /// The name that a GPT gives it.
    pub name: Option<String>,
    /// The GUID that a GPT gives it; random if it is not said.
    pub partuuid: Option<Guid>,
    /// A GPT's attributes, as bits 0 to 63, without that of [`Partition::bootable`].
    pub attributes: u64,
    /// Its file system, if the desc says so; see [`Partition::file_system`].
    pub fs: Option<Fs>,
    /// The file system's label.
    pub label: Option<String>,
    /// The file system's UUID, as its tools write it; random if it is not said.
    pub uuid: Option<String>,
    /// The mount point: an absolute path.
    pub mount: Option<String>,
    /// With which options it is mounted, separated by commas.
    pub options: Option<String>,
    /// The subvolumes of a btrfs.
    pub subvolumes: Vec<Subvolume>,
}

/// A subvolume of a btrfs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subvolume {
    /// Its path within the file system.
    pub name: String,
    /// The mount point.
    pub mount: Option<String>,
    /// With which options, besides the partition's.
    pub options: Option<String>,
}

/// The action on a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The partition is made anew.
    Make,
    /// The partition must exist exactly as described, and is never written.
    Keep,
    /// The partition must exist, and is formatted in place.
    Reuse,
}

/// The size of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// So many bytes, rounded up to whole sectors.
    Bytes(u64),
    /// So many hundredths of what the disk has for partitions, in whole mebibytes.
    Percent(u8),
    /// An equal share of what the others leave.
    Fill,
    /// Whatever a kept or reused one has.
    Any,
}

/// The attribute bit of a GPT that says what MBRs call active.
pub const LEGACY_BOOT_BIT: u32 = 2;

impl Disk {
    /// Which table it gets: the one that is said; else GPT if a line asks for what only a GPT has, or for an `esp`;
    /// else an MBR, as in 2001.
    #[must_use]
    pub fn table(&self) -> Table {
        let gpt = |p: &Partition| {
            matches!(p.kind, Kind::Esp | Kind::BiosBoot | Kind::Msr | Kind::Gpt(_))
                || p.name.is_some()
                || p.partuuid.is_some()
                || p.attributes != 0
        };
        self.table.unwrap_or(if self.partitions.iter().any(gpt) { Table::Gpt } else { Table::Mbr })
    }

    /// The number of each partition: the said one, or else the first that is free; logicals count from 5.
    #[must_use]
    pub fn numbers(&self) -> Vec<u32> {
        let taken: BTreeSet<u32> = self.partitions.iter().filter_map(|p| p.number).collect();
        let mut free = (1..).filter(|n| !taken.contains(n));
        let mut next_logical = 5;
        let number = |p: &Partition| {
            if p.logical {
                next_logical += 1;
                return next_logical - 1;
            }
            p.number.unwrap_or_else(|| free.next().expect("there are fewer than 2^32 partitions"))
        };
        self.partitions.iter().map(number).collect()
    }

    /// Whether something on the disk outlives the new table.
    #[must_use]
    pub fn keeps(&self) -> bool {
        self.partitions.iter().any(|p| p.action != Action::Make)
    }
}

impl Partition {
    /// A new partition of this kind and size, and nothing else said.
    #[must_use]
    pub fn new(kind: Kind, size: Size) -> Self {
        Self {
            action: Action::Make,
            logical: false,
            kind,
            size,
            min_bytes: None,
            at_bytes: None,
            number: None,
            bootable: false,
            name: None,
            partuuid: None,
            attributes: 0,
            fs: None,
            label: None,
            uuid: None,
            mount: None,
            options: None,
            subvolumes: Vec::new(),
        }
    }

    /// Its file system: the one that is said, or what its kind always has (swap; vfat on an ESP).
    #[must_use]
    pub fn file_system(&self) -> Option<Fs> {
        self.fs.or(match self.kind {
            Kind::Swap => Some(Fs::Swap),
            Kind::Esp => Some(Fs::Vfat),
            _ => None,
        })
    }

    /// The file system that is made; `None` if the partition is kept, or has no file system.
    #[must_use]
    pub fn formatted(&self) -> Option<Fs> {
        self.file_system().filter(|_| self.action != Action::Keep)
    }

    /// Its attributes in a GPT, all of them.
    #[must_use]
    pub fn gpt_attributes(&self) -> u64 {
        self.attributes | u64::from(self.bootable) << LEGACY_BOOT_BIT
    }

    /// Whether it or one of its subvolumes is mounted somewhere.
    #[must_use]
    pub fn is_mounted(&self) -> bool {
        self.mount.is_some() || self.subvolumes.iter().any(|s| s.mount.is_some())
    }
}

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mbr(id) => write!(f, "0x{id:08x}"),
            Self::Gpt(guid) => guid.fmt(f),
        }
    }
}
