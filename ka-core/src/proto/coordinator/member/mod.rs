//! One node of the session, in five parts: who it is, whether it is heard, what it has, how fast it is, how it ended.
//!
//! `identity`, `presence`, `delivery`, `pace`, `ending`. Who feeds it is not here but in the
//! [`tree`](super::tree).

mod delivery;
mod ending;
mod identity;
mod pace;
mod presence;

use core::net::SocketAddr;

use delivery::Delivery;
use ending::Ending;
pub use identity::{Conn, Identity};
use pace::Pace;
use presence::Presence;
pub(crate) use presence::{Cause, HOLE};

use crate::limits;
use crate::proto::arrival::Arrival;
use crate::proto::event::NodeReport;
use crate::proto::throughput::Throughput;
use crate::time::{Duration, Instant};
use crate::types::NodeId;
use crate::wire::control::{Outcome, Progress};

/// One node of the session.
#[derive(Clone, Debug)]
pub struct Member {
    pub(super) identity: Identity,
    pub(super) presence: Presence,
    pub(super) delivery: Delivery,
    pub(super) pace: Pace,
    pub(super) ending: Ending,
}

impl Member {
    /// A node that has just come: nothing is known of it but where it is.
    #[must_use]
    pub fn new(now: Instant, identity: Identity) -> Self {
        Self {
            presence: Presence::new(now),
            delivery: Delivery::new(now),
            pace: Pace::new(now),
            ending: Ending::default(),
            identity,
        }
    }

    /// The node's number.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.identity.node
    }

    /// The address of the node's data listener, as the server sees it.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.identity.addr
    }

    /// The host's own name for itself.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.identity.label
    }

    /// What the node's application has said of itself.
    #[must_use]
    pub fn about(&self) -> &[u8] {
        &self.identity.about
    }

    /// The number that the node made at its start.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.identity.incarnation
    }

    /// The node's outcome, if it has ended.
    #[must_use]
    pub fn outcome(&self) -> Option<&Outcome> {
        self.ending.outcome.as_ref()
    }

    /// Whether the node has the whole tape.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.delivery.complete
    }

    /// Whether the node needs bytes for itself.
    #[must_use]
    pub fn lacks(&self) -> bool {
        !self.delivery.complete && self.ending.outcome.is_none()
    }

    /// Whether the node has been suspected for so long that nobody waits for it.
    pub(super) fn is_away(&self, now: Instant) -> bool {
        self.presence.suspected_since().is_some_and(|since| since + limits::PARTITION_TIMEOUT <= now)
    }

    /// The node's line of the final report.
    #[must_use]
    pub fn report(&self, now: Instant) -> NodeReport {
        let progress = &self.delivery.progress;
        NodeReport {
            node: self.identity.node,
            addr: self.identity.joined_at,
            label: self.identity.label.clone(),
            outcome: self.ending.outcome.clone().unwrap_or(Outcome::Unknown),
            bytes: if self.identity.node == NodeId::ROOT { progress.received.0 } else { progress.sunk.0 },
            joined: self.identity.joined,
            ended: self.ending.ended.unwrap_or(now),
            counters: progress.counters,
        }
    }

    /// Measures the node's speed anew: from here on there is something else to measure.
    pub(super) fn measure_anew(&mut self, now: Instant) {
        self.pace.throughput = Throughput::new(now);
        self.delivery.arrival = Arrival::new(now);
        self.pace.walk(now, self.delivery.done());
    }

    /// Notes what the node tells of itself.
    pub(super) fn progressed(&mut self, now: Instant, progress: Progress) -> Progress {
        // A node whose sink failed relays on and has none to tell of; what the sink took stays.
        let before = self.delivery.progress;
        let progress = Progress { sunk: before.sunk.max(progress.sunk), ..progress };
        let root = self.node() == NodeId::ROOT;
        // Of the root it counts how fast it sends.
        let of = |p: &Progress| Progress { received: if root { p.sunk } else { p.received }, ..*p };
        self.pace.throughput.see(now, &of(&before), &of(&progress), self.delivery.complete);
        if progress.received > before.received {
            self.delivery.arrival.reset(now);
        }
        self.delivery.progress = progress;
        progress
    }

    /// Notes that this machine stood still for so long: the others were not silent.
    pub(super) fn excuse(&mut self, now: Instant, stalled: Duration) {
        self.presence.heard = now.min(self.presence.heard + stalled);
        self.delivery.arrival.pause(now, stalled);
        self.pace.throughput = Throughput::new(now);
    }
}
