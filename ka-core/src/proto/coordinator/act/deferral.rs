//! Nodes are deferred, and served once the others have everything.

use alloc::vec::Vec;

use crate::limits;
use crate::proto::coordinator::deferred;
use crate::proto::coordinator::state::Coordinator;
use crate::proto::event::Event;
use crate::time::Instant;
use crate::types::{NodeId, printable};
use crate::wire::control::Reason;

impl Coordinator {
    /// Takes a node out of the tree until the others have everything.
    pub(super) fn put_off(&mut self, node: NodeId) {
        self.nodes.tree.end_retention(node);
        self.nodes.take_out(&[node]);
        if let Some(m) = self.nodes.get_mut(node) {
            m.pace.defer(true);
            let at = m.delivery.received();
            self.event(Event::Later { node, at });
        }
    }

    /// Serves whoever was put off, if nobody else is to be served first; and lets go who has everything and stays only
    /// for somebody far behind.
    pub(super) fn serve_later(&mut self, now: Instant) {
        if !self.config.reread {
            return;
        }
        for (node, parent) in deferred::stayed_for(&self.nodes) {
            self.nodes.tree.attach(node, NodeId::ROOT);
            self.let_go(parent);
        }
        for (at, node) in deferred::turn(&self.nodes) {
            if let Some(m) = self.nodes.get_mut(node) {
                m.pace.defer(false);
                m.delivery.forget_links();
                m.measure_anew(now);
            }
            let parent = deferred::parent(&self.nodes, node, at);
            self.event(Event::Resumed { node, at });
            self.nodes.tree.attach(node, parent);
        }
    }

    /// Nobody will be served later: who was put off goes where what it lacks is still held.
    pub(super) fn reread_failed(&mut self, now: Instant, why: &str) {
        if !core::mem::take(&mut self.config.reread) {
            return;
        }
        self.event(Event::RereadFailed { why: printable(why, limits::TEXT_BYTES) });
        let kept = self.nodes.root_kept();
        let lost = self.nodes.roster.nodes().filter(|m| m.pace.is_deferred() && m.lacks()).map(|m| m.node());
        for node in lost.collect::<Vec<_>>() {
            let Some(m) = self.nodes.get_mut(node) else { continue };
            m.pace.defer(false);
            if m.presence.is_suspected() {
                // It gets a place when it is back, if it comes back.
                continue;
            }
            let at = m.delivery.received();
            match self.nodes.holder(node, at, None) {
                Some(holder) => self.nodes.tree.attach(node, holder),
                None => self.fail(now, node, Reason::Missing(at, kept.max(at)), at),
            }
        }
    }
}
