//! `ka-d-client`: receives what a golden node streams, hands it to a command or a file, and passes it on.
//!
//! ```text
//! cli ──▶ client ──▶ receive ──▶ ka_core::net::join ──▶ sink (a command's input, a file, standard output)
//!                        └──▶ view (what people see), json (what programs read)
//! ```
//!
//! What it shares with `ka-d-server` is in [`ka_core::console`].

use std::ffi::OsString;

pub mod cli;
mod client;
pub mod finish;
pub mod install;
pub mod json;
mod receive;
pub mod session;
mod view;

use cli::Options;
use ka_core::cli::args;
use ka_core::console::exit::Exit;
use ka_core::console::run;

/// The program's name.
pub const PROGRAM: &str = "ka-d-client";

/// The whole program, from the command line to the exit status.
pub fn main(args: impl IntoIterator<Item = OsString>) -> Exit {
    let options = match Options::parse(args) {
        Ok(options) => options,
        Err(error) => return args::refuse(&error),
    };
    match options.generate.text(Options::command(), &cli::page()) {
        Some(text) => run::print(&text),
        None => run::block_on(PROGRAM, client::run(options)),
    }
}
