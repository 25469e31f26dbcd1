//! The link to the parent: dialled, lost, dialled again.

use super::state::Parent;
use super::state::{Node, Output, bounded};
use crate::limits;
use crate::proto::timer::Timer;
use crate::time::Instant;
use crate::types::LinkId;
use crate::wire::control::{LinkFault, Peer, ToCoordinator};
use crate::wire::data::Attach;

impl Node {
    // ---- the parent ----
    /// Makes `peer` the parent, unless it is that already and all is well.
    pub(super) fn follow(&mut self, peer: Peer) {
        match &mut self.parent {
            // A parent that is reached elsewhere now is dialled there when this link is lost.
            Parent::Linked(p, _) if p.node == peer.node => {
                *p = peer;
                self.tell(ToCoordinator::Linked(self.epoch));
            }
            // Two dials at once would each close the other's link.
            Parent::Dialling(p) if *p == peer => {}
            _ => {
                self.unfollow();
                self.dial(peer);
            }
        }
    }

    /// Has no parent any more, for now or for good. The root keeps its own.
    pub(super) fn unfollow(&mut self) {
        if let Parent::Linked(_, link) = self.parent {
            self.outputs.push_back(Output::Drop(link));
        }
        if self.parent != Parent::Source {
            self.parent = Parent::None;
            self.timers.stop(Timer::Redial);
            self.timers.stop(Timer::ParentSilence);
        }
    }

    pub(super) fn dial(&mut self, peer: Peer) {
        if self.parent == Parent::Source {
            return;
        }
        self.parent = Parent::Dialling(peer.clone());
        self.timers.stop(Timer::Redial);
        self.timers.stop(Timer::ParentSilence);
        let grant = self.window.attach_grant();
        let attach = Attach { session: self.session, child: self.id, epoch: self.epoch, grant };
        self.outputs.push_back(Output::Dial(peer, attach));
    }

    pub(super) fn linked(&mut self, now: Instant, link: LinkId) {
        let Parent::Dialling(peer) = &self.parent else {
            self.outputs.push_back(Output::Drop(link));
            return;
        };
        self.parent = Parent::Linked(peer.clone(), link);
        self.heard = now;
        self.timers.set(Timer::ParentSilence, now + limits::LINK_TIMEOUT);
        self.window.attached();
        self.tell(ToCoordinator::Linked(self.epoch));
    }

    pub(super) fn dial_failed(&mut self, now: Instant, fault: LinkFault) {
        let Parent::Dialling(peer) = &self.parent else { return };
        self.parent = Parent::Lost(peer.clone());
        self.timers.set(Timer::Redial, now + limits::REDIAL_DELAY);
        self.report(fault);
    }

    /// The link to the parent is gone. It may come up again at once; the coordinator may know of a better parent.
    pub(super) fn parent_lost(&mut self, now: Instant, peer: Peer, fault: LinkFault) {
        self.parent = Parent::Lost(peer.clone());
        self.timers.stop(Timer::ParentSilence);
        if self.window.all_done() {
            return;
        }
        let tainted = matches!(fault, LinkFault::Tainted(_));
        self.report(fault);
        if tainted {
            self.timers.set(Timer::Redial, now + limits::REDIAL_DELAY);
        } else {
            self.dial(peer);
        }
    }

    pub(super) fn report(&mut self, fault: LinkFault) {
        let fault = match fault {
            LinkFault::Broken(why) => LinkFault::Broken(bounded(&why)),
            LinkFault::Tainted(why) => LinkFault::Tainted(bounded(&why)),
            LinkFault::Unreachable(why) => LinkFault::Unreachable(bounded(&why)),
            LinkFault::Gone(kept) => LinkFault::Gone(kept),
        };
        self.tell(ToCoordinator::LinkLost(self.epoch, self.window.received().offset, fault));
    }
}
