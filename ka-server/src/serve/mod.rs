//! Serves one session, whatever its streams are, and says what became of each node.
//!
//! ```text
//! Config, Serving ──▶ run ──▶ ka_core::net::serve ◀── streams
//!            ├──▶ status (what people see), report (what they read at the end), json (what programs read)
//!            ├──▶ invite (how nodes join)
//!            └──▶ control_socket, keyboard (what may be said to a running session)
//! ```

mod config;
mod control_socket;
mod invite;
pub mod json;
mod keyboard;
mod report;
mod run;
mod status;

pub use config::{Config, Serving, Words};
pub use run::serve;
