//! The session's brain: who is in, when it starts, who feeds whom, who is lost, who may go, how it ended.
//!
//! ```text
//!   Gathering ──gate──▶ Streaming ──all ended──▶ Draining ──all gone──▶ Done
//!       │ stopped            │ stopped                ▲
//!       └────────────────────┴──────────────────────-─┘
//! ```
//!
//! Peers report, the coordinator decides. What it shows of a node at the end comes from that node's own receipt,
//! or says why there is none: nobody is OK by assumption.
//!
//! - [`tree`]: who feeds whom, with handovers and retention; it cannot be wrong. [`member`]: one node, in five parts.
//!   [`roster`]: all of them.
//! - Deciders, which see and change no more than they are given: `placement` (who can feed a node), `liveness` (who is
//!   silent), `slowness` (who holds up the others), `deferred` (who is served after them), `stability` (what may be
//!   evicted), `trust` (whose word counts against whom), `outcome` (who is still needed).
//! - `state`: the machine, its inputs and outputs. `act`: what it does.

mod act;
mod config;
mod deferred;
mod liveness;
pub mod member;
mod outcome;
mod placement;
pub mod roster;
mod slowness;
mod stability;
mod state;
#[cfg(test)]
mod tests;
pub mod tree;
mod trust;

pub use config::{Config, Slow};
pub use member::{Conn, Member};
pub use roster::Roster;
pub use state::{Coordinator, Input, Output};
pub use tree::Tree;
