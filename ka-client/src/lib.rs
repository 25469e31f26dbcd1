//! The code that runs on a node: it receives what a golden node streams, and makes machines clones of it.
//!
//! ```text
//! cli ──▶ receive ──▶ ka_core::net::join ──▶ sinks (a command's input, a file, standard output)
//!  │        └──▶ view (what people see), json (what programs read)
//!  └────▶ install ──▶ receive; ka_desc: partition, format, mount ──▶ finish: bootable and distinct
//! ```
//!
//! [`receive`] takes a session's streams. [`install`] is `ka-d-install`: this machine becomes a clone. [`finish`] makes a
//! clone bootable and itself. `cli` has the programs' command lines (feature `cli`); nothing else knows clap.

#[cfg(feature = "cli")]
pub mod cli;
pub mod finish;
pub mod install;
pub mod receive;
