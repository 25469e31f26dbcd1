//! The decisions. No IO, no clock, no randomness: what happened goes in, what is wanted comes out. `BEHAVIOUR.md` says
//! the same clause by clause.
//!
//! ```text
//!      Input ──▶ handle(now, input) ──▶ poll() ──▶ Output … Output, Wait(when)
//! ```
//!
//! **The contract of the run loop**, kept by `net::driver` and `sim::world` alike: after each `handle`, call
//! `poll` until it says `Wait`; then sleep until that instant or the next input, whichever comes first. A
//! timeout too early or too often does nothing.
//!
//! - [`Coordinator`]: the session's brain, one per session, in the server. Its parts: the gate and what nodes say;
//!   repair; slow nodes; the end.
//! - [`Node`]: one relay. The server's own is the root of the tree; its parent is the source.
//! - [`Window`]: positions only: how far the parent may send, what may be forwarded, what may be forgotten.
//! - [`topology`]: who is whose parent at the start. [`throughput`]: how
//!   fast a node is, and what holds it. [`arrival`]: whether anything reaches it. [`release`]: who may leave when.
//! - [`rate_limit`]: the rate limit. [`timer`]: what is waited for. [`event`]: what an application sees.
//!
//! Offsets pass through here, bytes do not: a decision costs the same for one byte and for a thousand
//! blocks, and a simulated node costs bytes instead of a whole window.

pub mod arrival;
pub mod coordinator;
pub mod event;
pub mod node;
pub mod rate_limit;
pub mod release;
pub mod throughput;
pub mod timer;
pub mod topology;
pub mod window;

pub use coordinator::Coordinator;
pub use event::{Event, NodeReport, Report};
pub use node::Node;
pub use window::Window;
