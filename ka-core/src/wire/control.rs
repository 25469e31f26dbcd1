//! Control messages, between a node and the coordinator. Each has one sentence.
//!
//! A frame is its length (u32, little-endian) and the encoded message; see [`codec`](super::codec).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::crypto::link_keys::LinkKey;
use crate::crypto::payload::PayloadKey;
use crate::types::{Epoch, NodeId, Offset, SessionId, SessionName};

/// A message from a node to the coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToCoordinator {
    /// I am here; this is what I want.
    Hello(Hello),
    /// The link to the parent that this view names is up.
    Linked(Epoch),
    /// This far am I. Also the sign that I live.
    Progress(Progress),
    /// Something is wrong with the link to the parent of this view; I stand at this offset and dial again.
    LinkLost(Epoch, Offset, LinkFault),
    /// I hold the whole tape, verified; only my sink may still be at work.
    Complete,
    /// This is how I end; the coordinator believes nothing else.
    Receipt(Receipt),
    /// Something for the application at the server; the session itself takes no notice.
    Note(Note),
    /// I hold the first so many items of the tape. Those above forget nothing that I have not said to hold.
    Stored(u64),
    /// The state of the node's application, for the one at the server. The last one counts; it is sent again after a
    /// reconnect.
    State(Vec<u8>),
}

/// The first message of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The session it looks for; `None` takes whichever the server serves.
    pub session: Option<SessionName>,
    /// A random number made at start: a node that comes back after a restart has another one.
    pub incarnation: u64,
    /// The client's purpose.
    pub role: Role,
    /// The host's own name for itself, for people only; may be empty.
    pub label: String,
    /// What the node's application says of itself to the one at the server, at most
    /// [`ABOUT_BYTES`](crate::limits::ABOUT_BYTES).
    pub about: Vec<u8>,
}

/// The purpose for which a client contacts a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// To receive and relay.
    Node {
        /// The port on which it listens for its children.
        data_port: u16,
        /// Whether it stays until it is let go (`-w`).
        wait: bool,
        /// The node's number, if it is in already and its connection to the coordinator broke.
        back: Option<NodeId>,
    },
    /// To have the session start with whoever is there (`-g`).
    Go,
}

/// The progress of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Verified and held, or held once.
    pub received: Offset,
    /// Taken by the node's own sink.
    pub sunk: Offset,
    /// The start of what it still holds.
    pub kept: Offset,
    /// The cause that keeps its window full.
    pub blocked: Blocked,
    /// The counters of its window so far.
    pub counters: Counters,
}

impl Progress {
    /// The same of a node that can have no more than what is before `end`.
    #[must_use]
    pub(crate) fn within(self, end: Offset) -> Self {
        let received = self.received.min(end);
        Self { received, sunk: self.sunk.min(received), kept: self.kept.min(received), ..self }
    }
}

/// The cause that keeps a window full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Blocked {
    /// Nothing: it has room, or everything is here.
    #[default]
    No,
    /// The node's own sink.
    Sink,
    /// This child, or somebody below it.
    Child(NodeId),
    /// Somebody further below, who says to hold less than the children say of him.
    Below,
}

/// The counters of a node's window: the proof that its mechanisms were at work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Times the node told its parent how far it may send.
    pub grants: u64,
    /// Times the window was full: everything granted had come, and no more could be granted.
    pub full: u64,
    /// Bytes forgotten to make room.
    pub evicted: u64,
    /// The most bytes held at one time.
    pub held_max: u64,
    /// Times a child was lost and everything was held until the coordinator said what becomes of it.
    pub holds: u64,
    /// Times the node attached to a parent.
    pub attaches: u64,
    /// Root only: bytes that were sent from the source again, because the window had forgotten them.
    pub reread: u64,
}

/// Why a data link does not work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum LinkFault {
    /// The link was up and is closed, reset or silent, or its messages were changed on their way; the system's words.
    Broken(String),
    /// The parent sent something that is not the true tape: what, in words.
    Tainted(String),
    /// The parent cannot be reached, or does not answer; the system's words.
    Unreachable(String),
    /// The parent holds the tape from this offset on only.
    Gone(Offset),
}

/// A message from a node's application to the server's: its progress, a line of its log.
///
/// A note is for people, and nothing is certain about it: notes may be lost with a connection, and of more than
/// [`limits::NOTES_PER_SECOND`](crate::limits::NOTES_PER_SECOND) in a second the coordinator drops the rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The subject, in the application's own words; at most [`limits::TEXT_BYTES`](crate::limits::TEXT_BYTES).
    pub topic: String,
    /// The text; at most [`limits::NOTE_BYTES`](crate::limits::NOTE_BYTES).
    pub text: String,
}

/// The last word of a node about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The node's outcome.
    pub outcome: Outcome,
    /// Payload bytes its sinks took.
    pub bytes: u64,
    /// The last value of the chain of statements it verified; zeros if it did not come so far.
    pub chain: [u8; 32],
    /// The counters of its window.
    pub counters: Counters,
}

/// The outcome of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Outcome {
    /// The whole tape, every block verified, the source well, every sink well and synced.
    Ok,
    /// Not so, for this reason, at this offset.
    Failed(Reason, Offset),
    /// Nobody can say: it was cut off when it may already have been done.
    Unknown,
}

impl Outcome {
    /// Whether this is [`Outcome::Ok`].
    #[must_use]
    pub fn is_ok(&self) -> bool {
        matches!(self, Self::Ok)
    }
}

/// Why a node failed, or why a session ended early.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Reason {
    /// The source did not end well: its own words.
    Source(String),
    /// The node's own sink did not: its own words.
    Sink(String),
    /// The bytes stopped on the way: this node was lost or could not be reached, in words.
    Lost(NodeId, String),
    /// This node sent something that is not the true tape, in words.
    Tainted(NodeId, String),
    /// Somebody stopped it: who, in words.
    Interrupted(String),
    /// The node was so slow that the session went on without it: how slow, in words.
    Slow(String),
    /// The node came back too late: no node holds the bytes from the first offset to the second any more.
    Missing(Offset, Offset),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(why) => write!(f, "the source failed: {why}"),
            Self::Sink(why) => write!(f, "the sink failed: {why}"),
            Self::Lost(who, why) => write!(f, "lost on the way at {who}: {why}"),
            Self::Tainted(who, why) => write!(f, "{who} sent bytes that are not the true ones: {why}"),
            Self::Interrupted(who) => write!(f, "interrupted: {who}"),
            Self::Slow(why) => write!(f, "too slow: {why}"),
            Self::Missing(from, to) => {
                write!(f, "it was away too long: bytes {from} to {to} are held by nobody any more")
            }
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("OK"),
            Self::Failed(why, at) => write!(f, "FAILED at byte {at}: {why}"),
            Self::Unknown => f.write_str("UNKNOWN"),
        }
    }
}

/// A message from the coordinator to a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToNode {
    /// You are in.
    Welcome(Welcome),
    /// You are not, and this is why; the connection ends.
    Refused(Refusal),
    /// The session starts with whoever is there (the answer to [`Role::Go`]): so many nodes.
    Going(u32),
    /// Your parent and your children from now on.
    View(View),
    /// The coordinator lives.
    Beat,
    /// The session is over for you, and failed for this reason.
    Abort(Reason),
    /// Nobody needs you any more: go.
    Release,
    /// Everybody below your children, as far as you must keep for them, holds the first so many items: what is behind
    /// them must not be forgotten, whatever your children say. `u64::MAX`: there is nobody.
    Stable(u64),
}

/// The data that a node receives when it is let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// Its number.
    pub node: NodeId,
    /// The session's identity, part of everything that is signed.
    pub session: SessionId,
    /// The session's public key (Ed25519): statements on the tape are signed with it.
    pub key: [u8; 32],
    /// The key that the payload is encrypted with.
    pub payload: PayloadKey,
    /// The number of nodes that the session waits for.
    pub expected: u32,
    /// Its own key for the links to its children; `None` if the session is insecure.
    pub link: Option<LinkKey>,
}

/// The part of the tree that concerns one node: its parent and its children.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// The view's number; a lower one than the last is ignored.
    pub epoch: Epoch,
    /// The peer from which the tape comes; `None` for the root, and for a node that needs no more of it.
    pub parent: Option<Peer>,
    /// The nodes that will attach.
    pub children: Vec<NodeId>,
    /// Forget nothing for which there is room: somebody who lacks it may come back.
    pub retain: bool,
}

/// Another node, where its data listener is, and how to speak to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Which node.
    pub node: NodeId,
    /// The address on which it listens.
    pub addr: SocketAddr,
    /// The key of the link to it; `None` if the session is insecure.
    pub key: Option<LinkKey>,
}

/// The answer to a client that is not let in: a code for programs, and a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The reason.
    pub code: RefusalCode,
    /// The same in words.
    pub text: String,
}

/// The reason why a client is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum RefusalCode {
    /// The server serves another session than the one asked for.
    OtherSession,
    /// The session has already started with so many nodes, and no node has its beginning any more.
    Started(u32),
    /// The server does not know the node that wants to come back.
    Unknown,
    /// As many nodes as a session can have are in.
    Full,
    /// `-g`, but no node is waiting.
    NobodyReady,
    /// The session is ending.
    Ending,
    /// The hello makes no sense.
    Invalid,
    /// The rule of the server's application says no, for a reason of its own.
    Rule(u16),
}

impl Refusal {
    /// A refusal for this reason, in these words.
    #[must_use]
    pub fn new(code: RefusalCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    /// The refusal of a client that asks for another session.
    #[must_use]
    pub fn other_session() -> Self {
        Self::new(RefusalCode::OtherSession, "the server serves a session of another name")
    }

    /// The refusal of a client that comes after the start with so many nodes.
    #[must_use]
    pub fn started(nodes: u32) -> Self {
        let s = if nodes == 1 { "" } else { "s" };
        let text = format!(
            "the session has already started with {nodes} node{s}; start it again and join before it starts"
        );
        Self::new(RefusalCode::Started(nodes), text)
    }

    /// The refusal of a node that wants to come back and is not known.
    #[must_use]
    pub fn unknown() -> Self {
        Self::new(RefusalCode::Unknown, "the session has ended, or goes on without this node")
    }

    /// The refusal of one node too many.
    #[must_use]
    pub fn full() -> Self {
        Self::new(RefusalCode::Full, "the session has as many nodes as it can have")
    }

    /// The refusal of a node for which there is no number.
    #[must_use]
    pub fn no_number() -> Self {
        let text = "nodes have come and gone so often that the session has no number left for another one: serve it again";
        Self::new(RefusalCode::Full, text)
    }

    /// The refusal of a node that comes after the start like others that came to nothing.
    #[must_use]
    pub fn in_vain() -> Self {
        let text = "nodes have joined after the start too often, and taken nothing or failed: join before the next session starts";
        Self::new(RefusalCode::Full, text)
    }

    /// The refusal of a start without nodes.
    #[must_use]
    pub fn nobody_ready() -> Self {
        Self::new(RefusalCode::NobodyReady, "no node is waiting, so there is nothing to start")
    }

    /// The refusal of a client while the session ends, for this reason.
    #[must_use]
    pub fn ending(why: &str) -> Self {
        Self::new(RefusalCode::Ending, format!("the session is ending: {why}"))
    }

    /// The refusal by the rule of the server's application.
    #[must_use]
    pub fn rule(code: u16, why: &str) -> Self {
        Self::new(RefusalCode::Rule(code), format!("the server's rule says no: {why}"))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
