//! KA's small language for disks: a few lines of text say how a disk is partitioned.
//!
//! ```text
//! linux 3500
//! extended fill
//! logical swap 500
//! logical linux fill
//! ```
//!
//! Here are its words as types. There is no reader, no layout and no writing of disks in this crate yet.

mod desc;

pub use desc::{Desc, Kind, Partition, Size};
