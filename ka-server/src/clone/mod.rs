//! This machine, onto every node that joins.
//!
//! ```text
//! run ── golden: look, plan, show ──▶ files ──▶ streams ──▶ serve ──▶ ka_core::net::serve
//!  │                                              ▲             │
//!  │              barrier: are they all formatted? ──┘◀── notes ───┤
//!  └──────────────── nodes: stages, logs, what they changed ◀───┘
//! ```

mod barrier;
mod config;
mod files;
mod logs;
mod nodes;
mod raw;
mod run;
mod streams;

pub use config::{Config, SESSION, System};
pub use run::{Ready, clone, ready};
