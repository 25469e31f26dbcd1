//! The golden node: what it is, how its files are held still, and what its clones become.
//!
//! ```text
//! /proc, /sys, tables, fstab ──inspect──▶ Golden ──plan (pure)──▶ Planned ──show──▶ table, picture, JSON
//!                                                                   │
//!                                                                   └──▶ freeze: the files, ready for tar
//! ```
//!
//! - [`facts`]: the nouns. [`inspect`] finds them. [`plan`]: what follows from them and from what the admin said.
//! - [`private`]: a mount namespace that goes with the process. [`freeze`] holds the files still in it.
//!
//! What is absent: LVM, software RAID and LUKS, which are refused; snapshots of anything but btrfs.

pub mod facts;
pub mod freeze;
pub mod inspect;
pub mod plan;
pub mod private;
