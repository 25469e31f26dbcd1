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

mod accept;
mod clock;
mod control;
mod data;
pub mod discovery;
mod driver;
mod error;
mod host;
mod incoming;
mod join;
mod link;
mod noise;
mod serve;
mod session;
mod uplink;

pub use error::{JoinError, ServeError};
pub use host::interfaces;
pub use host::memory::default_window_bytes;
pub use host::name::Host;
pub use host::ports::{PortError, Ports, Service};
pub use host::threads::{Start, Threads, Work};
pub use join::{go, join};
pub use noise::identity::{Identity, ServerKey};
pub use serve::serve;
pub use session::{
    Admit, AdmitRule, Candidate, ClientConfig, ClientEvent, Control, Denied, Inbox, NodeEnd, ServerConfig,
    ServerEvent, Stream,
};
