//! Data links and what flows over them: the tape as numbers, and one sender per link.

use alloc::borrow::ToOwned;
use alloc::format;
use core::mem;

use super::clock::Due;
use super::host::NEVER;
use super::host::State;
use super::link::Link;
use super::tape::transfer;
use super::trace::note;
use super::world::World;
use crate::limits;
use crate::proto::node::Input;
use crate::time::{Duration, Instant};
use crate::types::{LinkId, NodeId, Position};
use crate::wire::control::{LinkFault, Peer};
use crate::wire::data::{Attach, Grant, Refuse};

/// When a kernel sends again what was lost.
const RETRY: Duration = Duration::from_millis(500);

impl World {
    // ---- a link comes up ----

    /// A child dials: the connection takes a round trip, what it says then as long again as half of one.
    pub(super) fn dial(&mut self, h: u32, peer: Peer, attach: Attach) {
        let Some(parent) = self.by_id.get(&peer.node).copied() else {
            self.checker.breach("one parent", format!("host {h} dials {peer:?}, who is not there"));
            return;
        };
        note!(self, h, "dials {parent} from {:?} to {}", attach.grant.watermarks.held(), attach.grant.upto);
        let attach = Attach { grant: self.as_told(h, attach.grant), ..attach };
        let link = self.links.len() as u32;
        self.links.push(Link::dialled(h, parent, attach));
        // An older dial that is still under way is given up.
        self.hosts[h as usize].dialling = Some(link);
        let there = self.hosts[parent as usize].addr == peer.addr.ip() && !self.hosts[parent as usize].shared;
        if !there || !self.reaches(h, parent) || self.hosts[parent as usize].state == State::Frozen {
            self.clock.after(limits::CONNECT_TIMEOUT, Due::DialFailed(link));
        } else {
            let busy = mem::take(&mut self.hosts[h as usize].first_link);
            let at = self.clock.now + 3 * self.setup.latency + busy;
            self.links[link as usize].to_parent_last = at;
            self.clock.at(at, Due::Offered(link));
            self.clock.after(limits::CONNECT_TIMEOUT + limits::OFFER_TIMEOUT, Due::DialFailed(link));
        }
    }

    /// There was no answer.
    pub(super) fn dial_failed(&mut self, link: u32) {
        let child = self.links[link as usize].child;
        let dialling = &mut self.hosts[child as usize].dialling;
        if dialling.take_if(|l| *l == link).is_some() {
            let fault = LinkFault::Unreachable("connection timed out".to_owned());
            note!(self, child, "dialled in vain: {fault:?}");
            self.drive(child, Input::DialFailed(fault));
        }
    }

    pub(super) fn offered(&mut self, link: u32) {
        let Link { parent, attach, .. } = self.links[link as usize];
        match self.hosts[parent as usize].state {
            State::In => {
                self.hosts[parent as usize].offered.push(link);
                self.drive(parent, Input::Offered(LinkId(link), attach));
                self.pump(parent);
            }
            State::Frozen => {}
            // It listens before it says hello; whoever dials waits in the kernel.
            State::Joining => self.clock.after(self.setup.latency, Due::Offered(link)),
            _ => self.refuse(link, LinkFault::Unreachable("connection refused".to_owned())),
        }
    }

    pub(super) fn accept(&mut self, h: u32, link: u32, child: NodeId, at: Position) {
        note!(self, h, "accepts {child} at {at:?}");
        let host = &mut self.hosts[h as usize];
        host.offered.retain(|l| *l != link);
        host.down.push(link);
        self.links[link as usize].parent_open = true;
        self.links[link as usize].arriving = at;
        self.send_to_child(link, Due::Linked(link));
        self.marks.ahead += u64::from(at > self.node(h).window().received());
    }

    pub(super) fn linked(&mut self, link: u32) {
        let Link { child, .. } = self.links[link as usize];
        let host = &mut self.hosts[child as usize];
        if host.state == State::In && host.dialling == Some(link) {
            host.dialling = None;
            let l = &mut self.links[link as usize];
            (l.child_open, l.since) = (true, self.clock.now);
            if let Some(old) = host.up.replace(link) {
                self.checker.breach("one parent", format!("host {child} has links {old} and {link}"));
            }
            self.check_cycle(child);
            self.drive(child, Input::Linked(LinkId(link)));
        } else if host.state != State::Frozen {
            self.send_to_parent(link, Due::LostToParent(link));
        }
    }

    fn check_cycle(&mut self, from: u32) {
        let mut at = from;
        for _ in 0..self.hosts.len() {
            if self.hosts[at as usize].harm.any() || self.hosts[at as usize].lies() {
                // Who is away, or lies about its link, has not heard yet that it has another parent.
                return;
            }
            match self.hosts[at as usize].up {
                Some(link) => at = self.links[link as usize].parent,
                None => return,
            }
        }
        self.checker.breach("no cycle", format!("host {from} is below itself"));
    }

    /// A node does not want a link that was offered.
    pub(super) fn decline(&mut self, h: u32, link: u32, refuse: Refuse) {
        self.hosts[h as usize].offered.retain(|l| *l != link);
        let fault = refuse.kept.map_or(LinkFault::Unreachable(refuse.why), LinkFault::Gone);
        self.refuse(link, fault);
    }

    fn refuse(&mut self, link: u32, fault: LinkFault) {
        self.links[link as usize].refusal = Some(fault);
        self.send_to_child(link, Due::Refused(link));
    }

    pub(super) fn refused(&mut self, link: u32) {
        let Link { child, .. } = self.links[link as usize];
        if self.hosts[child as usize].dialling == Some(link)
            && let Some(fault) = self.links[link as usize].refusal.take()
        {
            self.hosts[child as usize].dialling = None;
            note!(self, child, "dialled in vain: {fault:?}");
            self.marks.gone += u64::from(matches!(fault, LinkFault::Gone(_)));
            self.drive(child, Input::DialFailed(fault));
        }
    }

    /// Something is on its way to the child, behind whatever was sent before. A large packet that is lost holds up all
    /// that follows.
    fn send_to_child(&mut self, link: u32, due: Due) {
        let l = &self.links[link as usize];
        let (child, last) = (l.child, l.to_child_last);
        let mut at = self.arrival(l.parent, child, last);
        if let (Due::Arrived(_), Some(until)) = (due, self.paths.hole(child, at)) {
            at = until.max(last) + RETRY;
        }
        self.links[link as usize].to_child_last = at;
        self.clock.at(at, due);
    }

    /// The same towards the parent.
    fn send_to_parent(&mut self, link: u32, due: Due) {
        let l = &self.links[link as usize];
        let at = self.arrival(l.child, l.parent, l.to_parent_last);
        self.links[link as usize].to_parent_last = at;
        self.clock.at(at, due);
    }

    // ---- signs of life ----

    /// A node lets idle children know that it lives, and hears its parent out: an item may take long.
    pub(super) fn live(&mut self, h: u32) {
        for i in 0..self.hosts[h as usize].down.len() {
            let link = self.hosts[h as usize].down[i];
            let l = &mut self.links[link as usize];
            if !mem::take(&mut l.busy) && l.sending.is_none() {
                self.send_to_child(link, Due::Heard(link));
            }
        }
        if let Some(link) = self.hosts[h as usize].up {
            let l = &self.links[link as usize];
            let flows = l.parent_open
                && l.sending.is_some()
                && l.sent_at > self.clock.now + limits::HEARTBEAT_INTERVAL;
            if flows && self.paths.blocked(l.parent, h, self.clock.now).is_none() {
                self.clock.after(Duration::ZERO, Due::Heard(link));
            }
        }
    }

    pub(super) fn heard(&mut self, link: u32) {
        let l = &self.links[link as usize];
        if l.child_open {
            self.drive(l.child, Input::Heard(LinkId(link)));
        }
    }

    // ---- a link goes down ----

    /// A node closes one of its links.
    pub(super) fn drop_link(&mut self, h: u32, link: u32) {
        if self.links[link as usize].parent == h {
            self.close_at_parent(link);
        } else {
            self.close_at_child(link);
        }
    }

    fn close_at_parent(&mut self, link: u32) {
        let l = &mut self.links[link as usize];
        if mem::take(&mut l.parent_open) {
            self.hosts[l.parent as usize].down.retain(|d| *d != link);
            self.send_to_child(link, Due::LostToChild(link));
        }
    }

    fn close_at_child(&mut self, link: u32) {
        let l = &mut self.links[link as usize];
        if mem::take(&mut l.child_open) {
            self.hosts[l.child as usize].up = None;
            self.send_to_parent(link, Due::LostToParent(link));
        }
    }

    /// A process is gone, and the kernel closes whatever it had open.
    pub(super) fn close_all(&mut self, h: u32) {
        let host = &mut self.hosts[h as usize];
        host.dialling = None;
        let (up, down, offered) = (host.up, mem::take(&mut host.down), mem::take(&mut host.offered));
        up.into_iter().for_each(|l| self.close_at_child(l));
        down.into_iter().for_each(|l| self.close_at_parent(l));
        offered.into_iter().for_each(|l| self.refuse(l, broken()));
    }

    pub(super) fn lost_to_parent(&mut self, link: u32) {
        let l = &mut self.links[link as usize];
        let parent = l.parent;
        if mem::take(&mut l.parent_open) {
            self.hosts[parent as usize].down.retain(|d| *d != link);
            self.drive(parent, Input::LinkLost(LinkId(link), broken()));
            self.pump(parent);
        }
    }

    pub(super) fn lost_to_child(&mut self, link: u32) {
        let l = &mut self.links[link as usize];
        let child = l.child;
        if mem::take(&mut l.child_open) {
            self.hosts[child as usize].up = None;
            self.drive(child, Input::LinkLost(LinkId(link), broken()));
        }
    }

    // ---- the tape flows ----

    /// Sends the link's next item if the link is idle, the parent has the item and the child has room for it.
    pub(super) fn start_sending(&mut self, link: u32) {
        let l = &self.links[link as usize];
        if l.sending.is_some() || !l.parent_open || !self.is_in(l.parent) {
            return;
        }
        let node = self.node(l.parent);
        let Some((at, upto)) = node.sendable(LinkId(link)) else { return };
        if at.item >= node.window().received().item {
            return;
        }
        if at < node.window().kept() && !(l.parent == 0 && self.reread()) {
            let (kept, parent) = (node.window().kept(), l.parent);
            self.checker.breach(
                "nothing forgotten too early",
                format!("host {parent} should send what is at {at:?} and holds {kept:?} on"),
            );
            return;
        }
        let behind = self.tape.behind(at);
        if behind.offset > upto {
            return;
        }
        if self.hosts[l.parent as usize].withholds_from.is_some_and(|from| at.offset.0 >= from) {
            return;
        }
        let (now, bytes) = (self.clock.now, behind.offset - at.offset);
        let mut takes = transfer(bytes, self.hosts[l.child as usize].rate);
        if let Some(rate) = self.setup.card {
            let free = &mut self.hosts[l.parent as usize].card_free;
            *free = now.max(*free) + transfer(bytes, rate);
            takes = takes.max(free.since(now));
        }
        let l = &mut self.links[link as usize];
        (l.sending, l.sent_at, l.busy) = (Some(behind), now + takes, true);
        self.first_sent.get_or_insert(self.clock.now);
        self.clock.after(takes, Due::Sent(link));
    }

    pub(super) fn sent(&mut self, link: u32) {
        let l = &mut self.links[link as usize];
        let parent = l.parent;
        if let Some(behind) = l.sending.take()
            && l.parent_open
            && self.is_in(parent)
        {
            self.drive(parent, Input::Sent(LinkId(link), behind));
            self.send_to_child(link, Due::Arrived(link));
            self.start_sending(link);
        }
    }

    pub(super) fn arrived(&mut self, link: u32) {
        let tape = self.tape;
        let l = &mut self.links[link as usize];
        if !l.child_open && self.hosts[l.child as usize].dialling == Some(link) {
            // The child has not got round to it; the bytes wait in the kernel.
            self.clock.after(limits::STALL_AFTER, Due::Arrived(link));
            return;
        }
        let at = l.arriving;
        l.arriving = tape.behind(at);
        let (parent, child) = (l.parent, l.child);
        if !l.child_open || !self.is_in(child) {
            return;
        }
        if self.hosts[parent as usize].taints_from.is_some_and(|t| at.offset.0 >= t) {
            note!(self, child, "gets a bad item {} from {parent}", at.item);
            self.close_at_child(link);
            let words = "a block that is not the announced one".to_owned();
            self.drive(child, Input::LinkLost(LinkId(link), LinkFault::Tainted(words)));
            return;
        }
        self.receive(child, at);
        self.pump(child);
    }

    /// A node tells its parent (the root: its source) how far it may send.
    pub(super) fn grant(&mut self, h: u32, grant: Grant) {
        if h == 0 {
            self.source.upto = grant.upto;
        } else if let Some(link) = self.hosts[h as usize].up {
            let grant = self.as_told(h, grant);
            self.links[link as usize].grants.push_back(grant);
            self.send_to_parent(link, Due::Granted(link));
        }
    }

    pub(super) fn granted(&mut self, link: u32) {
        let l = &mut self.links[link as usize];
        let (parent, open) = (l.parent, l.parent_open);
        if let Some(grant) = l.grants.pop_front()
            && open
        {
            self.drive(parent, Input::Granted(LinkId(link), grant));
            self.pump(parent);
        }
    }

    /// Whether a connection can be opened now.
    pub(super) fn reaches(&self, from: u32, to: u32) -> bool {
        let now = self.clock.now;
        self.paths.blocked(from, to, now).is_none() && self.paths.blocked(to, from, now).is_none()
    }

    /// When what is sent now arrives, no sooner than `last`, what was sent before it.
    pub(super) fn arrival(&mut self, sender: u32, receiver: u32, last: Instant) -> Instant {
        let mut at = self.clock.now + self.setup.latency;
        while let Some(until) = self.paths.blocked(sender, receiver, at).filter(|u| *u < NEVER) {
            at = until + Duration::from_millis(200 + self.rng.below(800));
        }
        at.max(last)
    }
}

fn broken() -> LinkFault {
    LinkFault::Broken("connection reset".to_owned())
}
