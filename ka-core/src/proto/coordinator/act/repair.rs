//! Repair: who is suspected, who gets another parent, who comes back where.
//!
//! ```text
//!   silent, or its connection broke ─▶ suspected: out of the tree ─┬─ heard again ─▶ a leaf, at its own offset
//!   its parent cannot be reached ─▶ the next ancestor, or the root  └─ all others have ended ─▶ failed
//! ```
//!
//! **Suspicion re-routes, it does not evict.** So it may come quickly: whoever a suspected node fed gets the nearest
//! ancestor that is left, which still has what it lacks (see [`Watermarks`](crate::types::Watermarks)). The suspected
//! node itself comes back as a leaf, at its own offset, below somebody who has that.
//!
//! **Make before break.** A node that moves although its old parent may be well stays listed there until its new link is
//! up. A new parent that turns out to have evicted what the node lacks then costs a way back, not the node.

use alloc::vec::Vec;

use crate::limits;
use crate::proto::coordinator::liveness;
use crate::proto::coordinator::member::{Cause, HOLE, Member};
use crate::proto::coordinator::state::{Coordinator, Output, Phase};
use crate::proto::event::Event;
use crate::time::{Duration, Instant};
use crate::types::{NodeId, Offset, printable};
use crate::wire::control::{LinkFault, Reason};

impl Coordinator {
    // ---- links ----

    /// Something is wrong with a node's link to its parent. It dials again by itself.
    pub(super) fn link_lost(&mut self, now: Instant, node: NodeId, at: Offset, fault: LinkFault) {
        let Some(parent) = self.nodes.tree.parent(node) else { return };
        let was_up = self.nodes.tree.linked_to(node) == Some(parent);
        let Some(m) = self.nodes.get_mut(node).filter(|m| !m.presence.is_suspected()) else { return };
        m.delivery.received_at_least(at);
        let since = m.delivery.link_down(now);
        self.nodes.tree.link_down(node);
        if !self.nodes.is_unfinished(node) {
            self.need_no_more(node);
            return;
        }
        match fault {
            // It was up: the parent may be well, and is asked again first.
            LinkFault::Broken(why) => {
                if let Some(m) = self.nodes.get_mut(node) {
                    m.delivery.arrival.broke(parent, printable(&why, limits::TEXT_BYTES));
                }
            }
            // Nothing came over a link that was not up.
            LinkFault::Tainted(_) if !was_up => {}
            LinkFault::Tainted(why) => {
                self.nodes.trust.object(node, parent);
                self.reroute(now, node, parent, &printable(&why, limits::TEXT_BYTES));
            }
            LinkFault::Unreachable(why) if since + limits::PARTITION_TIMEOUT <= now => {
                let reason = Reason::Lost(parent, printable(&why, limits::TEXT_BYTES));
                self.fail(now, node, reason, at);
            }
            LinkFault::Unreachable(why) => {
                let why = printable(&why, limits::TEXT_BYTES);
                if let Some(m) = self.nodes.get_mut(node) {
                    m.delivery.arrival.unreachable(parent, why.clone());
                }
                self.reroute(now, node, parent, &why);
            }
            // What the root holds, it says itself; it has everything if the source can be read again.
            LinkFault::Gone(_) if parent == NodeId::ROOT && self.root_has(at) => {}
            LinkFault::Gone(kept) => self.parent_lacks(now, node, parent, at, kept),
        }
    }

    /// Whether the root can send the tape from an offset on.
    pub(super) fn root_has(&self, at: Offset) -> bool {
        self.config.reread || self.nodes.root_kept() <= at
    }

    /// A parent does not have any more what a node lacks.
    fn parent_lacks(&mut self, now: Instant, node: NodeId, parent: NodeId, at: Offset, kept: Offset) {
        let Some(m) = self.nodes.get_mut(node) else { return };
        m.delivery.is_gone(parent, kept);
        let (resumed, arrival) = (m.pace.was_resumed(), &m.delivery.arrival);
        // If nothing came from anybody, that is why it lacks so much.
        let reason = if arrival.in_vain() { arrival.reason(now, node) } else { Reason::Missing(at, kept) };
        if let Some(old) = self.nodes.previous_parent(node) {
            // Whoever fed it before still has what it lacks.
            self.nodes.move_below(node, old);
            return;
        }
        if let Some(keeper) = self.nodes.keeper(node) {
            self.nodes.move_below(node, keeper);
            return;
        }
        match self.nodes.place(node, at, Some(parent), self.config.reread) {
            Some(holder) => self.nodes.move_below(node, holder),
            // Nobody holds what it says to lack, again: the root reads that once more.
            None if self.config.reread && resumed => self.nodes.move_below(node, NodeId::ROOT),
            None if self.config.reread => self.put_off(node),
            // It dials again, and gets that one for a parent then.
            None if self.nodes.free_keeper(node) => {}
            None => self.fail(now, node, reason, at),
        }
    }

    /// Finds another parent for a node that cannot get its bytes from `from`.
    pub(super) fn reroute(&mut self, now: Instant, node: NodeId, from: NodeId, why: &str) {
        let kept = self.nodes.root_kept();
        let Some(m) = self.nodes.get_mut(node) else { return };
        let (first, at) = (!m.delivery.was_linked(), m.delivery.received());
        if from == NodeId::ROOT {
            // It dials again. If that does not help soon, somebody else may.
            let patient = m.delivery.linkless().is_some_and(|since| now < since + limits::OFFER_TIMEOUT);
            if !patient && let Some(holder) = self.nodes.holder(node, at, Some(from)) {
                self.rerouted(node, from, holder, why);
            }
            return;
        }
        m.delivery.avoid(from);
        // A node that never reached a neighbour may be on a switch that keeps its ports apart: only the server is left.
        let to = match self.nodes.previous_parent(node) {
            Some(old) => old,
            None if first && kept <= at => NodeId::ROOT,
            None => self.nodes.nearest_above(from, node),
        };
        self.rerouted(node, from, to, why);
        if first {
            return;
        }
        // It is alive as far as is known, but would share its parent's link with the node it lost.
        let alone = self.nodes.tree.children(from).is_empty();
        let sound = self.nodes.trust.is_sound(from);
        if alone && sound && self.nodes.tree.parent(from) == Some(to) && self.nodes.is_crowded(to) {
            self.nodes.transfer(from);
        }
    }

    pub(super) fn rerouted(&mut self, node: NodeId, from: NodeId, to: NodeId, why: &str) {
        self.nodes.move_below(node, to);
        // A parent that cannot feed it may still have what it lacks, and tells those above to keep it, too.
        self.nodes.tree.hand_over(node, from);
        self.event(Event::Rerouted { node, from, to, why: why.into() });
    }

    // ---- silence ----

    /// A node was heard: is it back?
    pub(super) fn heard(&mut self, now: Instant, node: NodeId) {
        if node != NodeId::ROOT {
            self.in_touch(now);
        }
        if let Some(m) = self.nodes.get_mut(node) {
            m.presence.heard(now);
        }
    }

    /// Somebody was heard.
    pub(super) fn in_touch(&mut self, now: Instant) {
        if self.liveness.heard(now) {
            let until = now + limits::CONNECT_TIMEOUT;
            self.nodes.roster.nodes_mut().for_each(|m| m.presence.heard_at_least(until));
        }
    }

    /// Looks who is silent, and who has come back for good.
    pub(super) fn look(&mut self, now: Instant) {
        if self.phase == Phase::Gathering {
            let gone = liveness::left(&self.nodes, now);
            gone.into_iter().for_each(|node| self.take_leave(node));
            return;
        }
        self.nodes.roster.nodes_mut().for_each(|m| m.presence.watch_return(now));
        let silent = self.liveness.silent(now, &self.nodes);
        if !silent.is_empty() {
            self.suspect(now, &silent, &Cause::Silent);
        }
    }

    /// Gives a node and its connection up before the start.
    pub(super) fn take_leave(&mut self, node: NodeId) {
        if let Some(conn) = self.nodes.get(node).and_then(|m| m.identity.conn()) {
            self.nodes.roster.hang_up(conn);
            self.outputs.push_back(Output::HangUp(conn));
        }
        self.leave(node);
    }

    /// A node goes before the start, and is not counted any more.
    pub(super) fn leave(&mut self, node: NodeId) {
        self.nodes.roster.remove(node);
        self.event(Event::Left { node, ready: self.nodes.roster.len(), expected: self.config.nodes });
    }

    /// If this machine stood still for so long, the others were not silent.
    pub(super) fn stood_still(&mut self, now: Instant, stalled: Duration) {
        self.nodes.roster.nodes_mut().for_each(|m| m.excuse(now, stalled));
    }

    /// A node's control connection is gone.
    pub(super) fn gone(&mut self, now: Instant, node: NodeId, why: &str) {
        let Some(m) = self.nodes.get_mut(node).filter(|m| !m.ending.is_released()) else { return };
        m.presence.set_gone(Some(now));
        let heard = m.presence.last_heard();
        if self.phase == Phase::Gathering {
            self.leave(node);
        } else if !m.presence.is_suspected() && heard <= now && m.presence.is_fresh(now) {
            // One that was silent already may have lost its connection to that, and is on its way back.
            self.suspect(now, &[node], &Cause::Gone(printable(why, limits::TEXT_BYTES)));
        }
    }

    /// Takes nodes out of the tree, all at once: a dead switch is one loss.
    fn suspect(&mut self, now: Instant, nodes: &[NodeId], cause: &Cause) {
        let retainers: Vec<_> = nodes.iter().map(|n| self.nodes.retainer(*n, nodes)).collect();
        for (node, retainer) in nodes.iter().zip(retainers) {
            let Some(m) = self.nodes.get_mut(*node) else { continue };
            let (why, open) = (m.presence.suspect(now, cause), !m.ending.is_settled());
            // A node that comes back needs the end of the line.
            self.slowness.end_is_taken();
            if open {
                self.outcomes.suspected(true);
                self.event(Event::Suspected { node: *node, why });
                self.nodes.tree.retain(*node, retainer);
                // The others may have left when it comes back.
                self.nodes.tree.retain(*node, NodeId::ROOT);
            }
        }
        self.nodes.take_out(nodes);
        // Somebody else must retain what a lost retainer did.
        let tree = &self.nodes.tree;
        let lost = |m: &&Member| tree.retainers(m.node()).iter().any(|r| nodes.contains(r));
        let orphaned: Vec<_> = self.nodes.roster.nodes().filter(lost).map(Member::node).collect();
        for node in orphaned {
            let leaf = self.nodes.tree.leaf_below(NodeId::ROOT);
            self.nodes.tree.retain(node, leaf);
        }
    }

    /// Gives a suspected node that has been heard for long enough a place again.
    pub(super) fn try_return(&mut self, now: Instant, node: NodeId) {
        let Some(m) = self.nodes.get(node).filter(|m| m.identity.conn().is_some()) else { return };
        // A node that comes and goes would have everybody re-arranged each time.
        let Some(back) = m.presence.back().filter(|back| !m.presence.is_flapping(now, *back)) else { return };
        let (at, open, lacks) = (m.delivery.received(), !m.ending.is_settled(), m.lacks());
        let holder = self.nodes.place(node, at, None, self.config.reread);
        // What it said first may have waited in its connection for long; so may what others said of themselves.
        if open && lacks && holder.is_none() && now < back + 2 * HOLE {
            return;
        }
        self.trust(node);
        if !open {
            return;
        }
        self.event(Event::Returned { node, at });
        match holder {
            _ if !lacks => {}
            Some(holder) => self.nodes.place_below(node, holder),
            None if self.config.reread => self.put_off(node),
            None => {
                let kept = self.nodes.root_kept();
                self.fail(now, node, Reason::Missing(at, kept.max(at)), at);
            }
        }
    }

    /// Nothing is held against a node any more.
    fn trust(&mut self, node: NodeId) {
        let Some(m) = self.nodes.get_mut(node).filter(|m| m.presence.is_suspected()) else { return };
        m.presence.trust();
        m.delivery.forgive();
        if !m.ending.is_settled() {
            self.outcomes.suspected(false);
        }
    }
}
