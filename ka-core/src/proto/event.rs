//! The information that an application gets about a session: events as they happen, and a report at the end.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddr;

use crate::time::Instant;
use crate::types::{NodeId, Offset, SessionId};
use crate::wire::control::{Counters, Note, Outcome, Progress, RefusalCode};

/// Something happened in the session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A node is in; so many of the expected ones are ready.
    Joined {
        /// Which node.
        node: NodeId,
        /// The address of its data listener.
        addr: SocketAddr,
        /// Its host's own name for itself; may be empty.
        label: String,
        /// What its application has said of itself.
        about: Vec<u8>,
        /// Nodes that are in now.
        ready: u32,
        /// Nodes the gate waits for.
        expected: u32,
    },
    /// A node left before the start and is not counted any more.
    Left {
        /// Which node.
        node: NodeId,
        /// Nodes that are in now.
        ready: u32,
        /// Nodes the gate waits for.
        expected: u32,
    },
    /// Somebody was not let in.
    Refused {
        /// The address of the other end.
        addr: SocketAddr,
        /// The reason, for programs.
        code: RefusalCode,
        /// Why.
        why: String,
    },
    /// The gate is open: this many nodes take part.
    Started {
        /// The number of nodes.
        nodes: u32,
    },
    /// A node's link to its parent is up.
    Linked {
        /// Which node.
        node: NodeId,
        /// Its parent.
        parent: NodeId,
    },
    /// A node is not heard, or its connection broke: those below it go on without it. It may come back.
    Suspected {
        /// Which node.
        node: NodeId,
        /// Why, in words.
        why: String,
    },
    /// A suspected node is heard again, and has a place again.
    Returned {
        /// Which node.
        node: NodeId,
        /// The first offset it lacks.
        at: Offset,
    },
    /// A node could not get its bytes from the parent it had, and gets another one.
    Rerouted {
        /// Which node.
        node: NodeId,
        /// The parent it had.
        from: NodeId,
        /// The parent it gets.
        to: NodeId,
        /// Why, in words.
        why: String,
    },
    /// A node holds up the others, and goes to the end of the line.
    Slow {
        /// Which node.
        node: NodeId,
        /// The part that is slow, in words.
        why: String,
    },
    /// Nothing reaches a node, though it is heard and there is something for it: the others no longer depend on it.
    Idle {
        /// Which node.
        node: NodeId,
        /// The behaviour of its links, in words.
        why: String,
    },
    /// A node gets the rest once the others have everything: the source is read again for it.
    Later {
        /// Which node.
        node: NodeId,
        /// The first offset it lacks.
        at: Offset,
    },
    /// A node that was to be served later is served now, from this offset on.
    Resumed {
        /// Which node.
        node: NodeId,
        /// The first offset it lacks.
        at: Offset,
    },
    /// The source cannot be read again after all: a node that lacks what windows have evicted is lost.
    RereadFailed {
        /// Why, in words.
        why: String,
    },
    /// A node tells how far it is.
    Progress {
        /// Which node ([`NodeId::ROOT`]: how far the source is read).
        node: NodeId,
        /// The node's progress.
        progress: Progress,
    },
    /// The state of a node's application is another one.
    State {
        /// The node.
        node: NodeId,
        /// The state, as the application has it.
        state: Vec<u8>,
    },
    /// A node's application says something to this one. Its text is printable and bounded, and nobody vouches for it.
    Noted {
        /// Which node.
        node: NodeId,
        /// The message.
        note: Note,
    },
    /// A node holds the whole tape.
    Complete {
        /// Which node.
        node: NodeId,
    },
    /// A node has ended, and how.
    Ended {
        /// Which node.
        node: NodeId,
        /// The node's outcome.
        outcome: Outcome,
    },
    /// A node was let go.
    Released {
        /// Which node.
        node: NodeId,
    },
}

/// The report on a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The session.
    pub session: SessionId,
    /// Payload bytes of its tape, as far as the source was read.
    pub bytes: u64,
    /// When the gate opened; `None` if it never did.
    pub started: Option<Instant>,
    /// When the last node had ended.
    pub ended: Instant,
    /// The server's own node: how the source ended, and what its window did.
    pub root: NodeReport,
    /// Every other node that took part, in the order of joining.
    pub nodes: Vec<NodeReport>,
}

impl Report {
    /// Whether the session did what it was for: it started, and every node is OK.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.started.is_some() && self.root.outcome.is_ok() && self.nodes.iter().all(|n| n.outcome.is_ok())
    }
}

/// The report on one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeReport {
    /// Which node.
    pub node: NodeId,
    /// The address of its data listener.
    pub addr: SocketAddr,
    /// Its host's own name for itself; may be empty.
    pub label: String,
    /// The node's outcome: by its own receipt, or by what became of it.
    pub outcome: Outcome,
    /// Payload bytes its sinks took (the root: its source gave), as far as was heard.
    pub bytes: u64,
    /// When it joined.
    pub joined: Instant,
    /// When its outcome was known.
    pub ended: Instant,
    /// The counters of its window, as far as they were received.
    pub counters: Counters,
}
