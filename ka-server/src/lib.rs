//! `ka-d-server`: streams one golden node's bytes to many `ka-d-client`s, and says what became of each.
//!
//! ```text
//! cli ──▶ server ──▶ serve ──▶ ka_core::net::serve ◀── source (a command's output, a file, standard input)
//!            ├──▶ board (what people see), report (what they read at the end), json (what programs read)
//!            ├──▶ invite (how nodes join)
//!            └──▶ socket, keyboard (what may be said to a running session)
//! ```
//!
//! The same crate has [`ka_d`], the program for the golden node: [`mod@clone`] serves its clones, of which [`golden`] knows
//! what they become; [`rescue`] makes what nodes boot.
//!
//! What it has in common with `ka-d-client` is in [`ka_core::console`].

use std::ffi::OsString;

mod board;
pub mod cli;
pub mod clone;
pub mod golden;
mod invite;
pub mod json;
pub mod ka_d;
mod keyboard;
mod keys;
mod report;
pub mod rescue;
mod serve;
mod server;
pub mod session;
mod socket;

use cli::Options;
use ka_core::cli::args;
use ka_core::console::exit::Exit;
use ka_core::console::run;

/// The program's name.
pub const PROGRAM: &str = "ka-d-server";

/// The whole program, from the command line to the exit status.
pub fn main(args: impl IntoIterator<Item = OsString>) -> Exit {
    let options = match Options::parse(args) {
        Ok(options) => options,
        Err(error) => return args::refuse(&error),
    };
    match options.generate.text(Options::command(), &cli::page()) {
        Some(text) => run::print(&text),
        None => run::block_on(PROGRAM, server::run(options)),
    }
}
