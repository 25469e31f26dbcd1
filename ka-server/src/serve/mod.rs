//! Serves one session, whatever its streams are.
//!
//! ```text
//! Config, streams ──▶ run ──▶ ka_core::net::serve
//!                      └────▶ progress, as it happens; the report, at the end
//! ```
//!
//! Beyond [`ka_core::net::serve`]: the keys come from files, the limit on open files is raised to what the
//! nodes need, and the session runs on a thread with next to no rights ([`ka_core::console::privileges`]).

mod config;
mod run;

pub use config::Config;
pub use run::{Progress, serve};
