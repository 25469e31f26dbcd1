//! Data links and what flows over them: the tape as numbers, and one sender per link.

use alloc::borrow::ToOwned;
use alloc::collections::VecDeque;
use alloc::format;
use core::mem;

use super::World;
use super::clock::Due;
use super::host::State;
use super::run::note;
use crate::limits;
use crate::proto::node::Input;
use crate::time::{Duration, Instant};
use crate::types::{LinkId, NodeId, Position};
use crate::wire::control::{LinkFault, Peer};
use crate::wire::data::{Attach, Grant, Refuse};

/// The whole tape, known beforehand: items of `block` bytes, a shorter last one, and the close, which has none.
#[derive(Clone, Copy, Debug)]
pub struct Tape {
    /// Bytes of a block.
    pub block: u64,
    /// Bytes that the source gives, to its end or to its failure.
    pub length: u64,
}

impl Tape {
    /// Items, the close included.
    #[must_use]
    pub fn items(&self) -> u64 {
        self.length.div_ceil(self.block) + 1
    }

    /// The place behind the item that begins at `at`.
    #[must_use]
    pub fn behind(&self, at: Position) -> Position {
        at.after(self.block.min(self.length - at.offset.0))
    }

    /// Whether the item that begins at `at` is the close.
    #[must_use]
    pub fn is_close(&self, at: Position) -> bool {
        at.offset.0 == self.length
    }
}

/// When a kernel sends again what was lost.
const RETRY: Duration = Duration::from_millis(500);

/// How long so many bytes take at this rate.
#[must_use]
pub fn transfer(bytes: u64, bytes_per_s: u64) -> Duration {
    let nanos = match bytes.checked_mul(1_000_000_000) {
        Some(n) => n / bytes_per_s.max(1),
        None => u64::try_from(u128::from(bytes) * 1_000_000_000 / u128::from(bytes_per_s.max(1)))
            .unwrap_or(u64::MAX),
    };
    Duration::from_nanos(nanos)
}

/// A data link, from the dial on.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) parent: u32,
    pub(super) child: u32,
    /// Whether the parent's end is open: from its accept to its close.
    pub(super) parent_open: bool,
    /// What is under way on it does not arrive any more, and nobody is told.
    pub(super) lost: bool,
    /// Whether the child's end is open: from the parent's yes to its close.
    pub(super) child_open: bool,
    /// When the child's end opened.
    pub(super) since: Instant,
    /// What is being sent ends here, and when it is handed over.
    pub(super) sending: Option<Position>,
    pub(super) sent_at: Instant,
    /// Whether anything was sent since the last sign of life.
    pub(super) busy: bool,
    /// When the last of what was sent arrives, to the child and to the parent: one behind another.
    pub(super) to_child_last: Instant,
    pub(super) to_parent_last: Instant,
    /// The item that arrives next begins here.
    pub(super) arriving: Position,
    /// Grants on their way to the parent.
    pub(super) grants: VecDeque<Grant>,
    /// What the child said when it dialled.
    pub(super) attach: Attach,
    /// Why the parent said no.
    pub(super) refusal: Option<LinkFault>,
}

impl Link {
    pub(super) fn dialled(child: u32, parent: u32, attach: Attach) -> Self {
        Self {
            parent,
            child,
            parent_open: false,
            lost: false,
            child_open: false,
            since: Instant::ZERO,
            sending: None,
            sent_at: Instant::ZERO,
            busy: false,
            to_child_last: Instant::ZERO,
            to_parent_last: Instant::ZERO,
            arriving: Position::START,
            grants: VecDeque::new(),
            attach,
            refusal: None,
        }
    }
}

impl World {
    // ---- a link comes up ----

    /// A child dials: the connection takes a round trip, what it says then as long again as half of one.
    pub(super) fn dial(&mut self, h: u32, peer: Peer, attach: Attach) {
        let Some(parent) = self.by_id.get(&peer.node).copied() else {
            self.checker.breach("one parent", format!("host {h} dials {peer:?}, who is not there"));
            return;
        };
        note!(self, h, "dials {parent} from {:?} to {}", attach.grant.floors.held(), attach.grant.upto);
        let attach = Attach { grant: self.as_told(h, attach.grant), ..attach };
        let link = self.links.len() as u32;
        self.links.push(Link::dialled(h, parent, attach));
        // An older dial that is still under way is given up.
        self.hosts[h as usize].dialling = Some(link);
        let there = self.hosts[parent as usize].addr == peer.addr.ip() && !self.hosts[parent as usize].shared;
        if !there || !self.reaches(h, parent) || self.hosts[parent as usize].state == State::Frozen {
            self.clock.after(limits::CONNECT, Due::DialFailed(link));
        } else {
            let busy = mem::take(&mut self.hosts[h as usize].first_link);
            let at = self.clock.now + 3 * self.setup.latency + busy;
            self.links[link as usize].to_parent_last = at;
            self.clock.at(at, Due::Offered(link));
            self.clock.after(limits::CONNECT + limits::OFFER, Due::DialFailed(link));
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
            if self.hosts[at as usize].harm.any() {
                // Who is away has not heard yet that it has another parent.
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
            let flows = l.parent_open && l.sending.is_some() && l.sent_at > self.clock.now + limits::LIVE;
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
            self.clock.after(limits::STALL, Due::Arrived(link));
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

    /// What a host says of those below it: the truth, as a rule.
    fn as_told(&mut self, h: u32, mut grant: Grant) -> Grant {
        let host = &self.hosts[h as usize];
        let below = &mut grant.floors.0[1..];
        if host.inflates {
            self.marks.inflated += u64::from(below.iter().any(|at| *at != Position::END));
            below.fill(Position::END);
        } else if host.deflates {
            below.fill(Position::START);
        }
        grant
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
}

fn broken() -> LinkFault {
    LinkFault::Broken("connection reset".to_owned())
}
