//! Data links and what flows over them: the tape as numbers, and one sender per link.

use alloc::borrow::ToOwned;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use core::mem;

use super::World;
use super::clock::Due;
use super::host::{State, host_at};
use super::run::note;
use crate::proto::node::Input;
use crate::time::Duration;
use crate::types::{LinkId, NodeId, Position};
use crate::wire::control::{LinkFault, Peer};
use crate::wire::data::{Attach, Grant};

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
    /// Whether the child's end is open: from the parent's yes to its close.
    pub(super) child_open: bool,
    /// What is being sent ends here.
    pub(super) sending: Option<Position>,
    /// The item that arrives next begins here.
    pub(super) arriving: Position,
    /// Grants on their way to the parent.
    pub(super) grants: VecDeque<Grant>,
    /// What the child said when it dialled.
    pub(super) attach: Attach,
    /// Why the parent said no.
    pub(super) refusal: String,
}

impl Link {
    pub(super) fn dialled(child: u32, parent: u32, attach: Attach) -> Self {
        Self {
            parent,
            child,
            parent_open: false,
            child_open: false,
            sending: None,
            arriving: Position::START,
            grants: VecDeque::new(),
            attach,
            refusal: String::new(),
        }
    }
}

impl World {
    // ---- a link comes up ----

    /// A child dials: the connection takes a round trip, what it says then as long again as half of one.
    pub(super) fn dial(&mut self, h: u32, peer: Peer, attach: Attach) {
        let Some(parent) = host_at(peer.addr).filter(|p| self.by_id.get(&peer.node) == Some(p)) else {
            self.checker.breach("one parent", format!("host {h} dials {peer:?}, who is not there"));
            return;
        };
        note!(self, h, "dials {parent} from {:?} to {}", attach.resume, attach.upto);
        let link = self.links.len() as u32;
        self.links.push(Link::dialled(h, parent, attach));
        // An older dial, to a parent that does not answer, is given up.
        if let Some(old) = self.hosts[h as usize].dialling.replace(link)
            && self.links[old as usize].parent == parent
            && self.is_in(parent)
        {
            self.checker.breach("one parent", format!("host {h} dials {parent} twice at once"));
        }
        self.clock.after(3 * self.setup.latency, Due::Offered(link));
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
            _ => self.refuse(link, "connection refused".to_owned()),
        }
    }

    pub(super) fn accept(&mut self, h: u32, link: u32, child: NodeId, at: Position) {
        note!(self, h, "accepts {child} at {at:?}");
        let host = &mut self.hosts[h as usize];
        host.offered.retain(|l| *l != link);
        host.down.push(link);
        self.links[link as usize].parent_open = true;
        self.links[link as usize].arriving = at;
        self.clock.after(self.setup.latency, Due::Linked(link));
    }

    pub(super) fn linked(&mut self, link: u32) {
        let Link { child, .. } = self.links[link as usize];
        let host = &mut self.hosts[child as usize];
        if host.state == State::In && host.dialling == Some(link) {
            host.dialling = None;
            self.links[link as usize].child_open = true;
            if let Some(old) = host.up.replace(link) {
                self.checker.breach("one parent", format!("host {child} has links {old} and {link}"));
            }
            self.check_cycle(child);
            self.drive(child, Input::Linked(LinkId(link)));
        } else if host.state != State::Frozen {
            self.clock.after(self.setup.latency, Due::LostToParent(link));
        }
    }

    fn check_cycle(&mut self, from: u32) {
        let mut at = from;
        for _ in 0..self.hosts.len() {
            match self.hosts[at as usize].up {
                Some(link) => at = self.links[link as usize].parent,
                None => return,
            }
        }
        self.checker.breach("no cycle", format!("host {from} is below itself"));
    }

    fn refuse(&mut self, link: u32, words: String) {
        self.links[link as usize].refusal = words;
        self.clock.after(self.setup.latency, Due::Refused(link));
    }

    pub(super) fn refused(&mut self, link: u32) {
        let Link { child, .. } = self.links[link as usize];
        if self.hosts[child as usize].dialling == Some(link) {
            self.hosts[child as usize].dialling = None;
            let words = mem::take(&mut self.links[link as usize].refusal);
            note!(self, child, "dialled in vain: {words}");
            self.drive(child, Input::DialFailed(words));
        }
    }

    // ---- a link goes down ----

    /// A node closes one of its links; one that was only offered is refused with words.
    pub(super) fn drop_link(&mut self, h: u32, link: u32, words: Option<String>) {
        let offered = &mut self.hosts[h as usize].offered;
        if let Some(i) = offered.iter().position(|l| *l == link) {
            offered.swap_remove(i);
            self.refuse(link, words.unwrap_or_default());
        } else if self.links[link as usize].parent == h {
            self.close_at_parent(link);
        } else {
            self.close_at_child(link);
        }
    }

    fn close_at_parent(&mut self, link: u32) {
        let l = &mut self.links[link as usize];
        if mem::take(&mut l.parent_open) {
            self.hosts[l.parent as usize].down.retain(|d| *d != link);
            self.clock.after(self.setup.latency, Due::LostToChild(link));
        }
    }

    fn close_at_child(&mut self, link: u32) {
        let l = &mut self.links[link as usize];
        if mem::take(&mut l.child_open) {
            self.hosts[l.child as usize].up = None;
            self.clock.after(self.setup.latency, Due::LostToParent(link));
        }
    }

    /// A process is gone, and the kernel closes whatever it had open.
    pub(super) fn close_all(&mut self, h: u32) {
        let host = &mut self.hosts[h as usize];
        host.dialling = None;
        let (up, down, offered) = (host.up, mem::take(&mut host.down), mem::take(&mut host.offered));
        up.into_iter().for_each(|l| self.close_at_child(l));
        down.into_iter().for_each(|l| self.close_at_parent(l));
        offered.into_iter().for_each(|l| self.refuse(l, "connection reset".to_owned()));
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
        let behind = self.tape.behind(at);
        if behind.offset > upto {
            return;
        }
        let takes = transfer(behind.offset - at.offset, self.hosts[l.child as usize].rate);
        self.links[link as usize].sending = Some(behind);
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
            self.clock.after(self.setup.latency, Due::Arrived(link));
            self.start_sending(link);
        }
    }

    pub(super) fn arrived(&mut self, link: u32) {
        let tape = self.tape;
        let l = &mut self.links[link as usize];
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
            self.links[link as usize].grants.push_back(grant);
            self.clock.after(self.setup.latency, Due::Granted(link));
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
}

fn broken() -> LinkFault {
    LinkFault::Broken("connection reset".to_owned())
}
