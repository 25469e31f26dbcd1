//! A world of simulated nodes: the real state machines, an invented network, no clock and no byte of payload.
//!
//! ```text
//!            ┌──────────── World ─────────────────────────────────────────────┐
//!   Setup ──▶│ Clock ── next event ─▶ Coordinator, Node … ── outputs ─▶ Clock │──▶ Report, Trace
//!   Faults ─▶│                             ▲ Checker looks at every step      │    or a Violation
//!            └────────────────────────────────────────────────────────────────┘
//! ```
//!
//! [`World`] does what `net` does: it carries control messages in order, opens data links, moves whole blocks
//! over them, feeds sinks from windows and the root's window from a source. Whatever is decided is decided by the
//! one real [`Coordinator`](crate::proto::Coordinator) and the real [`Node`](crate::proto::Node)s.
//!
//! ## A run, and how to repeat it
//! ```
//! use ka_core::sim::{Fault, World, ms};
//!
//! let world = World::chain(5).stream(8 << 20).with(Fault::Kill { node: 3, at: ms(20) }).run();
//! assert!(world.outcome(2).is_ok() && !world.outcome(4).is_ok());
//! ```
//! There is one thread, one seed and one heap of events ordered by time and then by number, so that the same world
//! runs the same way every time. A [`Violation`] names the checker that saw it and the command that repeats the
//! run. [`World::traced`] records what happened, one event a line, in three columns: the time, who (`ka` the
//! coordinator, `0` the root, else the host's number), and what.
//!
//! ## Where to look
//! [`world`]: a story's words, and what can be asked after a run. `run`: from event to input, from output to event.
//! [`network`]: data links and the tape. `ends`: source and sinks. `host`: one machine. [`fault`]: what goes wrong.
//! [`checker`]: what must hold. `clock`: the heap. [`trace`]: the record.
//!
//! ## What is absent
//! Payload, hashes and signatures (a block is a number here; [`seal`](crate::seal) has tests of its own), discovery,
//! lost packets (TCP hides them), and machines that share one network card: each data link has a rate of its own.

pub mod checker;
mod clock;
mod ends;
pub mod fault;
mod host;
pub mod network;
mod rng;
mod run;
pub mod trace;
pub mod world;

pub use checker::Violation;
pub use fault::{Fault, Plan};
pub use trace::Trace;
pub use world::World;

use crate::time::Duration;

/// So many milliseconds, for stories.
#[must_use]
pub const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// So many seconds, for stories.
#[must_use]
pub const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}
