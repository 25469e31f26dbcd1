//! Never the wrong disk: every reason not to write one. Pure.

use std::fmt;
use std::path::PathBuf;

use super::expect::Expectation;
use super::facts::{DiskKind, Facts};
use super::uses::{How, Use};
use crate::language::bytes::people;
use crate::layout::Geometry;

/// Under which conditions a disk may be written.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    /// The properties that the disk must have.
    pub expect: Vec<Expectation>,
    /// The disk may be on USB, or have a medium that can be taken out.
    pub removable: bool,
    /// Swap, arrays and mappings that lie wholly on the disk are stopped first, so they do not count.
    pub deactivate: bool,
    /// The geometry that the plan was made for, once there is a plan.
    pub geometry: Option<Geometry>,
}

/// A reason not to write a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The path is a partition; the second field is its disk.
    Partition(PathBuf, String),
    /// The path is neither a disk nor an image.
    NoDisk(PathBuf),
    /// A disk without a byte.
    Empty(PathBuf),
    /// The disk cannot be written.
    ReadOnly(PathBuf),
    /// The disk is on USB or removable, so it may be somebody's stick.
    Removable(PathBuf, &'static str),
    /// The disk is in use.
    InUse(Use),
    /// The disk is in use, in a way that can be stopped.
    Active(Use),
    /// The disk is another one than expected.
    Unexpected(PathBuf, Expectation, String),
    /// The disk has another size than the one that the plan was made for.
    OtherSize(PathBuf, u64),
    /// The disk has another size of sectors than the one that the plan was made for.
    OtherSectors(PathBuf, u32),
    /// Another program has locked the disk.
    Locked(PathBuf),
    /// The disk has changed since the plan was made.
    Changed(PathBuf),
    /// Two parts of the desc would be written to it.
    Twice(PathBuf),
    /// Several disks could be meant, or none.
    Ambiguous(Vec<PathBuf>),
}

/// Every reason not to write this disk.
#[must_use]
pub fn refusals(facts: &Facts, conditions: &Conditions) -> Vec<Refusal> {
    let path = || facts.path.clone();
    let mut list = Vec::new();
    match &facts.kind {
        DiskKind::Partition(disk) => return vec![Refusal::Partition(path(), disk.clone())],
        DiskKind::Other => return vec![Refusal::NoDisk(path())],
        DiskKind::Image | DiskKind::Disk(_) => {}
    }
    if facts.geometry.disk_bytes == 0 {
        list.push(Refusal::Empty(path()));
    }
    if facts.read_only {
        list.push(Refusal::ReadOnly(path()));
    }
    if facts.usb && !conditions.removable {
        list.push(Refusal::Removable(path(), "is connected by USB"));
    } else if facts.removable && !conditions.removable {
        list.push(Refusal::Removable(path(), "is removable"));
    }
    for u in &facts.uses {
        match u.how {
            // Nobody misses them: they are taken away before anything is written.
            How::Loop(_) | How::Leftover(_) => {}
            How::Swap | How::Array { wholly: true, .. } | How::Mapped { wholly: true, .. }
                if conditions.deactivate => {}
            How::Swap | How::Array { wholly: true, .. } | How::Mapped { wholly: true, .. } => {
                list.push(Refusal::Active(u.clone()));
            }
            _ => list.push(Refusal::InUse(u.clone())),
        }
    }
    for expected in conditions.expect.iter().filter(|e| !e.holds(facts)) {
        let is = match expected {
            Expectation::Serial(_) => facts.serial.join(" or "),
            Expectation::Model(_) => facts.model.join(" or "),
            Expectation::Wwn(_) => facts.wwn.join(" or "),
            Expectation::Size(_) => {
                format!("{} ({} B)", people(facts.geometry.disk_bytes), facts.geometry.disk_bytes)
            }
        };
        list.push(Refusal::Unexpected(path(), expected.clone(), is));
    }
    if let Some(plan) = conditions.geometry {
        if facts.geometry.sector_bytes != plan.sector_bytes {
            list.push(Refusal::OtherSectors(path(), facts.geometry.sector_bytes));
        }
        if facts.geometry.disk_bytes != plan.disk_bytes {
            list.push(Refusal::OtherSize(path(), facts.geometry.disk_bytes));
        }
    }
    list
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Partition(path, disk) => {
                write!(f, "{} is a partition of {disk}: a desc is for a whole disk", path.display())
            }
            Self::NoDisk(path) => write!(f, "{} is neither a disk nor a disk's image", path.display()),
            Self::Empty(path) => {
                write!(f, "{} has no bytes: an empty file, or a drive without its medium", path.display())
            }
            Self::ReadOnly(path) => write!(f, "{} is read-only", path.display()),
            Self::Removable(path, why) => {
                write!(f, "{} {why}: if it is the disk that you mean, say --removable", path.display())
            }
            Self::InUse(u) => write!(f, "{u}"),
            Self::Active(u) => write!(f, "{u}, or say --deactivate to have it stopped"),
            Self::Unexpected(path, expected, is) => {
                let is = if is.is_empty() { "nothing" } else { is };
                write!(f, "{} is not the disk with {expected}: it says {is}", path.display())
            }
            Self::OtherSize(path, bytes) => {
                write!(
                    f,
                    "{} has {bytes} bytes, and the plan was made for another size: plan anew",
                    path.display()
                )
            }
            Self::OtherSectors(path, bytes) => {
                write!(
                    f,
                    "{} has sectors of {bytes} bytes, and the plan was made for others: plan anew",
                    path.display()
                )
            }
            Self::Locked(path) => {
                write!(f, "{} is locked by another program: wait until that has ended", path.display())
            }
            Self::Changed(path) => {
                write!(f, "{} is not what it was when the plan was made: look at it again", path.display())
            }
            Self::Twice(path) => write!(f, "{} is named for two disks of the desc", path.display()),
            Self::Ambiguous(disks) if disks.is_empty() => {
                f.write_str("there is no such disk: name it with --disk, or change --expect")
            }
            Self::Ambiguous(disks) => {
                let names: Vec<String> = disks.iter().map(|d| d.display().to_string()).collect();
                write!(f, "several disks could be meant ({}): name one with --disk", names.join(", "))
            }
        }
    }
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.node.display())?;
        match &self.how {
            How::Mounted(at) | How::Leftover(at) => write!(f, "is mounted at {}: unmount it", at.display()),
            How::Swap => f.write_str("is in use as swap: swapoff it"),
            How::Array { holder, wholly: true } => {
                write!(f, "is part of the array {}: stop it", holder.display())
            }
            How::Array { holder, .. } => {
                write!(f, "is part of the array {}, which lies on other disks too: stop it", holder.display())
            }
            How::Mapped { holder, name, wholly: true } => {
                write!(f, "is part of {} ({name}): deactivate that", holder.display())
            }
            How::Mapped { holder, name, .. } => {
                write!(
                    f,
                    "is part of {} ({name}), which lies on other disks too: deactivate that",
                    holder.display()
                )
            }
            How::Held(holder) => write!(f, "is held by {}: stop that", holder.display()),
            How::Loop(node) => write!(f, "has the loop device {}: detach that", node.display()),
            How::Open => f.write_str(
                "is in use: the kernel, or a program that formats or checks it, has it for itself alone",
            ),
        }
    }
}
