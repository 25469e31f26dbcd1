//! The boot code of a clone: everything that runs before its system.
//!
//! [`records`]: boot code and loaders on the disks. [`grub`]: the clone's own GRUB tools. [`uefi`]: the fallback's path, and
//! the machine's boot entry.

pub(super) mod grub;
pub(super) mod records;
pub(super) mod uefi;
