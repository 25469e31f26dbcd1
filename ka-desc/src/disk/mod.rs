//! Disks as they are: what they are, who uses them, what is on them, and whether one may be written. Reads only.
//!
//! ```text
//! /sys, /proc ──machine──▶ Facts ──guard──▶ refusals (pure)
//! sfdisk --json, blkid ──probe──▶ Found
//! sda, /dev/disk/by-id/… ──name──▶ which device
//! ```

mod expect;
mod guard;
mod machine;
mod name;
mod probe;
mod uses;

pub use expect::{Expectation, expectations};
pub use guard::{Conditions, Refusal, refusals};
pub use machine::{Facts, Machine, Sort};
pub use name::{DeviceName, Named};
pub use probe::{contents, found, probe};
pub(crate) use uses::LEFTOVER;
pub use uses::{How, Use, unescape};
