//! Nodes for disks and partitions: the kernel's, or loop devices where there are none.
//!
//! A loop device is detached as soon as we hold it open: the kernel takes it away when the last one lets go of it,
//! which is also when we are killed.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::Error;
use crate::layout::Geometry;
use crate::limits::NODES_WAIT_MS;
use crate::machine::{DiskKind, Machine};
use crate::run::{Call, Runner};

/// A node, for as long as this lives.
#[derive(Debug)]
pub struct Node {
    pub(super) path: PathBuf,
    /// The open file that keeps a loop device.
    _held: Option<File>,
}

impl Node {
    /// The path of the node.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path as an argument.
    pub(super) fn arg(&self) -> String {
        self.path.display().to_string()
    }

    /// A device's own node.
    pub(super) fn own(path: PathBuf) -> Self {
        Self { path, _held: None }
    }

    /// A loop device over so many bytes of `path`.
    pub(super) fn attach(
        runner: &mut dyn Runner,
        path: &Path,
        bytes: Option<(u64, u64)>,
        sector_bytes: u32,
    ) -> Result<Self, Error> {
        let mut args =
            vec!["--find".to_owned(), "--show".into(), "--sector-size".into(), sector_bytes.to_string()];
        if let Some((offset, size)) = bytes {
            args.extend(["--offset".into(), offset.to_string(), "--sizelimit".into(), size.to_string()]);
        }
        args.push(path.display().to_string());
        let node = PathBuf::from(runner.write(&Call::new("losetup", args))?.trim());
        let held = if runner.is_dry() {
            None
        } else {
            Some(File::open(&node).map_err(|e| Error::Io(node.clone(), e))?)
        };
        detach(runner, &node)?;
        Ok(Self { path: node, _held: held })
    }
}

/// Takes a loop device away once nobody holds it any more.
pub(super) fn detach(runner: &mut dyn Runner, node: &Path) -> Result<(), Error> {
    runner.write(&Call::new("losetup", ["--detach".to_owned(), node.display().to_string()]))?;
    Ok(())
}

/// The node that tools are given for a whole disk: its own, but for images whose sectors no tool would guess.
pub(super) fn disk(
    runner: &mut dyn Runner,
    path: &Path,
    kind: &DiskKind,
    geometry: Geometry,
) -> Result<Node, Error> {
    match kind {
        DiskKind::Image if geometry.sector_bytes != 512 => {
            Node::attach(runner, path, None, geometry.sector_bytes)
        }
        _ => Ok(Node::own(path.into())),
    }
}

/// Whether partitions of such a disk have no nodes of their own.
pub(super) fn need_loops(kind: &DiskKind) -> bool {
    match kind {
        DiskKind::Disk(name) => name.starts_with("loop"),
        _ => true,
    }
}

/// Waits until the kernel has nodes for these partitions.
pub(super) fn wait(machine: &Machine, disk: &str, numbers: &[u32]) -> Result<(), Error> {
    const STEP_MS: u64 = 50;
    for _ in 0..NODES_WAIT_MS / STEP_MS {
        if numbers.iter().all(|number| partition(machine, disk, *number).is_some_and(|node| node.exists())) {
            return Ok(());
        }
        // There is no event for a node that somebody else makes, without udev.
        #[allow(clippy::disallowed_methods, reason = "see above")]
        std::thread::sleep(Duration::from_millis(STEP_MS));
    }
    let missing: Vec<String> =
        numbers.iter().filter(|n| partition(machine, disk, **n).is_none()).map(u32::to_string).collect();
    let why = format!("no nodes appeared for its partitions {}: look at dmesg", missing.join(", "));
    Err(Error::Wrong(machine.node(disk), vec![why]))
}

/// The kernel's node of a partition of the disk that it calls `disk`.
#[must_use]
pub fn partition(machine: &Machine, disk: &str, number: u32) -> Option<PathBuf> {
    let all = machine.partitions(disk);
    let name = all.into_iter().find(|name| machine.partition_number(name) == Some(number))?;
    Some(machine.node(&name))
}
