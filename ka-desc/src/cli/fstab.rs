//! The fstab that a disk carries: where what is on it is mounted.

use std::fs;
use std::path::{Path, PathBuf};

use crate::layout::{Found, FoundPartition};
use crate::machine::{Facts, How, Machine, mount_point};
use crate::private;
use crate::run::Here;
use crate::write;

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
    // Then a kill leaves nothing mounted.
    let _ = private::enter();
    found.partitions.iter().find_map(|p| inside(machine, facts, p)).unwrap_or_default()
}

/// An fstab in a file system, or in one of its subvolumes.
fn below(root: &Path) -> Option<String> {
    let subvolumes = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut roots = vec![root.to_path_buf()];
    roots.extend(subvolumes.filter(|path| path.is_dir() && !path.is_symlink()));
    roots.into_iter().find_map(|root| fs::read_to_string(root.join("etc/fstab")).ok())
}

/// An fstab on a partition, which is mounted for a moment.
fn inside(machine: &Machine, facts: &Facts, p: &FoundPartition) -> Option<String> {
    // No system has its root on vfat.
    p.contents.as_ref().filter(|contents| contents.fs != "vfat")?;
    let at = mount_point().ok()?;
    let text = write::peek(machine, &mut Here, facts, p, &at, |_, at| below(at)).flatten();
    fs::remove_dir(&at).ok();
    text
}
