//! KA's small language for disks: from a few lines of text to a correctly partitioned disk, and never the wrong one.
//!
//! ```text
//! linux 3500                          # a bare number is mebibytes, as in 2001
//! extended fill
//! logical swap 500
//! logical linux fill ext4 mount /var
//! ```
//!
//! Four steps, of which only the last one writes:
//!
//! ```text
//! text ──language──▶ Desc ──layout──▶ Plan ──show──▶ sfdisk script, table, picture, JSON
//!                              ▲         │
//!   machine: what the disk is ─┘         └──write──▶ disk
//! ```
//!
//! - [`language`]: the text, its types, its errors. [`layout`]: which sectors. [`show`]: plans as text. All pure.
//! - [`machine`]: what a disk is, its uses, whether it may be written. Reads only.
//! - [`mod@write`]: the commands. One file of it writes to devices, through a [`run::Runner`] that programs may supply;
//!   another one writes the bytes of boot records, which no command does.
//! - [`private`]: mounts that nobody else sees, and that go with the program. [`mod@capture`]: the way back, from a disk to
//!   its desc. `cli`: the program `ka-desc` (feature `cli`).
//! - [`manifest`]: the plan that a golden node sends its clones. [`boot`]: the pieces of boot records. [`system`]: an
//!   installed system's files. [`used`]: the parts of a file system that are in use. [`error`]: what goes wrong.
//!
//! ```
//! use ka_desc::language::parse;
//! use ka_desc::layout::{Geometry, Plan};
//!
//! let desc = parse("esp 512M\nlinux fill ext4 mount /\nswap 4G\n").unwrap();
//! let disk = Geometry { disk_bytes: 256 << 30, sector_bytes: 512 };
//! let plan = Plan::new(&desc.disks[0], disk, None).unwrap();
//! assert_eq!(plan.partitions[1].start, (1 + 512) * 2048);
//! ```
//!
//! What is absent: LVM, software RAID and LUKS, which are recognised and refused; moving and resizing what is there.

pub mod boot;
pub mod capture;
#[cfg(feature = "cli")]
pub mod cli;
pub mod error;
pub mod language;
pub mod layout;
pub mod limits;
pub mod machine;
pub mod manifest;
pub mod phrases;
pub mod private;
pub mod run;
pub mod show;
pub mod system;
pub mod used;
pub mod write;
