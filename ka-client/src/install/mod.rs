//! `ka-d-install`: makes this machine a clone of a golden node.
//!
//! ```text
//! cli ──▶ run ── early: what is known of this machine before it joins; own: is it a clone already?
//!          │
//!          ├──▶ receive ──▶ sinks ──▶ work ── prepare: disks (which one?), ka_desc (may it be? write it), mount
//!          │                              └──── finish: boot records, what makes it bootable and distinct, unmount
//!          └──▶ log: the console, a file, and the golden node hear the same
//! ```
//!
//! Every refusal comes before anything is written, and before the session is joined if it does not depend on the plan. A
//! later failure is this node's alone: it goes on passing the streams to others.
//!
//! All of it happens in a mount namespace of its own, which takes mounts and loop devices with it, also after a `kill -9`.

use std::ffi::OsString;
use std::io;

use ka_desc::private;

mod check;
pub mod cli;
mod disks;
mod early;
mod log;
mod own;
mod raw;
mod run;
mod sinks;
mod unpack;
mod work;

use cli::Options;
use ka_core::cli::args;
use ka_core::console::exit::Exit;
use ka_core::console::run as runtime;

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
        // Threads that are there already would stay outside.
        None => match private::enter() {
            Ok(()) => runtime::block_on(PROGRAM, run::run(options)),
            Err(e) => {
                let why = format!("no mount namespace is to be had: {e}: run it as root");
                runtime::no_start(PROGRAM, &io::Error::new(e.kind(), why))
            }
        },
    }
}
