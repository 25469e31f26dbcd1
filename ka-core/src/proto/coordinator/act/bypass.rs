//! Slow nodes: named, moved to the end of the line, deferred, and in the end done without.
//!
//! Once the windows before a slow node are full it is served later if the source can be read again; if not,
//! [`Slow`](crate::proto::coordinator::Slow) decides.

use alloc::vec::Vec;

use crate::limits;
use crate::proto::coordinator::member::Member;
use crate::proto::coordinator::slowness::{Idle, Trouble, idle, limit, words};
use crate::proto::coordinator::state::Coordinator;
use crate::proto::event::Event;
use crate::proto::throughput::Throughput;
use crate::time::{Duration, Instant};
use crate::types::NodeId;
use crate::wire::control::Blocked;

impl Coordinator {
    /// Looks who holds up the others.
    pub(super) fn look_for_slow(&mut self, now: Instant) {
        self.slowness.see(&self.nodes);
        let pause = self.slowness.looked(now);
        for node in self.measured(now, pause) {
            let all = self.nodes.behind(node) == Some(0);
            if let Some(m) = self.nodes.get_mut(node)
                && (all || m.delivery.progress().blocked != Blocked::No)
            {
                m.delivery.arrival.pause(now, pause);
            }
            if let Some(idle) = idle(&self.nodes, &self.config, now, node) {
                self.nothing_reaches(now, node, idle);
                continue;
            }
            let (limit, sharers) = (limit(&self.nodes, now, node), self.nodes.sharers(node));
            let Some(m) = self.nodes.get_mut(node) else { continue };
            let lasts = m.pace.throughput.limited_for(now, limit, sharers);
            match self.slowness.trouble(&self.nodes, now, node, limit, lasts) {
                Some(trouble) => self.troubled(now, node, trouble, lasts),
                None => self.untroubled(now, node, lasts),
            }
        }
    }

    /// The nodes whose speed counts. A node that is not heard tells nothing of how fast it is.
    fn measured(&mut self, now: Instant, pause: Duration) -> Vec<NodeId> {
        let mut measured = Vec::new();
        let tree = &self.nodes.tree;
        // A node that has failed may still be there for others.
        let counts =
            |m: &&mut Member| !m.ending.is_settled() || (tree.parent(m.node()).is_some() && !m.is_complete());
        for m in self.nodes.roster.nodes_mut().filter(counts) {
            if !m.presence.is_suspected() && m.presence.is_fresh(now) {
                measured.push(m.node());
            } else {
                m.pace.throughput = Throughput::new(now);
                m.delivery.arrival.pause(now, pause);
            }
        }
        measured
    }

    /// Nothing arrives at a node though its parent has something for it. Then those below it get another parent, the server
    /// feeds it itself, and if that does not help either, it fails.
    fn nothing_reaches(&mut self, now: Instant, node: NodeId, idle: Idle) {
        let parent = self.nodes.tree.parent(node);
        let Some(m) = self.nodes.get_mut(node) else { return };
        if idle.fails {
            let at = m.delivery.received();
            self.fail(now, node, idle.reason, at);
            self.doubt_no_more(node);
            return;
        }
        let (named, turn) = (m.pace.name(now), m.delivery.arrival.take_turn(now, parent));
        if !named {
            self.event(Event::Idle { node, why: idle.why.clone() });
        }
        if !named || turn {
            self.nodes.send_to_the_end(node);
        }
        if turn {
            self.feed_by_root(now, node, &idle.why);
        }
    }

    /// The server feeds a node that nothing reaches from its parent; and whoever else the parent feeds, unless something
    /// arrives there.
    fn feed_by_root(&mut self, now: Instant, node: NodeId, why: &str) {
        let Some(parent) = self.nodes.tree.parent(node).filter(|p| *p != NodeId::ROOT) else { return };
        let others = self.nodes.tree.children(parent).to_vec();
        // Whoever has just come to it shows nothing yet.
        let arrives = |m: &Member| {
            self.nodes.tree.linked_to(m.node()) == Some(parent)
                && (m.is_complete() || m.delivery.arrival.idle(now) < limits::STUCK_AFTER)
        };
        let to_all = !others.iter().any(|n| *n != node && self.nodes.get(*n).is_some_and(arrives));
        let moved = if to_all { others } else { Vec::from([node]) };
        if let Some(p) = self.nodes.get_mut(parent).filter(|_| to_all) {
            p.delivery.doubt(node);
        }
        let kept = self.nodes.root_kept();
        for child in moved {
            let Some(c) = self.nodes.get_mut(child) else { continue };
            c.delivery.avoid(parent);
            let has = self.config.reread || kept <= c.delivery.received();
            let to = if has { NodeId::ROOT } else { self.nodes.nearest_above(parent, child) };
            self.rerouted(child, parent, to, why);
        }
    }

    /// A node has failed because nothing reaches it from anywhere: its earlier parents were well, and feed others again.
    fn doubt_no_more(&mut self, node: NodeId) {
        let mut cleared = false;
        for m in self.nodes.roster.nodes_mut() {
            cleared |= m.delivery.clear(node);
        }
        // Whoever the server feeds for lack of a better place; but not before those that it fed itself are fed elsewhere.
        let tree = &self.nodes.tree;
        let free = |n: &NodeId| tree.handing_over(*n).is_empty();
        let crowd: Vec<_> = tree.children(NodeId::ROOT).iter().copied().skip(1).filter(free).collect();
        for child in crowd {
            if cleared && self.nodes.is_crowded(NodeId::ROOT) {
                self.nodes.transfer(child);
            }
        }
    }

    fn troubled(&mut self, now: Instant, node: NodeId, trouble: Trouble, lasts: Duration) {
        let why = words(trouble, self.slowness.fair(&self.nodes, node));
        let ending = matches!(trouble, Trouble::Ending(_));
        let Some(m) = self.nodes.get_mut(node) else { return };
        if !ending && !m.pace.name(now) {
            self.event(Event::Slow { node, why });
            self.nodes.send_to_the_end(node);
        }
        if self.slowness.is_better_later(&self.nodes, &self.config, now, node, trouble)
            && !self.blames_parent(now, node, trouble)
        {
            self.put_off(node);
        }
        let gives_up = self.slowness.gives_up(&self.nodes, &self.config, now, node, trouble, lasts);
        if let Some(reason) = gives_up
            && !self.feed_anew(now, node, trouble)
        {
            let at = self.nodes.get(node).map_or_else(Default::default, |m| m.delivery.received());
            self.fail(now, node, reason, at);
        }
    }

    fn untroubled(&mut self, now: Instant, node: NodeId, lasts: Duration) {
        if let Some(m) = self.nodes.get_mut(node) {
            m.pace.forget_name(now);
        }
        if self.slowness.tries_without(&self.nodes, &self.config, now, node, lasts) {
            self.nodes.send_to_the_end(node);
        }
    }

    // ---- whose fault it is: the node's own, or its parent's ----

    /// Whether the parent of a node that gets nothing has given nothing to another one before: then that is what they have
    /// in common, and the server feeds whoever it fed. The source can be read again, so nothing is lost by waiting for a
    /// second node.
    fn blames_parent(&mut self, now: Instant, node: NodeId, trouble: Trouble) -> bool {
        let nothing = matches!(trouble, Trouble::Link(0));
        let parent = self.nodes.tree.parent(node).filter(|p| nothing && *p != NodeId::ROOT);
        let Some(parent) = parent else { return false };
        let blames = |m: &Member| m.node() != node && m.delivery.avoids().contains(&parent);
        let known = self.nodes.roster.nodes().any(blames);
        if known {
            let why = words(trouble, self.slowness.fair(&self.nodes, node));
            self.feed_by_root(now, node, &why);
        } else if let Some(m) = self.nodes.get_mut(node) {
            m.delivery.avoid(parent);
        }
        known
    }

    /// Has another node feed this one, once: what comes over its link may be the doing of its parent, which is slow
    /// itself. Returns whether another one does.
    fn feed_anew(&mut self, now: Instant, node: NodeId, trouble: Trouble) -> bool {
        let by_link = matches!(trouble, Trouble::Link(_));
        let parent = self.nodes.tree.parent(node).filter(|p| by_link && *p != NodeId::ROOT);
        let Some(parent) = parent else { return false };
        let why = words(trouble, self.slowness.fair(&self.nodes, node));
        let may = self.nodes.get_mut(node).is_some_and(|m| m.pace.feed_anew(now));
        if may {
            self.reroute(now, node, parent, &why);
        }
        may
    }
}
