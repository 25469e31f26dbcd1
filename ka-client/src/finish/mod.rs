//! When all bytes are there: a clone is made bootable, and distinct from the golden node.
//!
//! ```text
//! records    boot code and loader to each disk          ┐
//! uuids      texts that speak of UUIDs                  │
//! initramfs  has what this node's disks need            ├─ then it boots
//! install    -r grub: the clone's own tools             │
//! uefi       the fallback's path, the boot entry        ┘
//! distinct   machine-id, seeds, leases                  ── then it is itself
//! ```
//!
//! The clone's own tools come after the texts that they read, and what is copied from the EFI system partition after
//! what they put there. `mark` comes last of all, when everything is on the disk. `tree` is how all of that touches files:
//! below the clone's root and nowhere else. `inside` is how the clone's programs are run. `hardware` says what this node's
//! devices need.
//!
//! What is absent: names. A clone has the golden node's host name and its ssh host keys until the admin gives it
//! others.

mod distinct;
mod initramfs;
mod inside;
mod install;
pub(crate) mod mark;
mod records;
mod uefi;
mod uuids;

use std::path::Path;

use ka_desc::machine::Machine;
use ka_desc::manifest::{Firmware, Plan};
use ka_desc::run::Runner;
use ka_desc::system::tree::Tree;
use ka_desc::write::Prepared;
pub(crate) use records::misfits;

/// A clone whose bytes are all there.
#[derive(Clone, Copy, Debug)]
pub struct Clone<'a> {
    /// What it becomes.
    pub plan: &'a Plan,
    /// Where it is mounted.
    pub root: &'a Path,
    /// Its disks, in the plan's order.
    pub disks: &'a [Prepared],
    /// The node.
    pub machine: &'a Machine,
    /// What started the node.
    pub firmware: Firmware,
}

impl Clone<'_> {
    /// The disk that the desc calls `name`.
    fn disk(&self, name: &str) -> Result<&Prepared, String> {
        disk(self.plan, self.disks, name)
    }

    /// Where the EFI system partition is mounted in the clone.
    fn esp(&self) -> Option<String> {
        self.plan.boot.uefi.as_ref().map(|uefi| uefi.mount.clone())
    }
}

fn disk<'a>(plan: &Plan, disks: &'a [Prepared], name: &str) -> Result<&'a Prepared, String> {
    let at = plan.disks.iter().position(|facts| facts.name == name);
    at.and_then(|at| disks.get(at)).ok_or_else(|| format!("this node has no disk for the plan's {name}"))
}

/// Makes a clone bootable and distinct, and gives the intended differences to the golden node, a sentence each. `boot`
/// are the bytes of the stream `boot`; `tell` hears what is done, and what might be wrong.
///
/// # Errors
/// A sentence: the clone would not boot, or a change could not be made. What the clone's programs needed of the node
/// is taken away again in any case.
pub fn finish(
    clone: &Clone<'_>,
    boot: &[u8],
    runner: &mut dyn Runner,
    tell: &mut dyn FnMut(&str),
) -> Result<Vec<String>, String> {
    let tree = Tree::open(clone.root, "the clone")?;
    let uuids = uuids::changes(clone, runner)?;
    uuids::refuse_built_in(clone, &tree, &uuids)?;
    records::write(clone, boot, runner, tell)?;
    let mut changed = uuids::rewrite(clone, &tree, &uuids)?;
    if !clone.plan.boot.firmware.is_empty() {
        install::prepare(clone, runner)?;
        let install = clone.plan.boot.install.as_ref();
        let wanted = install.map(|install| install::modules(&install.args).0).unwrap_or_default();
        changed.extend(inside::inside(clone, &tree, runner, tell, |inside, tell| {
            let mut changed = initramfs::fit(clone, &tree, inside, &wanted, !uuids.is_empty(), tell)?;
            changed.extend(install::run(clone, &tree, inside, tell)?);
            Ok(changed)
        })?);
    }
    if let Some(uefi) = &clone.plan.boot.uefi {
        changed.extend(uefi::fall_back(&tree, uefi, &uuids)?);
        if clone.firmware == Firmware::Uefi {
            uefi::enter(clone, uefi, runner, tell);
        }
    }
    changed.extend(distinct::make(&tree, clone.esp().as_deref())?);
    Ok(changed)
}

#[cfg(test)]
mod tests;
