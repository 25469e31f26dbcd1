//! The code that runs on, or beside, the golden node: it serves the node's bytes, and makes clones of it.
//!
//! ```text
//! cli ──▶ serve ──▶ ka_core::net::serve            any stream, to any number of nodes
//!  ├────▶ clone ──▶ golden, serve                  this machine, onto every node that joins
//!  └────▶ rescue                                   the system that nodes boot
//! ```
//!
//! [`serve`] runs one session. [`golden`] knows what a golden node is and what its clones become. [`mod@clone`] serves its
//! clones. [`rescue`] builds what nodes boot. [`keys`]: what lets nodes in. `cli` has the programs' command lines (feature
//! `cli`); nothing else knows clap.

#[cfg(feature = "cli")]
pub mod cli;
pub mod clone;
pub mod golden;
pub mod keys;
pub mod rescue;
pub mod serve;
