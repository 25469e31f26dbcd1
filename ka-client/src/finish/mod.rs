//! When all bytes are there: a clone is made bootable, and distinct from the golden node.
//!
//! ```text
//! records    boot code and loader to each disk          ┐
//! uuids      texts that speak of UUIDs                  │
//! initramfs  has what this node's disks need            ├─ then it boots
//! grub       -r grub: the clone's own tools             │
//! uefi       the fallback's path, the boot entry        ┘
//! sysprep    machine-id, seeds, leases                  ── then it is itself
//! ```
//!
//! The clone's own tools come after the texts that they read, and what is copied from the EFI system partition after
//! what they put there. `mark` comes last of all, when everything is on the disk. `linux::chroot` is how
//! the clone's programs are run. All of it touches files below the clone's root and nowhere else
//! ([`Tree`]).
//!
//! What is absent: names. A clone has the golden node's host name and its ssh host keys until the admin gives it
//! others.

mod boot;
mod linux;
pub(crate) mod mark;
mod remark;
mod target;

use boot::{grub, records, uefi};
use ka_desc::error::Error;
use ka_desc::manifest::Firmware;
use ka_desc::run::Runner;
use ka_desc::system::tree::Tree;
use linux::{chroot, initramfs, sysprep, uuids};

pub(crate) use boot::records::misfits;
pub use remark::Remark;
pub use target::Target;

/// Makes a clone bootable and distinct, and gives the intended differences to the golden node, a sentence each. `boot`
/// are the bytes of the stream `boot`; `tell` hears what is done, and what might be wrong.
///
/// # Errors
/// A sentence: the clone would not boot, or a change could not be made. What the clone's programs needed of the node
/// is taken away again in any case.
pub fn finish(
    clone: &Target<'_>,
    boot: &[u8],
    runner: &mut dyn Runner,
    tell: &mut dyn FnMut(Remark<'_>),
) -> Result<Vec<String>, Error> {
    let tree = Tree::open(clone.root, "the clone")?;
    let uuids = uuids::changes(clone, runner)?;
    uuids::refuse_built_in(clone, &tree, &uuids)?;
    records::write(clone, boot, runner, tell)?;
    let mut changed = uuids::rewrite(clone, &tree, &uuids)?;
    if !clone.plan.boot.firmware.is_empty() {
        grub::prepare(clone, runner)?;
        let install = clone.plan.boot.install.as_ref();
        let wanted = install.map(|install| grub::modules(&install.args).0).unwrap_or_default();
        changed.extend(chroot::inside(clone, &tree, runner, tell, |inside, tell| {
            let mut changed = initramfs::fit(clone, &tree, inside, &wanted, !uuids.is_empty(), tell)?;
            changed.extend(grub::run(clone, &tree, inside, tell)?);
            Ok(changed)
        })?);
    }
    if let Some(uefi) = &clone.plan.boot.uefi {
        changed.extend(uefi::fall_back(&tree, uefi, &uuids)?);
        if clone.firmware == Firmware::Uefi {
            uefi::enter(clone, uefi, runner, tell);
        }
    }
    changed.extend(sysprep::make(&tree, clone.esp().as_deref())?);
    Ok(changed)
}

#[cfg(test)]
mod tests;
