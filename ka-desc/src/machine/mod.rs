//! A machine as it is: its disks, what they are, their uses, what is on them, whether one may be written, and what is
//! mounted where. Reads only.
//!
//! ```text
//! /sys, /proc ──sysfs, facts, uses──▶ Facts ──guard──▶ refusals (pure)
//! sfdisk --json, blkid ──probe──▶ Found
//! sda, /dev/disk/by-id/… ──name──▶ which device
//! mountinfo ──▶ lines; a block device ──device──▶ which part of which disk
//! ```

pub mod device;
mod expect;
mod facts;
mod guard;
pub mod mountinfo;
mod name;
mod probe;
mod sysfs;
mod uses;

pub use expect::{Expectation, expectations};
pub use facts::{DiskKind, Facts};
pub use guard::{Conditions, Refusal, refusals};
pub use mountinfo::unescape;
pub use name::{DeviceName, Named};
pub use probe::{contents, found, probe};
pub use sysfs::Machine;
pub use uses::{How, Use};
pub(crate) use uses::{LEFTOVER, mount_point};
