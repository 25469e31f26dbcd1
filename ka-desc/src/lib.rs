//! KA's small language for disks: a few lines of text say how a disk is partitioned.

pub mod capture;
pub mod disk;
pub mod language;
pub mod layout;
pub mod limits;
pub mod run;
pub mod show;
pub mod write;
