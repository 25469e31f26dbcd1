//! Whether what the golden node has fits where the desc puts it. Pure.

use std::path::Path;

use ka_desc::error::Error;
use ka_desc::language::bytes::people;
use ka_desc::language::{Desc, Disk, Fs, Partition, Size};
use ka_desc::layout;
use ka_desc::manifest::{Need, Part};

use super::choice::Choice;
use super::scope::Scope;
use crate::golden::facts::{Golden, Used};

/// The bytes for each inode by mkfs of ext2, ext3 and ext4, as Debian and Fedora set it: from this size on, and below.
const INODE_BYTES: [(u64, u64); 2] = [(512 << 20, 16 << 10), (0, 4 << 10)];

/// Returns what clones get of a partition's files. All subvolumes of a btrfs report the same of it.
#[must_use]
pub fn comes(scope: &Scope<'_>, choice: &Choice, part: &Part) -> Used {
    let mounts = || scope.mounts.iter().filter(|mount| mount.part() == Some(part));
    let used = mounts().next().map_or_else(Used::default, |mount| mount.used);
    if mounts().all(|mount| choice.exclude.contains(&mount.at)) {
        return Used { bytes: 0, inodes: 0, ..used };
    }
    let spared = || choice.spared.iter().filter(|(on, _)| on == part).map(|(_, weight)| weight);
    Used {
        bytes: used.bytes.saturating_sub(spared().map(|weight| weight.bytes).sum()),
        inodes: used.inodes.saturating_sub(spared().map(|weight| weight.inodes).sum()),
        ..used
    }
}

/// Returns the least size of a partition for these files: with the share that the golden node's own bookkeeping takes.
#[must_use]
pub fn least_bytes(golden: &Golden, part: &Part, comes: Used) -> u64 {
    let size = golden.part_bytes(part);
    if comes.capacity == 0 || size < comes.capacity {
        return comes.bytes;
    }
    let bytes = u128::from(comes.bytes) * u128::from(size) / u128::from(comes.capacity);
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Returns what each partition of the desc must hold. Files go where the desc mounts what contains them.
#[must_use]
pub fn needs(desc: &Desc, scope: &Scope<'_>, choice: &Choice) -> Vec<Need> {
    let mut needs: Vec<Need> = Vec::new();
    let mut counted: Vec<&Part> = Vec::new();
    for mount in &scope.mounts {
        let Some((part, _)) = place(desc, &mount.at) else { continue };
        let Some(from) = mount.part().filter(|from| !counted.contains(from)) else { continue };
        counted.push(from);
        let Used { bytes, inodes, .. } = comes(scope, choice, from);
        match needs.iter_mut().find(|need| need.part == part) {
            Some(need) => {
                need.bytes = need.bytes.saturating_add(bytes);
                need.inodes = need.inodes.saturating_add(inodes);
            }
            None => needs.push(Need { part, bytes, inodes }),
        }
    }
    needs
}

/// Returns the partition on which the desc has what is at `path`.
fn place<'a>(desc: &'a Desc, path: &Path) -> Option<(Part, &'a Partition)> {
    let mut best: Option<(usize, Part, &Partition)> = None;
    for disk in &desc.disks {
        for (line, number) in disk.partitions.iter().zip(disk.numbers()) {
            let all = line.mount.iter().chain(line.subvolumes.iter().filter_map(|s| s.mount.as_ref()));
            for at in all.map(Path::new).filter(|at| path.starts_with(at)) {
                let depth = at.components().count();
                if best.as_ref().is_none_or(|(most, ..)| depth > *most) {
                    let part = Part { disk: disk.name.clone().unwrap_or_default(), number };
                    best = Some((depth, part, line));
                }
            }
        }
    }
    best.map(|(_, part, line)| (part, line))
}

/// Returns what does not fit, and what is doubtful.
#[must_use]
pub fn misfits(
    golden: &Golden,
    choice: &Choice,
    scope: &Scope<'_>,
    desc: &Desc,
    needs: &[Need],
) -> (Vec<String>, Vec<String>) {
    let (mut problems, mut warnings) = (Vec::new(), Vec::new());
    for disk in &desc.disks {
        let name = disk.name.clone().unwrap_or_default();
        let planned = laid_out(golden, disk);
        if let Err(why) = &planned {
            warnings
                .push(format!("the desc of {name} is not one for a disk like the golden node's own: {why}"));
        }
        for (line, number) in disk.partitions.iter().zip(disk.numbers()) {
            let part = Part { disk: name.clone(), number };
            let Some(need) = needs.iter().find(|need| need.part == part) else { continue };
            let planned = planned.as_ref().ok().and_then(|plan| {
                let p = plan.partitions.iter().find(|p| p.number == number)?;
                Some(plan.bytes(p.sectors))
            });
            let has = match (line.size, planned) {
                (_, Some(bytes)) | (Size::Bytes(bytes), None) => bytes,
                _ => continue,
            };
            // What comes from the same partition is known with its own bookkeeping.
            let least = least_bytes(golden, &part, comes(scope, choice, &part)).max(need.bytes);
            if need.bytes > 0 && least > has {
                let (needed, has) = (people(least), people(has));
                problems.push(format!(
                    "partition {part} (`{line}`) would have {has}, and the golden node's files need {needed}: make it larger, \
                     or leave files out with -x"
                ));
            } else if need.inodes > inodes(line, has) {
                let (files, most) = (need.inodes, inodes(line, has));
                warnings.push(format!(
                    "partition {part} gets {files} files, and mkfs makes room for about {most}: make it larger, or take a file \
                     system without such a limit, such as xfs"
                ));
            }
        }
    }
    (problems, warnings)
}

/// The desc on a disk of the golden node's size.
///
/// # Errors
/// Why that is not possible.
pub fn laid_out(golden: &Golden, disk: &Disk) -> Result<layout::Plan, Error> {
    let own = disk.name.as_ref().and_then(|name| golden.disk(name));
    let own = own.ok_or_else(|| Error::from("the golden node has no disk of this name"))?;
    layout::Plan::new(disk, own.geometry, own.found.as_ref()).map_err(|misfits| {
        let all: Vec<String> = misfits.iter().map(ToString::to_string).collect();
        all.join("; ").into()
    })
}

/// Returns the number of files that a new file system has room for.
fn inodes(line: &Partition, bytes: u64) -> u64 {
    match line.file_system() {
        Some(Fs::Ext2 | Fs::Ext3 | Fs::Ext4) => {
            let each = INODE_BYTES.iter().find(|(from, _)| bytes >= *from).map_or(1, |(_, each)| *each);
            bytes / each
        }
        _ => u64::MAX,
    }
}
