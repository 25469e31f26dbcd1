//! Why a desc and a disk do not fit together.

use std::fmt;

use crate::language::bytes::people;
use crate::language::{Fault, Table};
use crate::limits::MIB_BYTES;

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// The desc, which some program made, contradicts itself.
    Fault(Fault),
    /// The disk's sectors have another size than the desc is for; in bytes.
    Sectors {
        /// The sector size of the disk.
        disk: u32,
        /// The sector size that the desc is for.
        desc: u32,
    },
    /// No disk is like this.
    Geometry,
    /// Something is kept, and the disk has no table, or it was not looked at.
    NoTable,
    /// Something is kept, and the disk has another kind of table.
    OtherTable {
        /// The kind of the disk's table.
        disk: Table,
    },
    /// Something is kept, and the disk's table has another identity.
    OtherId {
        /// The identity of the disk's table.
        disk: String,
        /// The identity in the desc.
        desc: String,
    },
    /// A partition that is kept or reused is not there.
    NotThere(u32),
    /// A partition that is kept or reused is not as the desc says.
    Differs {
        /// Its number.
        number: u32,
        /// In which respects.
        how: Vec<String>,
    },
    /// A partition that is kept or reused has a name that no script for sfdisk can carry.
    Name(u32),
    /// A partition that is kept or reused overlaps another, or leaves the disk.
    Broken(u32),
    /// There is not room enough; in bytes.
    TooSmall {
        /// The room that is too small.
        room: Room,
        /// The bytes that the partitions need, with their alignment.
        needed: u64,
        /// The bytes that the room has.
        has: u64,
    },
}

/// A room for partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// All of the disk.
    Disk,
    /// The extended partition.
    Extended,
    /// From the start of the disk to the first partition that stays.
    BeforeKept,
    /// From the end of this partition, which stays, to the next one that does.
    Behind(u32),
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(fault) => write!(f, "{}: {}", fault.what, fault.way_out),
            Self::Sectors { disk, desc } => {
                write!(f, "the disk has sectors of {disk} bytes, and the desc is for {desc} (`table … sector {desc}`)")
            }
            Self::Geometry => f.write_str("no disk is like this: sectors have 512 or 4096 bytes, disks at most 2^63"),
            Self::NoTable => {
                f.write_str("the desc keeps partitions, and there is no partition table to keep them in; give the disk itself")
            }
            Self::OtherTable { disk } => {
                write!(f, "the desc keeps partitions, and the disk's table is of another kind: write `table {disk}`")
            }
            Self::OtherId { disk, desc } => {
                write!(f, "the desc keeps partitions of the table {desc}, and this disk's table is {disk}: is it the right disk?")
            }
            Self::NotThere(number) => write!(f, "partition {number}, which the desc keeps or reuses, is not there"),
            Self::Differs { number, how } => {
                write!(f, "partition {number} is not the one that the desc keeps or reuses: {}", how.join("; "))
            }
            Self::Name(number) => {
                write!(f, "the name of partition {number} has quotes, backslashes or control characters: rename it first")
            }
            Self::Broken(number) => {
                write!(f, "partition {number} overlaps another, or leaves the disk: repair the table first")
            }
            Self::TooSmall { room, needed, has } => {
                let missing = needed.saturating_sub(*has);
                let (needed, has) = (people(*needed), people(*has));
                let mib = missing.div_ceil(MIB_BYTES);
                write!(f, "{room} is too small: the partitions need {needed}, it has {has}; {mib} MiB are missing")
            }
        }
    }
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk => f.write_str("the disk"),
            Self::Extended => f.write_str("the extended partition"),
            Self::BeforeKept => f.write_str("the room before the first partition that stays"),
            Self::Behind(number) => write!(f, "the room behind partition {number}"),
        }
    }
}

impl std::error::Error for Misfit {}
