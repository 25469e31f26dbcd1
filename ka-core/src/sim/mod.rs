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
//! assert!(world.outcome(2).is_ok() && !world.outcome(3).is_ok() && world.outcome(4).is_ok());
//! ```
//! There is one thread, one seed and one heap of events ordered by time and then by number, so that the same world
//! runs the same way every time. A [`Violation`] names the checker that saw it and the command that repeats the
//! run. [`World::traced`] records what happened, one event a line, in three columns: the time, who (`ka` the
//! coordinator, `0` the root, else the host's number), and what.
//!
//! ## Where to look
//! [`world`]: a story's words, and what can be asked after a run. `run`: from event to input, from output to event.
//! [`network`]: data links and the tape. `control`: the connections to the server. `path`: cuts. `ends`: source and
//! sinks. `host`: one machine. [`fault`]: what goes wrong, and `harm`: how. [`lie`]: what
//! liars say, and `said`: how. [`plan`]: many faults. [`checker`]: what
//! must hold during a run, `verdict`: at its end. [`marks`]: what a run has shown. `clock`: the heap. [`trace`]: the
//! record.
//!
//! ## What is absent
//! Payload, hashes and signatures (a block is a number here; [`tape::chain`](crate::tape::chain) has tests of its own), discovery,
//! lost packets (TCP hides them, and makes a cut a delay), the room in a kernel's buffers (a cut link takes what the
//! child has granted), and, unless [`World::card`] says otherwise, that links share their sender's network card.

pub mod checker;
mod clock;
mod control;
mod ends;
pub mod fault;
mod harm;
mod host;
pub mod lie;
mod link;
pub mod marks;
pub mod network;
mod path;
pub mod plan;
mod rng;
mod run;
mod said;
pub mod tape;
pub mod trace;
mod verdict;
pub mod world;

pub use checker::Violation;
pub use fault::Fault;
pub use lie::Lie;
pub use marks::Marks;
pub use plan::Plan;
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
