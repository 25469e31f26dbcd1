//! The plan of the clones: the admin's choices, and what follows. Pure, but for the files that [`choice`] reads.
//!
//! [`choice`]: what was said. [`make`]: the manifest that follows, by way of [`scope`] (what is cloned), [`describe`] (the
//! desc), [`sizes`] (what a disk must have) and [`boot`] (what starts a clone). [`show`]: for people and programs.

pub mod boot;
pub mod choice;
pub mod describe;
pub mod make;
pub mod scope;
pub mod show;
pub mod sizes;

pub use make::{Planned, plan};
