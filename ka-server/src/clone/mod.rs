//! This machine, onto every node that joins.
//!
//! ```text
//! ready ── golden: look, plan, show
//! run ── files, raw partitions ──▶ streams ──▶ serve ──▶ ka_core::net::serve
//!  │                                 ▲             │
//!  │     barrier: are they all formatted? ◀── states, notes
//!  └──── nodes: stages, logs, claims, what they changed ◀──┘
//! ```

mod barrier;
mod claims;
mod config;
mod files;
mod logs;
mod nodes;
mod raw;
mod run;
mod streams;

pub use config::{Config, FINISH_TIMEOUT, FORMAT_TIMEOUT, SESSION, System};
pub use run::{Cloning, Ready, Report, clone, ready};
