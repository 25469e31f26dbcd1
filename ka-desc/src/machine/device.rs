//! Which disk, and which partition of it, a block device is: the kernel's own, a loop device over a part of an image,
//! or something that is built on others.

use std::path::{Path, PathBuf};

use super::sysfs::Machine;

/// The location of a block device's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spot {
    /// The partition of this number of a disk.
    Number(PathBuf, u32),
    /// The part of a disk or an image that begins at this byte.
    Byte(PathBuf, u64),
    /// Something that is built on these disks.
    Built(String, Vec<PathBuf>),
    /// The location is unknown.
    Unknown,
}

impl Spot {
    /// The disks that it is on.
    pub fn disks(&self) -> &[PathBuf] {
        match self {
            Self::Number(disk, _) | Self::Byte(disk, _) => std::slice::from_ref(disk),
            Self::Built(_, disks) => disks,
            Self::Unknown => &[],
        }
    }
}

/// The location of the device with this number; of that at `path`, if there is none.
pub fn spot(machine: &Machine, number: &str, path: &Path) -> Spot {
    let has = |name: &String| machine.line(name, "dev").as_deref() == Some(number);
    match machine.list("", "").into_iter().find(has).or_else(|| machine.name_of(path)) {
        Some(name) => of_block(machine, &name),
        None => Spot::Unknown,
    }
}

/// The location of the device at `path`.
pub fn spot_of_node(machine: &Machine, path: &Path) -> Spot {
    machine.name_of(path).map_or(Spot::Unknown, |name| of_block(machine, &name))
}

fn of_block(machine: &Machine, name: &str) -> Spot {
    if let Some(number) = machine.partition_number(name) {
        return match machine.disk_of(name) {
            Some(disk) => Spot::Number(machine.node(&disk), number),
            None => Spot::Unknown,
        };
    }
    if let Some(file) = machine.line(name, "loop/backing_file") {
        let offset = machine.line(name, "loop/offset").and_then(|text| text.parse().ok()).unwrap_or(0);
        return Spot::Byte(file.into(), offset);
    }
    match built(machine, name) {
        Some(what) => {
            let mut disks = Vec::new();
            below(machine, name, &mut disks);
            Spot::Built(what, disks)
        }
        None => Spot::Byte(machine.node(name), 0),
    }
}

/// The technology of a block device that is built on others, in words; `None` if it is not.
fn built(machine: &Machine, name: &str) -> Option<String> {
    let what = if name.starts_with("dm-") {
        let uuid = machine.line(name, "dm/uuid").unwrap_or_default();
        match uuid.split('-').next() {
            Some("LVM") => "LVM",
            Some("CRYPT") => "LUKS, or another encryption",
            Some(part) if part == "mpath" || uuid.contains("mpath-") => "several paths to one disk",
            _ => "the device mapper",
        }
    } else if name.starts_with("md") {
        "a software RAID"
    } else if name.starts_with("bcache") {
        "bcache"
    } else if name.starts_with("zram") || name.starts_with("ram") {
        "memory"
    } else {
        return None;
    };
    Some(what.into())
}

/// The disks below something that is built.
fn below(machine: &Machine, name: &str, disks: &mut Vec<PathBuf>) {
    for slave in machine.list(name, "slaves") {
        if built(machine, &slave).is_some() {
            below(machine, &slave, disks);
            continue;
        }
        let disk =
            if machine.partition_number(&slave).is_some() { machine.disk_of(&slave) } else { Some(slave) };
        if let Some(disk) = disk.map(|name| machine.node(&name)).filter(|disk| !disks.contains(disk)) {
            disks.push(disk);
        }
    }
}
