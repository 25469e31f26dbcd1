//! The inspection of a golden node. Reads only; an image is mounted in this process's own namespace.
//!
//! [`look`]: everything. [`image`]: a system on an image of a disk. [`open_files`]: what changes while it is read.
//! [`usage`]: how much the files are.

pub mod image;
pub mod look;
pub mod open_files;
pub mod usage;
