//! The clone that is finished, and what it is made from.

use std::path::Path;

use ka_desc::error::Error;
use ka_desc::machine::Machine;
use ka_desc::manifest::{Firmware, Manifest};
use ka_desc::write::Prepared;

/// A clone whose bytes are all there.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The plan that the clone is made by.
    pub plan: &'a Manifest,
    /// The mount point of the clone.
    pub root: &'a Path,
    /// Its disks, in the plan's order.
    pub disks: &'a [Prepared],
    /// The node.
    pub machine: &'a Machine,
    /// The firmware that started the node.
    pub firmware: Firmware,
}

impl Target<'_> {
    /// The disk that the desc calls `name`.
    pub(super) fn disk(&self, name: &str) -> Result<&Prepared, Error> {
        disk(self.plan, self.disks, name)
    }

    /// Returns the mount point of the EFI system partition in the clone.
    pub(super) fn esp(&self) -> Option<String> {
        self.plan.boot.uefi.as_ref().map(|uefi| uefi.mount.clone())
    }
}

pub(super) fn disk<'a>(plan: &Manifest, disks: &'a [Prepared], name: &str) -> Result<&'a Prepared, Error> {
    let at = plan.disks.iter().position(|facts| facts.name == name);
    at.and_then(|at| disks.get(at))
        .ok_or_else(|| format!("this node has no disk for the plan's {name}").into())
}
