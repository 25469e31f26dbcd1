//! KA's small language for disks: a few lines of text say how a disk is partitioned.

pub mod language;
pub mod layout;
pub mod limits;
