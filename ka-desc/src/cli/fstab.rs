//! The fstab that a disk carries: where what is on it is mounted.

use std::fs;
use std::path::{Path, PathBuf};

use crate::disk::{Facts, How, LEFTOVER, Machine, Sort};
use crate::layout::{Found, FoundPartition};
use crate::run::{Call, Here, Runner};

/// The text of the first fstab that is found: in what is mounted of the disk, or else, if we are root, on the disk's
/// file systems. Nothing is a fine answer: then the desc has no mount points.
pub(super) fn find(machine: &Machine, facts: &Facts, found: &Found) -> String {
    let mounted: Vec<&PathBuf> = facts
        .uses
        .iter()
        .filter_map(|u| match &u.how {
            How::Mounted(at) => Some(at),
            _ => None,
        })
        .collect();
    if !mounted.is_empty() {
        return mounted.into_iter().find_map(|at| below(at)).unwrap_or_default();
    }
    if !rustix::process::geteuid().is_root() {
        return String::new();
    }
    found.partitions.iter().find_map(|p| inside(machine, facts, p)).unwrap_or_default()
}

/// An fstab in a file system, or in one of its subvolumes.
fn below(root: &Path) -> Option<String> {
    let subvolumes = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut roots = vec![root.to_path_buf()];
    roots.extend(subvolumes.filter(|path| path.is_dir() && !path.is_symlink()));
    roots.into_iter().find_map(|root| fs::read_to_string(root.join("etc/fstab")).ok())
}

/// An fstab on a partition, which is mounted for a moment, such that not even its journal is written.
fn inside(machine: &Machine, facts: &Facts, p: &FoundPartition) -> Option<String> {
    let options = match p.contents.as_ref()?.fs.as_str() {
        "ext2" => "ro",
        "ext3" | "ext4" => "ro,noload",
        "xfs" => "ro,norecovery,nouuid",
        "btrfs" => "ro,subvolid=5",
        _ => return None,
    };
    let node = match &facts.sort {
        Sort::Disk(name) => crate::write::kernel_node(machine, name, p.number),
        _ => None,
    };
    let at = std::env::temp_dir().join(format!("{LEFTOVER}{}", std::process::id()));
    fs::create_dir_all(&at).ok()?;
    let here = at.display().to_string();
    let sector = u64::from(facts.geometry.sector_bytes);
    let (options, source) = match node {
        Some(node) => (options.to_owned(), node),
        None => {
            let place =
                format!("{options},loop,offset={},sizelimit={}", p.start * sector, p.sectors * sector);
            (place, facts.path.clone())
        }
    };
    let mount = Call::new("mount", ["-o", &options, &source.display().to_string(), &here]);
    let text = Here.write(&mount).ok().and_then(|_| {
        let text = below(&at);
        Here.write(&Call::new("umount", [here])).ok();
        text
    });
    fs::remove_dir(&at).ok();
    text
}
