//! `ka-d clone`: this machine, onto every node that joins.
//!
//! ```text
//! cli ──▶ run ── golden: look, plan, show ──▶ files ──▶ streams ──▶ serve ──▶ ka_core::net::serve
//!          │                                              ▲             │
//!          │              gate: are they all formatted? ──┘◀── notes ───┤
//!          └──────────────── nodes: stages, logs, what they changed ◀───┘
//! ```

pub mod cli;
mod files;
mod gate;
mod logs;
mod nodes;
mod raw;
mod run;
mod streams;

pub use run::run;

/// The program's name.
const PROGRAM: &str = "ka-d clone";
