//! The configuration of a session.

use crate::crypto::link_keys::LinkKey;
use crate::crypto::payload::PayloadKey;
use crate::time::Duration;
use crate::types::{SessionId, SessionName};

/// The configuration of a session.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its identity.
    pub session: SessionId,
    /// Its name; without one it is found by the server's address only.
    pub name: Option<SessionName>,
    /// The public key its tape is signed with.
    pub key: [u8; 32],
    /// The key its payload is encrypted with.
    pub payload: PayloadKey,
    /// The key from which those of its data links are derived; `None`: the session is insecure, and they have none.
    pub links: Option<LinkKey>,
    /// The gate: it starts when so many nodes are in.
    pub nodes: u32,
    /// Children per node: 1 makes a chain.
    pub fan_out: u32,
    /// The session also starts this long after it was opened …
    pub start_after: Option<Duration>,
    /// … if at least so many nodes are in, or as soon as they are.
    pub min_nodes: u32,
    /// The policy for a node that holds up all others.
    pub slow: Slow,
    /// Bytes per second that are never too slow; without it a quarter of what the others can take.
    pub min_rate: Option<u64>,
    /// The time for which the sink of a node that has everything may be at work on it; `None`: as long as any other.
    pub finish: Option<Duration>,
    /// Bytes per second that the server's own link carries, if that is known.
    pub carries: Option<u64>,
    /// Bytes per second that it may send at most, if that is limited.
    pub rate: Option<u64>,
    /// Bytes of all streams together, if that is known.
    pub bytes: Option<u64>,
    /// The root can read its source again: a node that lacks what windows have evicted is served after the others.
    pub reread: bool,
    /// The pause between two nodes that are let go after having waited.
    pub release_delay: Duration,
    /// The port of the server's own data listener.
    pub data_port: u16,
}

impl Config {
    /// Bytes per second that the server can send, and may.
    pub(super) fn carries(&self) -> Option<u64> {
        [self.carries, self.rate].into_iter().flatten().min()
    }
}

/// The policy for a node that holds up all others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Slow {
    /// Wait for it, for ever.
    Wait,
    /// Go on without it if it is stuck, or far slower than it may be, for [`limits::BYPASS_AFTER`](crate::limits::BYPASS_AFTER).
    #[default]
    Bypass,
    /// The same after [`limits::STUCK_AFTER`](crate::limits::STUCK_AFTER).
    Drop,
}
