//! The links of children: accepted, served, lost.

use super::state::Parent;
use super::state::{Node, Output};
use crate::limits;
use crate::proto::timer::Timer;
use crate::time::Instant;
use crate::types::{LinkId, NodeId, Offset};
use crate::wire::control::LinkFault;
use crate::wire::data::{Attach, Grant, Refuse};
use alloc::format;
use alloc::string::{String, ToString};

impl Node {
    // ---- the children ----
    pub(super) fn offered(&mut self, now: Instant, link: LinkId, attach: Attach) {
        if attach.session != self.session {
            self.refuse(link, None, "another session".to_string());
        } else if self.expected.contains(&attach.child) {
            self.accept(now, link, attach);
        } else if attach.epoch > self.epoch && self.offers.len() < limits::FAN_OUT as usize {
            // Its view was faster than ours.
            self.offers.push((link, attach, now));
            self.timers.start(Timer::Offer, now + limits::OFFER_TIMEOUT);
        } else {
            self.refuse(link, None, format!("{} is not its parent", self.id));
        }
    }

    pub(super) fn accept(&mut self, now: Instant, link: LinkId, attach: Attach) {
        let Attach { child, grant, .. } = attach;
        if !self.window.covers(grant.watermarks.held()) {
            let (kept, end) = (self.window.from(), self.window.received().offset);
            self.refuse(link, Some(kept), format!("{} holds bytes {kept} to {end} only", self.id));
            return;
        }
        if let Some(i) = self.children.iter().position(|(n, _)| *n == child) {
            let (_, old) = self.children.swap_remove(i);
            self.outputs.push_back(Output::Drop(old));
        }
        self.children.push((child, link));
        self.window.attach(now, child, grant);
        self.outputs.push_back(Output::Accept(link, child, grant.watermarks));
    }

    pub(super) fn refuse(&mut self, link: LinkId, kept: Option<Offset>, why: String) {
        self.outputs.push_back(Output::Refuse(link, Refuse { kept, why }));
    }

    pub(super) fn link_lost(&mut self, now: Instant, link: LinkId, fault: LinkFault) {
        self.offers.retain(|(l, ..)| *l != link);
        // The cursor of a lost child stays until a view says what becomes of it.
        if let Some(child) = self.child(link) {
            self.children.retain(|(_, l)| *l != link);
            self.window.child_lost(child);
        }
        if let Parent::Linked(peer, l) = &self.parent
            && *l == link
        {
            self.parent_lost(now, peer.clone(), fault);
        }
    }

    pub(super) fn granted(&mut self, now: Instant, link: LinkId, grant: Grant) {
        let Some(child) = self.child(link) else { return };
        if !self.window.child_granted(now, child, grant) {
            self.hang_up(child);
        }
    }

    /// Closes the link of a child. Who is well dials again.
    pub(super) fn hang_up(&mut self, child: NodeId) {
        if let Some(i) = self.children.iter().position(|(n, _)| *n == child) {
            let (_, link) = self.children.swap_remove(i);
            self.window.child_lost(child);
            self.outputs.push_back(Output::Drop(link));
        }
    }
}
