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
mod control;
pub mod discovery;
mod door;
mod driver;
mod ends;
mod error;
mod handshake;
mod host;
mod identity;
pub mod interfaces;
mod line;
mod link;
mod memory;
mod pairing;
mod pool;
mod ports;
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

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

pub use client::{go, join};
pub use error::{JoinError, PortError, ServeError, Service};
pub use host::Host;
pub use identity::{Identity, ServerKey};
pub use memory::default_window_bytes;
pub use server::serve;
pub use session::{
    Admit, AdmitRule, Candidate, ClientConfig, ClientEvent, Control, Inbox, NodeEnd, Ports, ServerConfig,
    ServerEvent, Stream,
};
pub use threads::{Start, Threads, Work};

use crate::time::Instant;
use session::Command;

/// The process's monotonic clock, counted from the session's start.
#[derive(Clone, Copy, Debug)]
struct Clock(tokio::time::Instant);

impl Clock {
    fn start() -> Self {
        Self(tokio::time::Instant::now())
    }

    fn now(self) -> Instant {
        Instant(u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// When `at` is, for the runtime's timer; far away for "never".
    fn when(self, at: Instant) -> tokio::time::Instant {
        const FAR: u64 = 3_600_000_000_000;
        let from_now = at.0.saturating_sub(self.now().0).min(FAR);
        tokio::time::Instant::now() + std::time::Duration::from_nanos(from_now)
    }
}

/// Runs `work` unless the inbox says stop first: then who stopped it.
async fn unless_stopped<T>(inbox: &mut Inbox, work: impl Future<Output = T>) -> Result<T, String> {
    let mut work = pin!(work);
    poll_fn(|cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(Ok(done));
        }
        while let Poll::Ready(Some(command)) = inbox.0.poll_recv(cx) {
            if let Command::Stop(who) = command {
                return Poll::Ready(Err(who));
            }
        }
        Poll::Pending
    })
    .await
}
