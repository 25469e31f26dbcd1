//! A served session at the console: what people see, what programs are told, and what may be said to it meanwhile.
//!
//! ```text
//! Serving ──▶ watch ──▶ an engine: serve, clone
//!              ├──▶ status (what people see), report (what they read at the end), json (what programs read)
//!              ├──▶ invite (how nodes join)
//!              └──▶ control_socket, keyboard (what may be said to a running session)
//! ```

mod control_socket;
mod invite;
pub mod json;
mod keyboard;
mod limit;
mod report;
mod serving;
mod status;
mod watch;

pub use serving::{Outlets, Serving, Words};
pub use watch::{Told, serve};
