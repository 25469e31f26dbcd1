//! The language: text to [`Desc`] and back. Pure.
//!
//! ```text
//! text ──lex──▶ words ──parse──▶ Desc ──check──▶ Desc without faults ──print──▶ text
//!                        └──────────────┴──▶ Problems: line, column, caret, the way out; all at once
//! ```
//!
//! `LANGUAGE.md` is its manual. Nothing here knows how large a disk is: [`crate::layout`] does.

pub mod bytes;
mod check;
mod desc;
mod guid;
mod lex;
mod line;
mod parse;
mod print;
mod problem;
mod words;

pub(crate) use check::unprintable;
pub use check::{Fault, Field, Place, faults};
pub use desc::{Action, Desc, Disk, LEGACY_BOOT_BIT, Partition, Size, Subvolume, TableId};
pub use guid::{Guid, NotAGuid};
pub use parse::{VERSION, parse};
pub use problem::{Problem, Problems, Span};
pub use words::{Fs, Kind, Table};
