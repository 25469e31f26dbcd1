//! Evidence that bytes reach a node: since when none has, and what its links did meanwhile.
//!
//! A byte that arrives is progress. A link that comes up, a parent that changes and a message on the control connection
//! are not: so none of them sets this clock. The clock stands while there is nothing to come.

use alloc::format;
use alloc::string::String;

use crate::limits;
use crate::time::{Duration, Instant};
use crate::types::NodeId;
use crate::wire::control::Reason;

/// Links that came up and carried nothing: after so many, large packets are the likely reason.
const EMPTY_LINKS: u32 = 2;

/// The time that each further parent of a node that nothing reaches has to show that it does better.
const TURN: Duration = Duration::from_secs(2);

/// The number of parents that a node gets for this: as many as may all keep back what it lacks, and one that does not.
const TURNS: usize = limits::LOSSES + 1;

/// The time for which nothing has reached one node.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// When bytes last arrived, and later by as long as there were none to come since.
    last: Instant,
    /// Links that have come up since, all to no purpose.
    links: u32,
    /// The parent that could not be reached last, and why; `None` once a link is up.
    fault: Option<(NodeId, String)>,
    /// The parent whose link broke last, and why.
    broken: Option<(NodeId, String)>,
    /// When the node got another parent for this, and how many of them have their turns left: after the server none.
    moved: Option<Instant>,
    turns: usize,
    /// Whether the operator was told.
    told: bool,
}

impl Arrival {
    /// The clock of a node that has something to wait for from now on.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { last: now, links: 0, fault: None, broken: None, moved: None, turns: TURNS, told: false }
    }

    /// Notes that bytes have arrived.
    pub fn reset(&mut self, now: Instant) {
        *self = Self::new(now);
    }

    /// Does not count so much of the time until now: there was nothing to come, or it was not the node's. Time before the
    /// clock began was never counted.
    pub fn pause(&mut self, now: Instant, time: Duration) {
        self.last = now.min(self.last + time);
    }

    /// Notes that a link to a parent is up.
    pub fn linked(&mut self) {
        self.links = self.links.saturating_add(1);
        self.fault = None;
    }

    /// Notes that the operator is told; whether that was so before.
    pub fn tell(&mut self) -> bool {
        core::mem::replace(&mut self.told, true)
    }

    /// Notes that this parent cannot be reached, and why.
    pub fn unreachable(&mut self, parent: NodeId, why: String) {
        self.fault = Some((parent, why));
    }

    /// Notes that the link to this parent, which was up, is lost, and why.
    pub fn broke(&mut self, parent: NodeId, why: String) {
        self.broken = Some((parent, why));
    }

    /// The time for which nothing has arrived.
    #[must_use]
    pub fn idle(&self, now: Instant) -> Duration {
        now.since(self.last)
    }

    /// Whether the node gets another parent instead of this one: each has a while to show that it does better, and after
    /// the server itself there is none.
    pub fn take_turn(&mut self, now: Instant, parent: Option<NodeId>) -> bool {
        if parent == Some(NodeId::ROOT) {
            self.turns = 0;
        }
        let turn = self.turns > 0 && self.moved.is_none_or(|moved| moved + TURN <= now);
        if turn {
            self.moved = Some(now);
            self.turns -= 1;
        }
        turn
    }

    /// Whether this parent still has its turn, or another one comes after it.
    #[must_use]
    pub fn has_turn(&self, now: Instant, parent: Option<NodeId>) -> bool {
        let has_it = self.moved.is_some_and(|moved| now < moved + TURN);
        has_it || (self.turns > 0 && parent != Some(NodeId::ROOT))
    }

    /// Whether the node has got another parent for this, and nothing has arrived since.
    #[must_use]
    pub fn in_vain(&self) -> bool {
        self.moved.is_some()
    }

    /// The likely reason, as far as `node`'s links tell it.
    #[must_use]
    pub fn reason(&self, now: Instant, node: NodeId) -> Reason {
        match &self.fault {
            Some((parent, why)) => Reason::Lost(*parent, why.clone()),
            None => Reason::Lost(node, self.words(now)),
        }
    }

    /// The same in words, about a node that has been named already.
    #[must_use]
    pub fn words(&self, now: Instant) -> String {
        let idle = self.idle(now).as_secs();
        match &self.fault {
            Some((parent, why)) => format!("it cannot reach {parent}: {why}"),
            None if self.links >= EMPTY_LINKS => {
                let lost =
                    |(parent, why): &(NodeId, String)| format!(" (the one to {parent} was lost: {why})");
                let lost = self.broken.as_ref().map(lost).unwrap_or_default();
                format!(
                    "its links come up, but nothing has arrived over them for {idle} s{lost}: small packets reach it, large \
                     ones do not, or somebody changes them; is the MTU the same on its port, its switch and the other \
                     machines?"
                )
            }
            None => format!("nothing has reached it for {idle} s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(secs)
    }

    #[test]
    fn links_do_not_set_the_clock_and_bytes_do() {
        let mut arrival = Arrival::new(at(1));
        for _ in 0..5 {
            arrival.linked();
        }
        assert_eq!(arrival.idle(at(9)), Duration::from_secs(8));
        arrival.pause(at(9), Duration::from_secs(3));
        assert_eq!(arrival.idle(at(9)), Duration::from_secs(5));
        arrival.pause(at(9), Duration::from_secs(300));
        assert_eq!(arrival.idle(at(10)), Duration::from_secs(1));
        arrival.reset(at(9));
        assert_eq!(arrival.idle(at(9)), Duration::ZERO);
    }

    #[test]
    fn the_reason_is_what_the_links_did_last() {
        let node = NodeId(3);
        let said = |arrival: &Arrival| match arrival.reason(at(7), node) {
            Reason::Lost(who, why) => (who, why),
            other => panic!("{other}"),
        };
        let mut arrival = Arrival::new(at(0));
        assert_eq!(said(&arrival), (node, "nothing has reached it for 7 s".into()));
        arrival.linked();
        assert_eq!(said(&arrival).1, "nothing has reached it for 7 s", "one link may just have come up");
        arrival.linked();
        assert!(said(&arrival).1.contains("MTU"));
        arrival.broke(NodeId(2), "somebody has changed it".into());
        assert!(said(&arrival).1.contains("(the one to node 2 was lost: somebody has changed it)"));
        arrival.unreachable(NodeId::ROOT, "refused".into());
        assert_eq!(said(&arrival), (NodeId::ROOT, "refused".into()));
        arrival.linked();
        assert_eq!(said(&arrival).0, node, "a parent that was reached is not to blame");
        arrival.reset(at(6));
        assert_eq!(said(&arrival).1, "nothing has reached it for 1 s");
    }
}
