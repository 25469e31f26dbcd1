//! Placement: who can feed a node, and what becomes of those below one that is taken out.
//!
//! It sees the members and the tree, and nothing else: nobody is told anything here.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::member::Member;
use super::roster::Roster;
use super::tree::Tree;
use super::trust::Trust;
use crate::limits;
use crate::types::{NodeId, Offset};

/// The members of a session, and the tree in which they feed each other.
#[derive(Debug)]
pub(super) struct Nodes {
    pub(super) roster: Roster,
    pub(super) tree: Tree,
    pub(super) trust: Trust,
    /// Children of a node, as the session is to have it.
    fan_out: usize,
}

/// The levels above a node that keep what it lacks.
const LEVELS: usize = limits::LOSSES + 1;

/// A node whose parent is taken out, who is to feed it, and who is above it.
struct Home {
    orphan: NodeId,
    parent: NodeId,
    above: Vec<NodeId>,
}

impl Nodes {
    pub(super) fn new(fan_out: u32) -> Self {
        Self {
            roster: Roster::default(),
            tree: Tree::default(),
            trust: Trust::default(),
            fan_out: fan_out as usize,
        }
    }

    // ---- questions ----

    pub(super) fn get(&self, node: NodeId) -> Option<&Member> {
        self.roster.get(node)
    }

    pub(super) fn get_mut(&mut self, node: NodeId) -> Option<&mut Member> {
        self.roster.get_mut(node)
    }

    /// The node's parent, if it has one.
    pub(super) fn parent(&self, node: NodeId) -> Option<&Member> {
        self.roster.get(self.tree.parent(node)?)
    }

    /// The begin of what the root still has.
    pub(super) fn root_kept(&self) -> Offset {
        self.roster.get(NodeId::ROOT).map_or(Offset::ZERO, |root| root.delivery.kept())
    }

    /// The offset beyond which nobody can have the tape: what the root has, and before it has everything what may pass
    /// between two words of it.
    pub(super) fn sent_at_most(&self) -> Offset {
        let Some(root) = self.roster.get(NodeId::ROOT) else { return Offset::ZERO };
        let more = if root.is_complete() { 0 } else { limits::WINDOW_BYTES_DEFAULT_MAX };
        root.delivery.received() + more
    }

    /// Whether a node can be somebody's parent.
    pub(super) fn can_feed(&self, m: &Member) -> bool {
        m.node() == NodeId::ROOT
            || (self.tree.parent(m.node()).is_some() && !m.presence.is_suspected() && !m.ending.is_released())
    }

    /// Whether a node feeds as many as it should.
    pub(super) fn is_full(&self, node: NodeId) -> bool {
        self.tree.children(node).len() >= self.fan_out
    }

    /// Whether a node feeds more than it should.
    pub(super) fn is_crowded(&self, node: NodeId) -> bool {
        self.tree.children(node).len() > self.fan_out
    }

    /// Whether a node or anybody below it still needs bytes.
    pub(super) fn is_unfinished(&self, node: NodeId) -> bool {
        self.tree.subtree(node).filter_map(|n| self.roster.get(n)).any(Member::lacks)
    }

    /// Whether anybody waits for a node: it or somebody below it still needs bytes, or keeps them for others.
    pub(super) fn is_in_use(&self, node: NodeId) -> bool {
        self.is_unfinished(node) || self.tree.subtree(node).any(|n| !self.tree.keeps_for(n).is_empty())
    }

    /// The first offset that a node or anybody below it lacks.
    fn lacked_from(&self, node: NodeId) -> Offset {
        let received = |n: NodeId| self.roster.get(n).map(|m| (m.lacks(), m.delivery.received()));
        let own = received(node).map_or(Offset::ZERO, |(_, at)| at);
        let all = self.tree.subtree(node).filter_map(received);
        all.filter(|(lacks, _)| *lacks).map(|(_, at)| at).fold(own, Offset::min)
    }

    /// Whether a node's view lists another one.
    pub(super) fn lists(&self, node: NodeId, child: NodeId) -> bool {
        self.tree.listed(node).any(|listed| listed == child)
    }

    /// Whether a child, or anybody below it for whom its parent must retain, lacks bytes that `node` has.
    pub(super) fn lack_what(&self, child: NodeId, node: NodeId) -> bool {
        let has = self.roster.get(node).map_or(Offset::ZERO, |m| m.delivery.received());
        let mut level = Vec::from([child]);
        for _ in 0..=limits::LOSSES {
            if level
                .iter()
                .filter_map(|n| self.roster.get(*n))
                .any(|m| m.lacks() && m.delivery.received() < has)
            {
                return true;
            }
            level = level.iter().flat_map(|n| self.tree.listed(*n)).collect();
        }
        false
    }

    /// The number of bytes that its parent has more than it. The close of the tape, which has none, counts for one.
    pub(super) fn behind(&self, node: NodeId) -> Option<u64> {
        let (m, parent) = (self.roster.get(node)?, self.parent(node)?);
        let close = parent.is_complete() && !m.is_complete();
        Some((parent.delivery.received() - m.delivery.received()).max(u64::from(close)))
    }

    /// The number of nodes, this one among them, that are fed over its parent's link.
    pub(super) fn sharers(&self, node: NodeId) -> u64 {
        let fed = |n: &NodeId| self.roster.get(*n).is_some_and(|m| !m.is_complete());
        let parent = self.parent(node).map(Member::node);
        parent.map_or(1, |parent| self.tree.listed(parent).filter(fed).count().max(1) as u64)
    }

    /// Whether nothing arrives at `parent`, and it has nothing that `node` or those below that lack. Those above it hold
    /// what it lacks, and so what they lack.
    fn is_of_no_use(&self, parent: NodeId, node: NodeId) -> bool {
        self.roster.get(parent).is_some_and(|parent| {
            parent.delivery.arrival.in_vain() && parent.delivery.received() <= self.lacked_from(node)
        })
    }

    /// The previous parent of a node, if that can feed it: it has a place itself, and does not get its bytes by way of the
    /// node.
    pub(super) fn previous_parent(&self, node: NodeId) -> Option<NodeId> {
        let old = self.tree.handover_from(node)?;
        self.may_feed(old, node).then_some(old)
    }

    /// A node that keeps for this one what it lacks, and says that it has it.
    pub(super) fn keeper(&self, node: NodeId) -> Option<NodeId> {
        let at = self.roster.get(node)?.delivery.received();
        // Until its link is up, it may still get its bytes by way of this one.
        let settled = |m: &Member| m.is_complete() || self.tree.linked_to(m.node()).is_some();
        let has = |keeper: &NodeId| {
            let m = self.roster.get(*keeper);
            m.is_some_and(|m| m.delivery.kept() <= at && (*keeper == NodeId::ROOT || settled(m)))
        };
        self.tree.keepers(node).iter().copied().find(|keeper| has(keeper) && self.may_feed(*keeper, node))
    }

    /// Has a node that is below this one, and keeps for it what it lacks, fed by others, so that it can feed this one; whether
    /// there is one. Once its new link is up it is no longer below.
    pub(super) fn free_keeper(&mut self, node: NodeId) -> bool {
        let Some(m) = self.roster.get(node) else { return false };
        let at = m.delivery.received();
        let holds = |n: &NodeId| {
            self.roster
                .get(*n)
                .is_some_and(|k| self.can_feed(k) && k.delivery.kept() <= at && k.delivery.received() > at)
        };
        let below: BTreeSet<_> = self.fed_by(node).collect();
        let mut keepers =
            self.tree.keepers(node).iter().copied().filter(|n| m.delivery.may_get(*n, at) && holds(n));
        let Some(keeper) = keepers.find(|n| below.contains(n)) else { return false };
        let has = self.roster.get(keeper).map_or(at, |k| k.delivery.received());
        let others = self.holders(keeper, has, None);
        let parent = others.into_iter().find(|n| !below.contains(n)).unwrap_or(NodeId::ROOT);
        self.move_below(keeper, parent);
        true
    }

    /// Whether one that fed a node, or kept for it what it lacks, can feed it now.
    fn may_feed(&self, other: NodeId, node: NodeId) -> bool {
        let may_get = |m: &Member| m.delivery.may_get(other, m.delivery.received());
        self.tree.is_below(other, NodeId::ROOT)
            && self.roster.get(node).is_some_and(may_get)
            && !self.fed_by(node).any(|below| below == other)
    }

    /// The nodes that get their bytes by way of this one, itself among them; or that may still do, because their new links
    /// are not up.
    fn fed_by(&self, node: NodeId) -> impl Iterator<Item = NodeId> {
        core::iter::once(node)
            .chain(self.tree.handing_over(node).iter().copied())
            .flat_map(|top| self.tree.subtree(top))
    }

    /// The nearest ancestor of `node` that may feed `child`: one that nobody objects to, unless only the others hold what
    /// it lacks.
    pub(super) fn nearest_above(&self, node: NodeId, child: NodeId) -> NodeId {
        let at = self.lacked_from(child);
        let may_get = |n| self.roster.get(child).is_none_or(|m| m.delivery.may_get(n, at));
        let may = |m: &&Member| self.can_feed(m) && may_get(m.node()) && !self.is_of_no_use(m.node(), child);
        let above = || self.tree.above(node).map_while(|n| self.roster.get(n)).filter(may);
        let holds = |m: &Member| m.delivery.kept() <= at;
        let sound = |m: &&Member| self.trust.is_sound(m.node()) && (m.node() != NodeId::ROOT || holds(m));
        let found = above().find(sound).or_else(|| above().find(|m| holds(m)));
        found.map_or(NodeId::ROOT, Member::node)
    }

    /// Returns a node that can feed `node` from `at` on; if `node` can be served later, none that must share its link.
    pub(super) fn place(
        &self,
        node: NodeId,
        at: Offset,
        not: Option<NodeId>,
        reread: bool,
    ) -> Option<NodeId> {
        self.holder(node, at, not).filter(|holder| !reread || !self.is_full(*holder))
    }

    /// Returns a node that holds the tape from `at` on and can feed `node`.
    pub(super) fn holder(&self, node: NodeId, at: Offset, not: Option<NodeId>) -> Option<NodeId> {
        self.holders(node, at, not).into_iter().next()
    }

    /// Returns the nodes that hold the tape from `at` on, by their own word, and can feed `node`. The best comes first: one
    /// that nobody objects to, is not slow, has room for a child, and is far from the root, so that few depend on it.
    fn holders(&self, node: NodeId, at: Offset, not: Option<NodeId>) -> Vec<NodeId> {
        let below = self.fed_by(node).collect::<BTreeSet<_>>();
        let may_get = |n| self.roster.get(node).is_none_or(|m| m.delivery.may_get(n, at));
        let mut holders = Vec::new();
        let mut level = Vec::from([NodeId::ROOT]);
        let mut depth = 0_u32;
        while !level.is_empty() {
            for m in level.iter().filter_map(|n| self.roster.get(*n)) {
                let can = self.can_feed(m)
                    && m.delivery.kept() <= at
                    && !(m.delivery.arrival.in_vain() && m.delivery.received() <= at)
                    && Some(m.node()) != not
                    && may_get(m.node())
                    && !below.contains(&m.node());
                let load = self.tree.children(m.node()).len() / self.fan_out;
                let sound = self.trust.is_sound(m.node());
                if can {
                    holders.push(((!sound, m.pace.is_named(), load, u32::MAX - depth), m.node()));
                }
            }
            level = level.iter().flat_map(|n| self.tree.children(*n)).copied().collect();
            depth += 1;
        }
        holders.sort_by_key(|(cost, _)| *cost);
        holders.into_iter().map(|(_, node)| node).collect()
    }

    /// Returns the node that will retain what a lost node lacks for the longest time, and feed it without harm to
    /// others: the last node of its line, because that is behind it and feeds nobody.
    pub(super) fn retainer(&self, node: NodeId, lost: &[NodeId]) -> NodeId {
        let mut todo = self.tree.children(node).to_vec();
        while let Some(below) = todo.pop() {
            if !lost.contains(&below) {
                return self.tree.leaf_below(below);
            }
            todo.extend(self.tree.children(below));
        }
        self.tree.above(node).find(|above| !lost.contains(above)).unwrap_or(NodeId::ROOT)
    }

    // ---- changes ----

    /// Gives a node that has none a parent, and has as many others that hold what it lacks keep it as may lie.
    pub(super) fn place_below(&mut self, node: NodeId, parent: NodeId) {
        let at = self.roster.get(node).map_or(Offset::ZERO, |m| m.delivery.received());
        let holders: Vec<_> = self.holders(node, at, Some(parent)).into_iter().take(limits::LOSSES).collect();
        self.tree.attach(node, parent);
        self.tree.retain(node, parent);
        self.keep(node, &holders);
    }

    /// Has nodes keep what another one lacks of what the root has by now, unless they do so as those above it.
    fn keep(&mut self, node: NodeId, keepers: &[NodeId]) {
        let end = self.roster.get(NodeId::ROOT).map_or(Offset::ZERO, |root| root.delivery.received());
        let above = self.above(node);
        let lacks = |m: &&mut Member| m.lacks() && m.delivery.received() < end;
        let Some(m) = self.roster.get_mut(node).filter(lacks) else { return };
        m.delivery.need_until(end);
        for keeper in keepers.iter().filter(|keeper| !above.contains(keeper)) {
            self.tree.keep(node, *keeper);
        }
    }

    /// Gives a node, with everybody below it, another parent. Whoever was above it keeps what it and they lack.
    ///
    /// From now on those above the new place keep for it what nobody had before. What the root has by now they may have
    /// evicted: that only those above the old place have, by the word of each whom it concerns. And all but one of them
    /// may lie.
    pub(super) fn move_below(&mut self, node: NodeId, parent: NodeId) {
        let above = self.above(node);
        self.attach(node, parent, &above);
    }

    /// The nodes above this one that keep what it lacks.
    fn above(&self, node: NodeId) -> Vec<NodeId> {
        self.tree.above(node).take(LEVELS).collect()
    }

    /// Gives a node a parent, and has those that were above it keep what it and those below it lack.
    fn attach(&mut self, node: NodeId, parent: NodeId, above: &[NodeId]) {
        self.tree.attach(node, parent);
        let mut level = Vec::from([node]);
        for depth in 0..LEVELS.min(above.len()) {
            let keepers = &above[..above.len().min(LEVELS - depth)];
            level.iter().for_each(|below| self.keep(*below, keepers));
            level = level.iter().flat_map(|n| self.tree.children(*n)).copied().collect();
        }
    }

    /// Ends what was kept for a node that has it; who did so.
    pub(super) fn end_keeping(&mut self, node: NodeId) -> Vec<NodeId> {
        match self.roster.get(node) {
            Some(m) if !m.delivery.needs_more() => self.tree.end_keeping(node),
            _ => Vec::new(),
        }
    }

    /// Ends the handover of a node that is linked to its parent.
    pub(super) fn end_handover(&mut self, node: NodeId) {
        if self.tree.linked_to(node).is_some()
            && let Some(old) = self.tree.end_handover(node)
        {
            self.leave_if_free(old);
        }
    }

    /// Moves a node, with everybody below it, from its parent to somebody who has room for a child, if there is anybody.
    /// Its parent hands it over until its new link is up: nothing is risked.
    pub(super) fn transfer(&mut self, node: NodeId) {
        let Some(old) = self.tree.parent(node) else { return };
        // Those below it may lack what it only says to hold for them.
        let at = self.lacked_from(node);
        let holder = self.holder(node, at, Some(old)).filter(|holder| !self.is_full(*holder));
        let Some(holder) = holder.filter(|_| self.is_unfinished(node)) else { return };
        self.move_below(node, holder);
        self.tree.hand_over(node, old);
    }

    /// Those below a node get its parent. Once they are fed from there it goes where nobody is behind it; until then it
    /// hands them over, and whoever its parent cannot feed comes back to it.
    pub(super) fn send_to_the_end(&mut self, node: NodeId) {
        if !self.roster.get(node).is_some_and(Member::lacks) {
            return;
        }
        let waiting: Vec<_> =
            self.tree.children(node).iter().copied().filter(|child| self.is_unfinished(*child)).collect();
        if waiting.is_empty() {
            return;
        }
        for child in waiting {
            self.move_below(child, self.nearest_above(node, child));
            self.tree.hand_over(child, node);
        }
        if let Some(m) = self.roster.get_mut(node) {
            m.pace.leave();
        }
        self.leave_if_free(node);
    }

    /// Moves a node that is on its way to the end of the line, once nobody lacks what it handed over.
    pub(super) fn leave_if_free(&mut self, node: NodeId) {
        let free = self.tree.handing_over(node).is_empty();
        let Some(m) = self.roster.get_mut(node).filter(|m| free && m.pace.is_leaving()) else { return };
        m.pace.stay();
        // A node that nothing has reached yet has a parent that is to show whether it does better.
        let in_vain = m.delivery.arrival.in_vain();
        if !in_vain && !self.tree.children(node).iter().any(|child| self.is_unfinished(*child)) {
            self.transfer(node);
        }
    }

    /// Takes nodes out of the tree, all at once. Whoever they fed and still needs bytes, for itself or for those below it,
    /// gets the nearest ancestor that is left.
    pub(super) fn take_out(&mut self, nodes: &[NodeId]) {
        // While the tree is whole: who is above whom.
        let mut homes = self.homes(nodes);
        for (other, home) in self.handovers(nodes) {
            self.tree.end_handover(other);
            self.tree.hand_over(other, home);
        }
        for node in nodes {
            self.tree.remove(*node);
        }
        // Who is of use to others needs a parent, too.
        while let Some(i) = homes.iter().position(|home| self.is_in_use(home.orphan)) {
            let Home { orphan, parent, above } = homes.swap_remove(i);
            let crowded = self.is_full(parent);
            self.attach(orphan, parent, &above);
            if crowded {
                self.transfer(orphan);
            }
        }
    }

    /// The children of nodes that are taken out, and who is to feed each.
    fn homes(&self, nodes: &[NodeId]) -> Vec<Home> {
        let mut homes = Vec::new();
        for lost in nodes {
            for orphan in self.tree.children(*lost).iter().copied().filter(|child| !nodes.contains(child)) {
                // The previous parent surely has what it lacks.
                let mut home = self.previous_parent(orphan).unwrap_or(*lost);
                while nodes.contains(&home) || self.is_of_no_use(home, orphan) {
                    home = self.nearest_above(home, orphan);
                }
                let above = self.above(orphan).into_iter().filter(|above| !nodes.contains(above)).collect();
                homes.push(Home { orphan, parent: home, above });
            }
        }
        homes
    }

    /// Returns the nodes that those which are taken out were to hand over, each with the node that does so instead.
    fn handovers(&self, nodes: &[NodeId]) -> Vec<(NodeId, NodeId)> {
        let mut handovers = Vec::new();
        for node in nodes {
            for other in self.tree.handing_over(*node).iter().copied() {
                let mut home = *node;
                while nodes.contains(&home) {
                    home = self.nearest_above(home, other);
                }
                handovers.push((other, if self.tree.is_below(home, other) { NodeId::ROOT } else { home }));
            }
        }
        handovers
    }
}
