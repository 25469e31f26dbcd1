//! `ka-d-install`: makes this machine a clone of a golden node.
//!
//! ```text
//! cli ──▶ run ──▶ receive ──▶ sinks ──▶ work ── prepare: disks (which one?), ka_desc (may it be? write it), mount
//!          │                              └──── finish: boot records, what makes it bootable and distinct, unmount
//!          └──▶ log: the console, a file, and the golden node hear the same
//! ```
//!
//! Whatever is refused is refused before anything is written. Whatever fails later fails this node alone: it goes on
//! passing the streams to others.

use std::ffi::OsString;

mod check;
pub mod cli;
mod disks;
mod log;
mod own;
mod raw;
mod run;
mod sinks;
mod unpack;
mod work;

use crate::console::exit::Exit;
use crate::console::{args, run as runtime};
use cli::Options;

/// The program's name.
pub const PROGRAM: &str = "ka-d-install";

/// The whole program, from the command line to the exit status.
pub fn main(args: impl IntoIterator<Item = OsString>) -> Exit {
    let options = match Options::parse(args) {
        Ok(options) => options,
        Err(error) => return args::refuse(&error),
    };
    match options.generate.text(Options::command(), &cli::page()) {
        Some(text) => runtime::print(&text),
        None if options.check => check::check(),
        None => runtime::block_on(PROGRAM, run::run(options)),
    }
}
