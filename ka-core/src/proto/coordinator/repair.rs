//! Repair: who is suspected, who gets another parent, who comes back where.
//!
//! ```text
//!   silent, or its connection broke ─▶ suspected: out of the tree ─┬─ heard again ─▶ a leaf, at its own offset
//!   its parent cannot be reached ─▶ the next ancestor, or the root  └─ all others have ended ─▶ failed
//! ```
//!
//! **Suspicion re-routes, it does not evict.** So it may come quickly: whoever a suspected node fed gets the nearest
//! ancestor that is left, which still holds what it lacks (see [`Watermarks`](crate::types::Watermarks)). The suspected
//! node itself comes back as a leaf, at its own offset, below somebody who holds that.
//!
//! If nobody at all has been heard lately, it is this machine that is cut off, and nobody is suspected.

use super::*;
use crate::proto::roster::{Cause, Suspicion};
use crate::proto::throughput::Throughput;

/// When a node is not heard for so long, a beat is missing.
pub(super) const HOLE: Duration = Duration::from_millis(
    (2 * limits::PROGRESS_INTERVAL.as_millis() + limits::SILENCE_CHECK_INTERVAL.as_millis()) as u64,
);

/// The longest pause between two messages of a node that counts as its usual one: twice as much is silence.
const GAP_MAX: Duration = Duration::from_millis(1500);

/// A longer pause than usual is forgotten over so many messages: about twenty seconds' worth.
const GAP_DECAY: u32 = 128;

impl Coordinator {
    // ---- links ----

    /// Something is wrong with a node's link to its parent. It dials again by itself.
    pub(super) fn link_lost(&mut self, now: Instant, node: NodeId, at: Offset, fault: LinkFault) {
        let Some(m) = self.roster.get_mut(node).filter(|m| m.suspicion.is_none()) else { return };
        let Some(parent) = m.parent else { return };
        m.progress.received = m.progress.received.max(at);
        m.fed_by = None;
        let since = *m.linkless.get_or_insert(now);
        if !self.unfinished(node) {
            self.need_no_more(node);
            return;
        }
        match fault {
            // It was up: the parent may be well, and is asked again first.
            LinkFault::Broken(_) => {}
            LinkFault::Tainted(why) => {
                if let Some(liar) = self.roster.get_mut(parent).filter(|p| p.node != NodeId::ROOT) {
                    liar.barred = true;
                }
                self.reroute(now, node, parent, &printable(&why, limits::TEXT_BYTES));
            }
            LinkFault::Unreachable(why) if since + limits::PARTITION_TIMEOUT <= now => {
                let reason = Reason::Lost(parent, printable(&why, limits::TEXT_BYTES));
                self.fail(now, node, reason, at);
            }
            LinkFault::Unreachable(why) => {
                if let Some(m) = self.roster.get_mut(node) {
                    m.arrival.unreachable(parent, printable(&why, limits::TEXT_BYTES));
                }
                self.reroute(now, node, parent, &printable(&why, limits::TEXT_BYTES));
            }
            LinkFault::Gone(kept) => {
                if let Some(old) = self.former_parent(node) {
                    // Whoever fed it before still holds what it lacks.
                    self.move_to(node, old);
                    return;
                }
                if let Some(p) = self.roster.get_mut(parent) {
                    p.progress.kept = p.progress.kept.max(kept);
                }
                match self.place(node, at, Some(parent)) {
                    Some(holder) => self.move_to(node, holder),
                    None if self.config.reread => self.put_off(node),
                    None => self.fail(now, node, Reason::Missing(at, kept), at),
                }
            }
        }
    }

    /// The parent that holds what a node lacks until its new link is up, if it can feed it: it has a place itself, and has
    /// not come below the node.
    fn former_parent(&self, node: NodeId) -> Option<NodeId> {
        let m = self.roster.get(node)?;
        let old = self.roster.get(m.held_by?)?;
        let placed = old.node == NodeId::ROOT || old.parent.is_some();
        (placed && !m.avoid.contains(&old.node) && !self.is_below(old.node, node)).then_some(old.node)
    }

    /// Finds another parent for a node that cannot get its bytes from `from`.
    pub(super) fn reroute(&mut self, now: Instant, node: NodeId, from: NodeId, why: &str) {
        let kept = self.roster.get(NodeId::ROOT).map_or(Offset::ZERO, |r| r.progress.kept);
        let Some(m) = self.roster.get_mut(node) else { return };
        let (first, at) = (!m.linked, m.progress.received);
        if from == NodeId::ROOT {
            // It dials again. If that does not help soon, somebody else may.
            let patient = m.linkless.is_some_and(|since| now < since + limits::OFFER_TIMEOUT);
            if !patient && let Some(holder) = self.holder(node, at, Some(from)) {
                self.rerouted(node, from, holder, why);
            }
            return;
        }
        m.avoid.push(from);
        // Who never reached a neighbour may be on a switch that keeps its ports apart: only the server is left.
        let to = match self.former_parent(node) {
            Some(old) => old,
            None if first && kept <= at => NodeId::ROOT,
            None => self.above(from, node),
        };
        self.rerouted(node, from, to, why);
        if first {
            return;
        }
        // It is alive as far as is known, but would share its parent's link with the node it lost.
        let alone = |f: &&Member| f.children.is_empty() && !f.barred;
        let above = self.roster.get(from).filter(alone).and_then(|f| f.parent);
        if above == Some(to) && self.is_crowded(to) {
            self.transfer(from);
        }
    }

    pub(super) fn rerouted(&mut self, node: NodeId, from: NodeId, to: NodeId, why: &str) {
        self.move_to(node, to);
        // Whoever cannot feed it may still hold what it lacks, and tells those above to hold it, too.
        self.hold_for(node, from);
        self.event(Event::Rerouted { node, from, to, why: why.into() });
    }

    // ---- silence ----

    /// A node was heard: is it back?
    pub(super) fn heard(&mut self, now: Instant, node: NodeId) {
        if node != NodeId::ROOT {
            self.in_touch(now);
        }
        let Some(m) = self.roster.get_mut(node) else { return };
        // A busy host says what it has to say late now and then. That is forgotten slowly; a long silence is an outage, and
        // tells nothing of the next one.
        let gap = now.since(m.heard).min(GAP_MAX);
        m.gap = gap.max(m.gap - m.gap / GAP_DECAY);
        m.heard = now;
        if let Some(suspicion) = &mut m.suspicion {
            suspicion.back.get_or_insert(now);
        }
    }

    /// Somebody was heard. If nobody was for a while, this machine was cut off, and the others may need a moment to
    /// come back, too.
    pub(super) fn in_touch(&mut self, now: Instant) {
        let hole = now.since(core::mem::replace(&mut self.heard_any, now));
        if self.cut_off.take().is_some() || hole >= HOLE {
            self.roster.nodes_mut().for_each(|m| m.heard = m.heard.max(now + limits::CONNECT_TIMEOUT));
        }
    }

    /// Looks who is silent, and who has come back for good.
    pub(super) fn look(&mut self, now: Instant) {
        if self.phase == Phase::Gathering {
            let silent = |m: &&Member| m.heard + limits::GATHERING_TIMEOUT <= now;
            let gone: Vec<_> = self.roster.nodes().filter(silent).map(|m| (m.node, m.conn)).collect();
            for (node, conn) in gone {
                self.hang_up(conn);
                self.leave(node);
            }
            return;
        }
        let fresh = |m: &Member| m.heard + HOLE >= now;
        for m in self.roster.nodes_mut() {
            let steady = fresh(m);
            if let Some(suspicion) = m.suspicion.as_mut().filter(|_| !steady) {
                suspicion.back = None;
            }
        }
        let quiet = |m: &&Member| m.heard + limits::SUSPECT_AFTER.max(2 * m.gap) <= now;
        let active = |m: &&Member| m.suspicion.is_none() && !m.released;
        // Somebody was heard when it was not, so this machine is not cut off; or its connection was closed: that came
        // through, and whoever lives dials again, and again if the link comes and goes.
        let witnessed = |m: &&Member| {
            self.heard_any.since(m.heard) >= HOLE
                || m.gone.is_some_and(|gone| gone + limits::GATHERING_TIMEOUT <= now)
        };
        let (mut silent, doubtful): (Vec<_>, Vec<_>) =
            self.roster.nodes().filter(active).filter(quiet).partition(witnessed);
        let ending = self.roster.nodes().any(|m| m.outcome.as_ref().is_some_and(Outcome::is_ok));
        let patience =
            if ending && doubtful.len() == 1 { limits::GATHERING_TIMEOUT } else { limits::PARTITION_TIMEOUT };
        let cut_off = self.cut_off.or((!doubtful.is_empty()).then_some(now));
        if cut_off.is_some_and(|since| since + patience <= now) {
            silent.extend(doubtful);
        }
        let silent: Vec<_> = silent.into_iter().map(|m| m.node).collect();
        self.cut_off = cut_off;
        if silent.is_empty() {
            return;
        }
        self.suspect(now, &silent, &Cause::Silent);
    }

    /// If this machine stood still for so long, the others were not silent.
    pub(super) fn stood_still(&mut self, now: Instant, late: Duration) {
        for m in self.roster.nodes_mut() {
            m.heard = now.min(m.heard + late);
            m.arrival.pause(now, late);
            m.throughput = Throughput::new(now);
        }
    }

    /// Takes nodes out of the tree, all at once: a dead switch is one loss.
    pub(super) fn suspect(&mut self, now: Instant, nodes: &[NodeId], cause: &Cause) {
        let keepers: Vec<_> = nodes.iter().map(|n| self.keeper(*n, nodes)).collect();
        for (node, keeper) in nodes.iter().zip(keepers) {
            let Some(m) = self.roster.get_mut(*node) else { continue };
            let why = m.suspected_of(now, cause);
            let soon = now.since(m.flaps.1) < limits::RETURN_DELAY_MAX;
            m.flaps = (if soon { m.flaps.0 + 1 } else { 1 }, now);
            m.suspicion = Some(Suspicion { since: now, back: None, why: cause.clone() });
            // Who comes back needs the end of the line.
            self.tried = true;
            if m.outcome.is_none() {
                self.suspects += 1;
                self.event(Event::Suspected { node: *node, why });
                self.keep_for(*node, keeper);
                // The others may have left when it comes back.
                self.keep_for(*node, NodeId::ROOT);
            }
        }
        self.detach(nodes);
        // Somebody else must keep what a lost keeper kept.
        let orphaned: Vec<_> = self
            .roster
            .nodes()
            .filter(|m| m.kept_by.iter().any(|k| nodes.contains(k)))
            .map(|m| m.node)
            .collect();
        for node in orphaned {
            self.keep_for(node, self.leaf_below(NodeId::ROOT));
        }
    }

    /// Who will hold what a lost node lacks for the longest time, and feed it without harm to others: the last node
    /// of its line, because that is behind it and feeds nobody.
    fn keeper(&self, node: NodeId, lost: &[NodeId]) -> NodeId {
        let mut todo = self.children(node);
        while let Some(n) = todo.pop() {
            if !lost.contains(&n) {
                return self.leaf_below(n);
            }
            todo.extend(self.children(n));
        }
        let mut above = self.roster.get(node).and_then(|m| m.parent);
        while let Some(a) = above.filter(|a| lost.contains(a)) {
            above = self.roster.get(a).and_then(|m| m.parent);
        }
        above.unwrap_or(NodeId::ROOT)
    }

    fn leaf_below(&self, mut node: NodeId) -> NodeId {
        while let Some(below) = self.roster.get(node).and_then(|m| m.children.last()) {
            node = *below;
        }
        node
    }

    /// From now on `keeper` forgets nothing that `node` may lack, as far as it has room.
    pub(super) fn keep_for(&mut self, node: NodeId, keeper: NodeId) {
        if let Some(m) = self.roster.get_mut(node) {
            m.kept_by.push(keeper);
        }
        if let Some(k) = self.roster.get_mut(keeper) {
            k.keeps_for += 1;
            self.changed.insert(keeper);
        }
    }

    /// Nobody need keep anything for a node that has caught up, or has ended.
    pub(super) fn keep_no_more(&mut self, node: NodeId) {
        let Some(m) = self.roster.get_mut(node) else { return };
        for keeper in core::mem::take(&mut m.kept_by) {
            if let Some(k) = self.roster.get_mut(keeper) {
                k.keeps_for = k.keeps_for.saturating_sub(1);
                self.changed.insert(keeper);
            }
        }
    }

    /// Gives a suspected node that has been heard for long enough a place again.
    pub(super) fn try_return(&mut self, now: Instant, node: NodeId) {
        let Some(m) = self.roster.get(node).filter(|m| m.conn.is_some()) else { return };
        let Some(back) = m.suspicion.as_ref().and_then(|s| s.back) else { return };
        // A node that comes and goes would have everybody re-arranged each time.
        let steady = limits::RETURN_DELAY * (1 << (m.flaps.0.saturating_sub(1)).min(7)) / 2;
        if m.flaps.0 > 1 && now < back + steady.min(limits::RETURN_DELAY_MAX) {
            return;
        }
        let (at, unsettled, lacks) = (m.progress.received, m.outcome.is_none(), m.lacks());
        let holder = self.place(node, at, None);
        // What it said first may have waited in its connection for long; so may what others said of themselves.
        if unsettled && lacks && holder.is_none() && now < back + 2 * HOLE {
            return;
        }
        self.trust(node);
        if !unsettled {
            return;
        }
        self.event(Event::Returned { node, at });
        match holder {
            _ if !lacks => {}
            Some(holder) => {
                self.move_to(node, holder);
                self.keep_for(node, holder);
            }
            None if self.config.reread => self.put_off(node),
            None => {
                let feeders = self.roster.iter().filter(|m| m.feeds());
                let kept = feeders.map(|m| m.progress.kept).min().unwrap_or(at);
                self.fail(now, node, Reason::Missing(at, kept.max(at)), at);
            }
        }
    }

    /// Nothing is held against a node any more.
    pub(super) fn trust(&mut self, node: NodeId) {
        let Some(m) = self.roster.get_mut(node) else { return };
        if m.suspicion.take().is_none() {
            return;
        }
        m.avoid.clear();
        m.linkless = None;
        if m.outcome.is_none() {
            self.suspects = self.suspects.saturating_sub(1);
        }
    }

    // ---- the tree ----

    /// Takes nodes out of the tree. Whoever they fed and still needs bytes, for itself or for those below it, gets
    /// the nearest ancestor that is left.
    pub(super) fn detach(&mut self, nodes: &[NodeId]) {
        let mut orphans = Vec::new();
        for node in nodes {
            for child in self.children(*node) {
                if !nodes.contains(&child) {
                    orphans.push((child, *node));
                }
            }
        }
        // While the tree is whole: who is above whom.
        let mut homes: Vec<_> = orphans
            .into_iter()
            .map(|(orphan, lost)| {
                // Who still holds for it surely has what it lacks.
                let mut home = self.former_parent(orphan).unwrap_or(lost);
                while nodes.contains(&home) || self.is_of_no_use(home, orphan) {
                    home = self.above(home, orphan);
                }
                (orphan, home)
            })
            .collect();
        // Who was to hold something for others hands that up, too.
        let mut held = Vec::new();
        for node in nodes {
            for other in self.roster.get(*node).map(|m| m.holds_for.clone()).unwrap_or_default() {
                let mut home = *node;
                while nodes.contains(&home) {
                    home = self.above(home, other);
                }
                let home = if self.is_below(home, other) { NodeId::ROOT } else { home };
                held.push((other, home));
            }
        }
        for (other, home) in held {
            self.hold_no_more(other);
            self.hold_for(other, home);
        }
        for node in nodes {
            self.hold_no_more(*node);
            self.unlink(*node);
            for child in
                core::mem::take(self.roster.get_mut(*node).map_or(&mut Vec::new(), |m| &mut m.children))
            {
                if let Some(c) = self.roster.get_mut(child) {
                    c.parent = None;
                }
            }
            self.changed.insert(*node);
        }
        // Who has got somebody unfinished below it needs a parent, too.
        while let Some(i) = homes.iter().position(|(orphan, _)| self.unfinished(*orphan)) {
            let (orphan, home) = homes.swap_remove(i);
            let crowded = self.is_full(home);
            self.move_to(orphan, home);
            if crowded {
                self.transfer(orphan);
            }
        }
    }

    /// The nearest ancestor of `node` that may feed `child`.
    pub(super) fn above(&self, node: NodeId, child: NodeId) -> NodeId {
        let avoid = self.roster.get(child).map(|m| m.avoid.as_slice()).unwrap_or_default();
        let mut above = self.roster.get(node).and_then(|m| m.parent);
        while let Some(m) = above.and_then(|a| self.roster.get(a)) {
            if m.feeds() && !avoid.contains(&m.node) && !self.is_of_no_use(m.node, child) {
                return m.node;
            }
            above = m.parent;
        }
        NodeId::ROOT
    }

    /// Whether nothing arrives at `parent`, and it has nothing that `node` or those below that lack. Those above it hold
    /// what it lacks, and so what they lack.
    fn is_of_no_use(&self, parent: NodeId, node: NodeId) -> bool {
        let p = self.roster.get(parent);
        p.is_some_and(|p| p.arrival.in_vain() && p.progress.received <= self.lacked_from(node))
    }

    fn is_below(&self, node: NodeId, top: NodeId) -> bool {
        let mut at = Some(node);
        while let Some(n) = at.filter(|n| *n != top) {
            at = self.roster.get(n).and_then(|m| m.parent);
        }
        at.is_some()
    }

    /// Makes `parent` the parent of `node`, with everybody below `node`.
    pub(super) fn move_to(&mut self, node: NodeId, parent: NodeId) {
        // Who once held for it may be below it by now.
        let parent = if self.is_below(parent, node) { NodeId::ROOT } else { parent };
        self.unlink(node);
        if let Some(p) = self.roster.get_mut(parent) {
            p.children.push(node);
            self.changed.insert(parent);
        }
        if let Some(m) = self.roster.get_mut(node) {
            m.parent = Some(parent);
            self.changed.insert(node);
            self.moved.insert(node);
            if m.held_by == Some(parent) {
                self.hold_no_more(node);
            }
        }
    }

    /// Moves a node, with everybody below it, from its parent to somebody who has room for a child, if there is anybody.
    /// Its parent holds what it lacks until its new link is up: nothing is risked.
    pub(super) fn transfer(&mut self, node: NodeId) {
        let Some(old) = self.roster.get(node).and_then(|m| m.parent) else { return };
        // Those below it may lack what it only says to hold for them.
        let at = self.lacked_from(node);
        let holder = self.holder(node, at, Some(old)).filter(|h| !self.is_full(*h));
        let Some(holder) = holder.filter(|_| self.unfinished(node)) else { return };
        self.move_to(node, holder);
        self.hold_for(node, old);
    }

    /// `old` goes on to name `node` a child, until a link of it is up. Who does so already has held for longer.
    pub(super) fn hold_for(&mut self, node: NodeId, old: NodeId) {
        match self.roster.get_mut(node) {
            Some(m) if m.held_by.is_none() => m.held_by = Some(old),
            _ => return,
        }
        if let Some(o) = self.roster.get_mut(old) {
            o.holds_for.push(node);
            self.changed.insert(old);
        }
    }

    /// A node has a link again: its former parent need not name it a child any more. Says who that was.
    pub(super) fn hold_no_more(&mut self, node: NodeId) -> Option<NodeId> {
        let old = self.roster.get_mut(node)?.held_by.take()?;
        self.roster.get_mut(old)?.holds_for.retain(|n| *n != node);
        self.changed.insert(old);
        Some(old)
    }

    /// Takes a node, with everybody below it, from its parent.
    fn unlink(&mut self, node: NodeId) {
        let Some(m) = self.roster.get_mut(node) else { return };
        m.fed_by = None;
        let Some(parent) = m.parent.take() else { return };
        if let Some(p) = self.roster.get_mut(parent) {
            p.children.retain(|c| *c != node);
            self.changed.insert(parent);
        }
    }

    /// Who can feed `node` from `at` on, but nobody who would have to share his link for it if it can be served later.
    pub(super) fn place(&self, node: NodeId, at: Offset, not: Option<NodeId>) -> Option<NodeId> {
        self.holder(node, at, not).filter(|h| !self.config.reread || !self.is_full(*h))
    }

    fn is_full(&self, node: NodeId) -> bool {
        self.children(node).len() >= self.config.fan_out as usize
    }

    /// Whether a node feeds more than it should.
    pub(super) fn is_crowded(&self, node: NodeId) -> bool {
        self.children(node).len() > self.config.fan_out as usize
    }

    /// Who holds the tape from `at` on and can feed `node`: rather somebody who is not slow, has room for a child, and is
    /// far from the root, so that few depend on it.
    pub(super) fn holder(&self, node: NodeId, at: Offset, not: Option<NodeId>) -> Option<NodeId> {
        let mut below = BTreeSet::from([node]);
        let mut todo = self.children(node);
        while let Some(n) = todo.pop() {
            below.insert(n);
            todo.extend(self.children(n));
        }
        let avoid = self.roster.get(node).map(|m| m.avoid.as_slice()).unwrap_or_default();
        let mut best = None;
        let mut level = Vec::from([NodeId::ROOT]);
        let mut depth = 0_u32;
        while !level.is_empty() {
            for m in level.iter().filter_map(|n| self.roster.get(*n)) {
                let can = m.feeds()
                    && m.progress.kept <= at
                    && !(m.arrival.in_vain() && m.progress.received <= at)
                    && Some(m.node) != not
                    && !avoid.contains(&m.node)
                    && !below.contains(&m.node);
                let cost =
                    (m.named.is_some(), m.children.len() / self.config.fan_out as usize, u32::MAX - depth);
                if can && best.is_none_or(|(c, _)| cost < c) {
                    best = Some((cost, m.node));
                }
            }
            level = level.iter().flat_map(|n| self.children(*n)).collect();
            depth += 1;
        }
        best.map(|(_, node)| node)
    }

    pub(super) fn children(&self, node: NodeId) -> Vec<NodeId> {
        self.roster.get(node).map(|m| m.children.clone()).unwrap_or_default()
    }

    /// Whether a node or anybody below it still needs bytes.
    pub(super) fn unfinished(&self, node: NodeId) -> bool {
        let mut todo = Vec::from([node]);
        while let Some(m) = todo.pop().and_then(|n| self.roster.get(n)) {
            if m.lacks() {
                return true;
            }
            todo.extend(&m.children);
        }
        false
    }

    /// The first offset that a node or anybody below it lacks.
    fn lacked_from(&self, node: NodeId) -> Offset {
        let mut least = self.roster.get(node).map_or(Offset::ZERO, |m| m.progress.received);
        let mut todo = Vec::from([node]);
        while let Some(m) = todo.pop().and_then(|n| self.roster.get(n)) {
            if m.lacks() {
                least = least.min(m.progress.received);
            }
            todo.extend(&m.children);
        }
        least
    }

    /// Tells everybody whose parent or children have changed. Before the start nobody has any.
    pub(super) fn send_views(&mut self) {
        if self.phase == Phase::Gathering {
            self.changed.clear();
        }
        if self.changed.is_empty() {
            return;
        }
        self.epoch = Epoch(self.epoch.0 + 1);
        for node in core::mem::take(&mut self.moved) {
            if let Some(m) = self.roster.get_mut(node) {
                m.parent_since = self.epoch;
            }
        }
        for node in core::mem::take(&mut self.changed) {
            self.send_view(node);
        }
    }

    /// Tells a node who its parent and children are.
    pub(super) fn send_view(&mut self, node: NodeId) {
        let Some(m) = self.roster.get(node).filter(|m| !m.released) else { return };
        let key = |parent| self.config.links.as_ref().map(|l| l.of_node(parent).of_child(node));
        let parent = m.parent.and_then(|p| self.roster.get(p)).map(|p| Peer {
            node: p.node,
            addr: seen(p, m),
            key: key(p.node),
        });
        let keep = m.keeps_for > 0;
        let children = m.children.iter().chain(&m.holds_for).copied().collect();
        let view = View { epoch: self.epoch, parent, children, retain: keep };
        self.tell_node(node, ToNode::View(view));
    }
}

/// Where `child` reaches `parent`.
///
/// The root listens wherever the child reached the server. A node that joined over loopback shares the
/// server's host: others reach it where they reach the server.
fn seen(parent: &Member, child: &Member) -> SocketAddr {
    let ip = parent.addr.ip();
    let same_host = parent.node == NodeId::ROOT || (ip.is_loopback() && !child.addr.ip().is_loopback());
    SocketAddr::new(if same_host { child.server_ip } else { ip }, parent.addr.port())
}
