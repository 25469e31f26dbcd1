//! A look into a file system that is mounted nowhere, such that nothing is written, not even its journal.

use std::path::Path;

use super::nodes;
use crate::layout::FoundPartition;
use crate::machine::{DiskKind, Facts, Machine};
use crate::run::{Call, Runner};
use crate::system::mount_options::quiet_options;

/// Mounts a partition at `at` for as long as `look` takes; of a btrfs what is topmost. `None`: it cannot be mounted.
pub fn peek<T>(
    machine: &Machine,
    runner: &mut dyn Runner,
    facts: &Facts,
    partition: &FoundPartition,
    at: &Path,
    look: impl FnOnce(&mut dyn Runner, &Path) -> T,
) -> Option<T> {
    let fs = partition.contents.as_ref()?.fs.as_str();
    let mut options = quiet_options(fs)?.to_owned();
    if fs == "btrfs" {
        options += ",subvolid=5";
    }
    let node = match &facts.kind {
        DiskKind::Disk(name) => nodes::partition(machine, name, partition.number),
        _ => None,
    };
    let source = node.unwrap_or_else(|| {
        let sector = u64::from(facts.geometry.sector_bytes);
        let (offset, size) =
            (partition.start.saturating_mul(sector), partition.sectors.saturating_mul(sector));
        options += &format!(",loop,offset={offset},sizelimit={size}");
        facts.path.clone()
    });
    let (source, here) = (source.display().to_string(), at.display().to_string());
    runner.write(&Call::new("mount", ["-t", fs, "-o", &options, &source, &here])).ok()?;
    let seen = look(runner, at);
    // What still has it open keeps it, and nothing else does.
    runner
        .write(&Call::new("umount", [here.clone()]))
        .or_else(|_| runner.write(&Call::new("umount", ["--lazy", &here])))
        .ok();
    Some(seen)
}
