//! Holds files still while they are packed; what is done to the golden node for that is undone.
//!
//! [`tree`]: the files, at one moment if that is to be had. [`snapshot`]: of btrfs. [`quiesce`]: the admin's own commands.
//! [`inhibit`]: no sleep, no package managers.

pub mod inhibit;
pub mod quiesce;
pub mod snapshot;
pub mod tree;
