//! An installed system: its files below a root that cannot be left, and what they say of mounts, modules and drivers.
//!
//! [`tree`]: reads and changes files. [`fstab`]: the lines that mount something. [`mount_options`]: how a file system is
//! mounted without a write. [`modules`]: which kernel modules go into a rescue system. [`drivers`]: which ones this
//! machine's hardware needs.

pub mod drivers;
pub mod fstab;
pub mod modules;
pub mod mount_options;
pub mod tree;
