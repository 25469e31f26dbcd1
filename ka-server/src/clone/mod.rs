//! `ka-d clone`: this machine, onto every node that joins.
//!
//! ```text
//! cli ──▶ run ── golden: look, plan, show ──▶ files ──▶ streams ──▶ serve ──▶ ka_core::net::serve
//!          │                                              ▲             │
//!          │              gate: are they all formatted? ──┘◀── notes ───┤
//!          └──────────────── nodes: stages, logs, what they changed ◀───┘
//! ```

use std::ffi::OsString;

pub mod cli;
mod files;
mod gate;
mod nodes;
mod run;
mod streams;

use cli::Options;
use ka_client::console::args;
use ka_client::console::exit::Exit;

/// The program's name.
pub const PROGRAM: &str = "ka-d clone";

/// The whole program, from the command line to the exit status. It must be called before there is a second thread.
pub fn main(args: impl IntoIterator<Item = OsString>) -> Exit {
    match Options::parse(args) {
        Ok(options) => run::run(options),
        Err(error) => args::refuse(&error),
    }
}
