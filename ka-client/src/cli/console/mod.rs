//! A node's session at the console: what people see, what programs are told, and what signals do.
//!
//! `watch` runs it, with `view` for people and [`json`] for programs.

pub mod json;
mod view;
mod watch;

pub use watch::{Config, Received, Told, exit_of, receive};
