//! The golden node: what it is, how its files are held still, and what its clones become.
//!
//! ```text
//! /proc, /sys, tables, fstab ──look──▶ Golden ──plan (pure)──▶ Planned ──show──▶ table, picture, JSON
//!                                         ▲                       │
//!       an image, mounted (image) ────────┘                       └──▶ private, still: the files, ready for tar
//! ```
//!
//! - [`facts`]: the nouns. [`look`]: how they are found; [`mountinfo`], [`device`], [`fstab`], [`image`] are its parts.
//! - [`choice`]: what the admin typed, and what the directories [`weigh`] that it leaves out. [`mod@plan`]: what follows from both; [`scope`], [`describe`], [`fit`] and [`boot`]
//!   are its parts. All of it is pure but for the files that [`choice`] reads.
//! - [`private`]: a mount namespace that goes with the process. [`still`]: the files in it. [`snapshot`], [`quiesce`] and
//!   [`awake`]: what is done to the golden node meanwhile, and undone. [`busy`]: what changes while it is read.
//!
//! What is absent: LVM, software RAID and LUKS, which are refused; snapshots of anything but btrfs.

pub mod awake;
pub mod boot;
pub mod busy;
pub mod choice;
pub mod describe;
pub mod facts;
pub mod fit;
pub mod image;
pub mod look;
pub mod plan;
pub mod private;
pub mod quiesce;
pub mod scope;
pub mod show;
pub mod snapshot;
pub mod still;
pub mod weigh;
