//! The options that programs around a session share. The only part of this crate that knows clap.
//!
//! [`args`]: where to listen, what to report, and what a wrong command line is told. [`key`]: what lets a node in.

pub mod args;
pub mod key;
