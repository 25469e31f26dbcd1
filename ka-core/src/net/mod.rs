//! The sockets: what moves the bytes, once `proto` has decided where.
//!
//! - [`serve`] runs a server's session, [`join`] a node's. Both are futures for the caller's own runtime.
//! - `driver` is the run loop of both, and the only one. It owns the machines and the data plane (`relay`, with a
//!   `child` for each connection), in one task, so that a block is read, checked and forwarded without a hand-off.
//! - `control`, `link` and `discovery` say hello; `ends` runs sources and sinks on threads of their own,
//!   because they block. Nothing else does.
//!
//! Nothing here decides who is whose parent, or what may be forgotten.

// The one place where a clock is read: everything else gets its time as an argument.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod again;
mod child;
mod client;
mod clock;
mod connect;
mod control;
pub mod discovery;
mod door;
mod driver;
mod ends;
mod error;
mod handshake;
mod host;
mod identity;
mod incoming;
pub mod interfaces;
mod line;
mod link;
mod memory;
mod pairing;
mod pool;
mod ports;
mod refused;
mod relay;
mod root;
mod seek;
mod server;
mod session;
mod socket;
mod tape;
mod threads;
mod transport;
mod words;

pub use client::{go, join};
pub use error::{JoinError, ServeError};
pub use host::Host;
pub use identity::{Identity, ServerKey};
pub use memory::default_window_bytes;
pub use ports::{PortError, Ports, Service};
pub use server::serve;
pub use session::{
    Admit, AdmitRule, Candidate, ClientConfig, ClientEvent, Control, Inbox, NodeEnd, ServerConfig,
    ServerEvent, Stream,
};
pub use threads::{Start, Threads, Work};
