//! Who is served after the others, from a source that can be read again.
//!
//! ```text
//!   nobody holds what it lacks, or it holds up the others
//!        └─▶ put off: no place in the tree ─▶ all others have everything ─▶ in line again, who lacks most first
//! ```
//!
//! Serving it at once would cost the others, who share the server's link and the source with it. Afterwards it costs
//! nobody anything. Whoever is put off then gets a place as if it had come back: one behind another, so that many cost
//! no more than one; but nobody is put behind a node that is known to be slow.

use super::*;

impl Coordinator {
    /// Takes a node out of the tree until the others have everything.
    pub(super) fn put_off(&mut self, node: NodeId) {
        self.keep_no_more(node);
        self.detach(&[node]);
        if let Some(m) = self.roster.get_mut(node) {
            m.later = true;
            let at = m.progress.received;
            self.event(Event::Later { node, at });
        }
    }

    /// Whether anybody else is to be served before those who are put off.
    pub(super) fn others_are_in_line(&self, node: NodeId) -> bool {
        self.roster.nodes().any(|m| m.node != node && in_line(m))
    }

    /// Serves whoever was put off, if nobody else is to be served first; and lets go who has everything and stays only
    /// for somebody far behind.
    pub(super) fn serve_later(&mut self, now: Instant) {
        if !self.config.reread {
            return;
        }
        self.relieve();
        let waits = |m: &&Member| m.later && m.lacks() && m.suspicion.is_none();
        let mut waiting: Vec<_> =
            self.roster.nodes().filter(waits).map(|m| (m.progress.received, m.node)).collect();
        if waiting.is_empty() || self.roster.nodes().any(in_line) {
            return;
        }
        // A parent must not lack more than its child.
        waiting.sort_unstable();
        for (at, node) in waiting {
            if let Some(m) = self.roster.get_mut(node) {
                m.later = false;
                m.linkless = None;
                (m.throughput, m.arrival) = (Throughput::new(now), Arrival::new(now));
            }
            let quick = |n: &NodeId| self.roster.get(*n).is_some_and(|m| m.named.is_none());
            let parent = self.holder(node, at, None).filter(quick).unwrap_or(NodeId::ROOT);
            self.event(Event::Resumed { node, at });
            self.move_to(node, parent);
        }
    }

    /// Everybody above a node has ended, and stays because it is far behind: the server feeds it now.
    fn relieve(&mut self) {
        let Some(end) = self.roster.get(NodeId::ROOT).filter(|r| r.complete).map(|r| r.progress.received)
        else {
            return;
        };
        let far = |m: &&Member| m.lacks() && end - m.progress.received >= limits::BEHIND_BYTES;
        let stayed_for: Vec<_> = self
            .roster
            .nodes()
            .filter(far)
            .filter_map(|m| Some((m.node, m.parent?)))
            .filter(|(_, parent)| *parent != NodeId::ROOT && self.all_ended(*parent))
            .collect();
        for (node, parent) in stayed_for {
            self.move_to(node, NodeId::ROOT);
            self.let_go(parent);
        }
    }

    /// Whether a node and everybody above it has ended.
    fn all_ended(&self, node: NodeId) -> bool {
        let mut at = Some(node).filter(|n| *n != NodeId::ROOT);
        while let Some(m) = at.and_then(|n| self.roster.get(n)) {
            if m.outcome.is_none() {
                return false;
            }
            at = m.parent.filter(|n| *n != NodeId::ROOT);
        }
        true
    }

    /// Nobody will be served later: who was put off goes where what it lacks is still held.
    pub(super) fn reread_failed(&mut self, now: Instant, why: String) {
        if !core::mem::take(&mut self.config.reread) {
            return;
        }
        self.event(Event::RereadFailed { why: printable(&why, limits::TEXT_BYTES) });
        let kept = self.roster.get(NodeId::ROOT).map_or(Offset::ZERO, |r| r.progress.kept);
        let lost: Vec<_> = self.roster.nodes().filter(|m| m.later && m.lacks()).map(|m| m.node).collect();
        for node in lost {
            let Some(m) = self.roster.get_mut(node) else { continue };
            m.later = false;
            if m.suspicion.is_some() {
                // It gets a place when it is back, if it comes back.
                continue;
            }
            let at = m.progress.received;
            match self.holder(node, at, None) {
                Some(holder) => self.move_to(node, holder),
                None => self.fail(now, node, Reason::Missing(at, kept.max(at)), at),
            }
        }
    }
}

/// Whether a node is to be served before those who were put off.
fn in_line(m: &Member) -> bool {
    m.lacks() && !m.later && m.named.is_none() && m.suspicion.is_none()
}
