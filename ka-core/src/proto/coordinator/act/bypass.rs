//! Slow nodes: named, moved to the end of the line, deferred, and in the end done without.
//!
//! Once the windows before a slow node are full it is served later if the source can be read again; if not,
//! [`Slow`](crate::proto::coordinator::Slow) decides.

use alloc::format;
use alloc::vec::Vec;

use crate::limits;
use crate::proto::coordinator::config::Slow;
use crate::proto::coordinator::member::Member;
use crate::proto::coordinator::slowness::{Idle, Trouble, blocked, disputed, has_work, idle, limit, words};
use crate::proto::coordinator::state::Coordinator;
use crate::proto::event::Event;
use crate::proto::throughput::Throughput;
use crate::time::{Duration, Instant};
use crate::types::NodeId;
use crate::wire::control::{Blocked, Reason};

/// Each further parent of a node that crawls has this part of the time to show that it does better.
const CRAWL_AGAIN: u32 = 10;

impl Coordinator {
    /// Looks who holds up the others.
    pub(super) fn look_for_slow(&mut self, now: Instant) {
        self.slowness.see(&self.nodes);
        let pause = self.slowness.looked(now);
        self.look_for_crawling(now, pause);
        for node in self.measured(now, pause) {
            let waits = self.nodes.behind(node) == Some(0) || blocked(&self.nodes, node) != Blocked::No;
            if let Some(m) = self.nodes.get_mut(node).filter(|_| waits) {
                m.delivery.arrival.pause(now, pause);
            }
            let disputed = disputed(&self.nodes, node);
            let Some(m) = self.nodes.get_mut(node) else { continue };
            if let (Some(child), true) = (disputed, m.pace.disputes(now, disputed) >= limits::SLOW_AFTER) {
                let why = format!("{node} is said to wait for it, and it has everything");
                self.nodes.trust.object(child, node);
                self.take_away(child, node, &why);
            }
            if let Some(idle) = idle(&self.nodes, &self.config, now, node) {
                self.nothing_reaches(now, node, idle);
                continue;
            }
            let (limit, sharers) = (limit(&self.nodes, now, node), self.nodes.sharers(node));
            let Some(m) = self.nodes.get_mut(node) else { continue };
            let lasts = m.pace.throughput.limited_for(now, limit, sharers);
            match self.slowness.trouble(&self.nodes, &self.config, now, node, (limit, lasts)) {
                Some(trouble) => self.troubled(now, node, trouble, lasts),
                None => self.untroubled(now, node, lasts),
            }
        }
    }

    /// Looks who takes so little that the session would not end for it, though it harms nobody else.
    fn look_for_crawling(&mut self, now: Instant, pause: Duration) {
        let patience = limits::FINISH_TIMEOUT.max(self.config.finish.unwrap_or_default());
        let mut crawling = Vec::new();
        for m in self.nodes.roster.nodes().filter(|m| !m.ending.is_settled()) {
            let done = m.delivery.done();
            let patience = match m.is_complete() {
                // Its sink has a time of its own to end, which begins later.
                true => 2 * patience,
                false if m.pace.was_fed_anew() => patience / CRAWL_AGAIN,
                false => patience,
            };
            let rate = m.pace.walked(now, done, patience);
            crawling.push((m.node(), done, m.presence.is_suspected(), has_work(&self.nodes, m), rate));
        }
        for (node, done, suspected, works, rate) in crawling {
            let floor = self.slowness.floor(&self.nodes, &self.config, node);
            let Some(m) = self.nodes.get_mut(node) else { continue };
            match rate {
                _ if suspected => m.pace.pause(pause),
                _ if !works => m.pace.walk(now, done),
                Some(rate) if rate >= floor || self.config.slow == Slow::Wait => m.pace.walk(now, done),
                Some(rate) => self.crawls(now, node, rate),
                None => {}
            }
        }
    }

    /// A node has taken too little for too long.
    fn crawls(&mut self, now: Instant, node: NodeId, rate: u64) {
        let Some(m) = self.nodes.get(node) else { return };
        let (at, complete) = (m.delivery.received(), m.is_complete());
        let trouble = if complete { Trouble::Sink(rate) } else { Trouble::Link(rate) };
        if !self.feed_anew(now, node, trouble) {
            let why = words(trouble, self.slowness.expected(&self.nodes, node, trouble));
            let reason = if complete { Reason::Sink(why) } else { Reason::Slow(why) };
            self.fail(now, node, reason, at);
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
        if !m.delivery.arrival.tell() {
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
        if to_all {
            self.nodes.trust.object(node, parent);
        }
        for child in moved {
            if let Some(m) = self.nodes.get_mut(child) {
                m.delivery.arrival.take_turn(now, Some(parent));
            }
            self.take_away(child, parent, why);
        }
    }

    /// Takes a child from a parent that may keep from it what it lacks: the root feeds it, or, if that does not hold what it
    /// lacks, somebody above the parent.
    fn take_away(&mut self, child: NodeId, parent: NodeId, why: &str) {
        let Some(c) = self.nodes.get_mut(child) else { return };
        c.delivery.avoid(parent);
        let at = c.delivery.received();
        let to = match self.nodes.previous_parent(child) {
            _ if self.root_has(at) => NodeId::ROOT,
            Some(old) => old,
            None => self.nodes.keeper(child).unwrap_or_else(|| self.nodes.nearest_above(parent, child)),
        };
        self.rerouted(child, parent, to, why);
    }

    /// A node has failed because nothing reaches it from anywhere: its earlier parents were well, and feed others again.
    fn doubt_no_more(&mut self, node: NodeId) {
        let cleared = self.nodes.trust.take_back(node);
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
        let why = words(trouble, self.slowness.expected(&self.nodes, node, trouble));
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
            let why = words(trouble, self.slowness.expected(&self.nodes, node, trouble));
            self.feed_by_root(now, node, &why);
        } else if let Some(m) = self.nodes.get_mut(node) {
            m.delivery.avoid(parent);
        }
        known
    }

    /// Has another node feed this one: what comes over its link may be the doing of its parent. The root is the last that
    /// feeds it. Returns whether another one does.
    fn feed_anew(&mut self, now: Instant, node: NodeId, trouble: Trouble) -> bool {
        let by_link = matches!(trouble, Trouble::Link(_));
        let parent = self.nodes.tree.parent(node).filter(|p| by_link && *p != NodeId::ROOT);
        let Some(parent) = parent else { return false };
        let why = words(trouble, self.slowness.expected(&self.nodes, node, trouble));
        let may = self.nodes.get_mut(node).is_some_and(|m| m.pace.feed_anew(now));
        if may {
            self.take_away(node, parent, &why);
        }
        may
    }
}
