//! The changes that a Linux system needs to start on other hardware, and to have its own identity.
//!
//! [`uuids`]: texts that name file systems. [`initramfs`]: has what the disks need. [`chroot`]: how the clone's programs are
//! run. [`sysprep`]: machine-id, seeds, leases.

pub(super) mod chroot;
pub(super) mod initramfs;
pub(super) mod sysprep;
pub(super) mod uuids;
