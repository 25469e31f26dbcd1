//! Who is here, and where each one stands.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use super::arrival::Arrival;
use super::event::NodeReport;
use super::throughput::Throughput;
use crate::limits;
use crate::time::{Duration, Instant};
use crate::types::{Epoch, NodeId};
use crate::wire::control::{Outcome, Progress};

/// What the coordinator's caller calls one control connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Conn(pub u32);

impl Conn {
    /// The server's own node, which needs no connection.
    pub const ROOT: Self = Self(0);
}

/// One node of the session.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its number.
    pub node: NodeId,
    /// Its control connection; `None` once that is gone.
    pub conn: Option<Conn>,
    /// Where its data listener is, as the server sees it.
    pub addr: SocketAddr,
    /// The value of `addr` when the node joined, which reports and people know it by.
    pub joined_at: SocketAddr,
    /// The server's own address on its control connection: how this node sees the server.
    pub server_ip: IpAddr,
    /// Its host's own name for itself.
    pub label: String,
    /// Made at its start; another one means another start.
    pub incarnation: u64,
    /// Whether it stays until it is let go.
    pub waits: bool,
    /// Its parent, once the session has started; `None` while it has no place, or needs none any more.
    pub parent: Option<NodeId>,
    /// The first view that names this parent; later ones may change its children only.
    pub parent_since: Epoch,
    /// Its children.
    pub children: Vec<NodeId>,
    /// Its link to a parent was up once.
    pub linked: bool,
    /// The parent that its link is up to, as far as is known.
    pub fed_by: Option<NodeId>,
    /// Parents it could not get its bytes from.
    pub avoid: Vec<NodeId>,
    /// Since when its links have failed, one after another.
    pub linkless: Option<Instant>,
    /// What came over its link was too little, so it got another parent: if that is no better, the fault is its own.
    pub fed_anew: bool,
    /// Somebody got false bytes from it: it feeds nobody any more.
    pub barred: bool,
    /// The child that nothing reached from it: it feeds nobody new, unless the fault turns out to be the child's.
    pub doubted_by: Option<NodeId>,
    /// It is not heard, or its connection broke.
    pub suspicion: Option<Suspicion>,
    /// Times it was suspected, one soon after another, and when it was last.
    pub flaps: (u32, Instant),
    /// Its parent before this one, which names it a child until its link to this one is up.
    pub held_by: Option<NodeId>,
    /// For whom it does so itself.
    pub holds_for: Vec<NodeId>,
    /// Who keeps what it may lack when it comes back.
    pub kept_by: Vec<NodeId>,
    /// For how many others it does so itself.
    pub keeps_for: u32,
    /// The last it said of itself.
    pub progress: Progress,
    /// It holds so many items of the tape, by its own word.
    pub holds: u64,
    /// It was told that those further below than its children hold so many, the last of them this one.
    pub safe: (u64, NodeId),
    /// It holds the whole tape.
    pub complete: bool,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// It was let go.
    pub released: bool,
    /// When it came.
    pub joined: Instant,
    /// How fast it is.
    pub throughput: Throughput,
    /// Whether anything reaches it.
    pub arrival: Arrival,
    /// It came after the start.
    pub late: bool,
    /// It was said that it is slow, and it last was so then.
    pub named: Option<Instant>,
    /// It is on its way to the end of the line, once those it fed are fed by others.
    pub leaves: bool,
    /// It is served once the others have everything.
    pub later: bool,
    /// When its connection closed; `None` while it has one.
    pub gone: Option<Instant>,
    /// Notes it has sent since then.
    pub notes: (u32, Instant),
    /// When it was last heard.
    pub heard: Instant,
    /// How long it was between two of its messages at the most, lately.
    pub gap: Duration,
    /// When its outcome was known.
    pub ended: Option<Instant>,
}

/// Why a node has no place for now.
#[derive(Clone, Debug)]
pub struct Suspicion {
    /// Since when.
    pub since: Instant,
    /// Since when it is heard again.
    pub back: Option<Instant>,
    /// Why.
    pub why: Cause,
}

/// What made the coordinator suspect a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Nothing was heard from it.
    Silent,
    /// Its connection ended: how, in words.
    Gone(String),
}

impl Member {
    /// What is held against it now, in words: silence is still going on.
    #[must_use]
    pub fn suspected_of(&self, now: Instant, cause: &Cause) -> String {
        let silent = now.since(self.heard);
        match cause {
            Cause::Gone(why) => why.clone(),
            Cause::Silent if silent < Duration::from_secs(2) => {
                format!("it has said nothing for {} ms", silent.as_millis())
            }
            Cause::Silent => format!("it has said nothing for {} s", silent.as_secs()),
        }
    }

    /// Whether it may be somebody's parent.
    #[must_use]
    pub fn feeds(&self) -> bool {
        self.node == NodeId::ROOT
            || (self.parent.is_some()
                && self.suspicion.is_none()
                && !self.released
                && !self.barred
                && self.doubted_by.is_none())
    }

    /// Whether it needs bytes for itself.
    #[must_use]
    pub fn lacks(&self) -> bool {
        !self.complete && self.outcome.is_none()
    }

    /// A member that has just come: nothing is known of it but where it is.
    #[must_use]
    pub fn new(now: Instant, node: NodeId, conn: Conn, addr: SocketAddr, server_ip: IpAddr) -> Self {
        Self {
            node,
            conn: Some(conn),
            addr,
            joined_at: addr,
            server_ip,
            label: String::new(),
            incarnation: 0,
            waits: false,
            parent: None,
            parent_since: Epoch::default(),
            children: Vec::new(),
            linked: false,
            fed_by: None,
            avoid: Vec::new(),
            linkless: None,
            fed_anew: false,
            barred: false,
            doubted_by: None,
            suspicion: None,
            flaps: (0, now),
            held_by: None,
            holds_for: Vec::new(),
            kept_by: Vec::new(),
            keeps_for: 0,
            progress: Progress::default(),
            holds: 0,
            safe: (u64::MAX, NodeId::ROOT),
            complete: false,
            outcome: None,
            released: false,
            joined: now,
            gone: None,
            notes: (0, now),
            throughput: Throughput::new(now),
            arrival: Arrival::new(now),
            late: false,
            named: None,
            leaves: false,
            later: false,
            heard: now,
            gap: limits::PROGRESS_INTERVAL,
            ended: None,
        }
    }

    /// The member's line of the final report.
    #[must_use]
    pub fn report(&self, now: Instant) -> NodeReport {
        let progress = &self.progress;
        NodeReport {
            node: self.node,
            addr: self.joined_at,
            label: self.label.clone(),
            outcome: self.outcome.clone().unwrap_or(Outcome::Unknown),
            bytes: if self.node == NodeId::ROOT { progress.received.0 } else { progress.sunk.0 },
            joined: self.joined,
            ended: self.ended.unwrap_or(now),
            counters: progress.counters,
        }
    }
}

/// The members of a session by number, and by connection.
///
/// The root is always there. A node that left before the start is taken out, and its number is not given again.
#[derive(Debug, Default)]
pub struct Roster {
    members: BTreeMap<NodeId, Member>,
    conns: BTreeMap<Conn, NodeId>,
    next: u32,
}

impl Roster {
    /// Adds a member under the next number.
    pub fn add(&mut self, member: impl FnOnce(NodeId) -> Member) -> NodeId {
        let node = NodeId(self.next);
        self.next += 1;
        let member = member(node);
        if let Some(conn) = member.conn {
            self.conns.insert(conn, node);
        }
        self.members.insert(node, member);
        node
    }

    /// Puts a member back under a number that it had before; false if it cannot have had it.
    pub fn restore(&mut self, member: Member) -> bool {
        if member.node.0 >= self.next || self.members.contains_key(&member.node) {
            return false;
        }
        if let Some(conn) = member.conn {
            self.conns.insert(conn, member.node);
        }
        self.members.insert(member.node, member);
        true
    }

    /// A member speaks on a new connection from now on; the old one, if there is one, is returned.
    pub fn reconnect(&mut self, node: NodeId, conn: Conn) -> Option<Conn> {
        let member = self.members.get_mut(&node)?;
        member.gone = None;
        let old = member.conn.replace(conn);
        if let Some(old) = old {
            self.conns.remove(&old);
        }
        self.conns.insert(conn, node);
        old
    }

    /// Takes a member out, as if it had never been there.
    pub fn remove(&mut self, node: NodeId) {
        if let Some(conn) = self.members.remove(&node).and_then(|m| m.conn) {
            self.conns.remove(&conn);
        }
    }

    /// A member's connection is gone: whose was it?
    pub fn hang_up(&mut self, conn: Conn) -> Option<NodeId> {
        let node = self.conns.remove(&conn)?;
        self.members.get_mut(&node)?.conn = None;
        Some(node)
    }

    /// Whose connection this is.
    #[must_use]
    pub fn by_conn(&self, conn: Conn) -> Option<NodeId> {
        self.conns.get(&conn).copied()
    }

    /// A member by its number.
    #[must_use]
    pub fn get(&self, node: NodeId) -> Option<&Member> {
        self.members.get(&node)
    }

    /// A member by its number, to change it.
    pub fn get_mut(&mut self, node: NodeId) -> Option<&mut Member> {
        self.members.get_mut(&node)
    }

    /// Every member but the root, to change it.
    pub fn nodes_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        self.members.values_mut().filter(|m| m.node != NodeId::ROOT)
    }

    /// Every member, the root first.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// Every member but the root.
    pub fn nodes(&self) -> impl Iterator<Item = &Member> {
        self.members.values().filter(|m| m.node != NodeId::ROOT)
    }

    /// How many there are besides the root.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.members.len().saturating_sub(1) as u32
    }

    /// Whether there is nobody besides the root.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
