//! The interface between an application and a session: configurations and events.

use std::fmt;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::mpsc;

use super::discovery::Other;
use super::error::JoinError;
use super::host::name::Host;
use super::host::ports::Ports;
use super::host::threads::Threads;
use super::noise::identity::ServerKey;
use crate::crypto::session_key::Key;
use crate::limits;
use crate::proto;
use crate::proto::coordinator::Slow;
use crate::stream::{Source, Spool};
use crate::tape::chain::StreamInfo;
use crate::types::{NodeId, Offset, SessionId, SessionName, printable};
use crate::wire::control::{Counters, Note, Outcome, Progress};

/// The configuration of a server's session. `Default` is one node, a chain, found by address only.
#[derive(Debug)]
pub struct ServerConfig {
    /// The name nodes find it by; without one they need its address.
    pub session: Option<SessionName>,
    /// The session starts when so many nodes are in: 1 to [`limits::NODES`].
    pub nodes: u32,
    /// Children per node, 1 to [`limits::FAN_OUT`]: 1 makes a chain.
    pub fan_out: u32,
    /// The session also starts this long after it was opened …
    pub start_after: Option<Duration>,
    /// … with at least so many nodes, or as soon as they are in.
    pub min_nodes: u32,
    /// The treatment of a node that holds up all others.
    pub slow: Slow,
    /// Bytes per second that are never too slow. `None`: a quarter of what the fastest node gets, shared with whoever is
    /// fed over the same link.
    pub min_rate: Option<u64>,
    /// The time that the sink of a node that has everything may be at work on it; `None`: as long as any other. What a
    /// sink does at the end of a stream may take far longer than to take the stream.
    pub finish: Option<Duration>,
    /// The pause between two nodes that are let go after having waited.
    pub release_delay: Duration,
    /// Bytes of the tape to hold at most. `None`: by the memory there is.
    pub window_bytes: Option<u64>,
    /// Bytes per second to send at most, for each child of the server.
    pub rate: Option<u64>,
    /// The spool for the bytes of sources that cannot be read again by themselves. If everything can be read again,
    /// nodes that are slow, come late or were away for long are served after the others.
    pub spool: Option<Spool>,
    /// The ports and interfaces to listen and ask on.
    pub ports: Ports,
    /// The key with which nodes may find and join the session, and the identity by which they know this server. `None`:
    /// both are made for this session, and the key is told in [`ServerEvent::Open`].
    pub key: Option<ServerKey>,
    /// Whether the payload is encrypted. It never is with an insecure key, which everybody has.
    pub encrypt: bool,
    /// The way to start the threads that read the streams.
    pub threads: Threads,
    /// The application's own rule about who may join.
    pub admit: Option<Admit>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            session: None,
            nodes: 1,
            fan_out: 1,
            start_after: None,
            min_nodes: 1,
            slow: Slow::default(),
            min_rate: None,
            finish: None,
            release_delay: Duration::ZERO,
            window_bytes: None,
            rate: None,
            spool: None,
            ports: Ports::default(),
            key: None,
            encrypt: true,
            threads: Threads::default(),
            admit: None,
        }
    }
}

/// An application's rule about who may join: `Err` refuses the candidate with these words.
pub struct Admit(pub Box<AdmitRule>);

/// The function in an [`Admit`].
pub type AdmitRule = dyn FnMut(&Candidate) -> Result<(), Denied> + Send;

/// The reason of an application's rule: a code for programs, and a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// The code, which the candidate's application knows.
    pub code: u16,
    /// The same in words.
    pub text: String,
}

impl fmt::Debug for Admit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Admit(..)")
    }
}

/// Somebody who wants to join as a node.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Candidate {
    /// Its end of the control connection.
    pub addr: SocketAddr,
    /// Its host's own name for itself, made printable; may be empty.
    pub label: String,
    /// What its application says of itself.
    pub about: Vec<u8>,
}

/// One stream of a session: a name, what the nodes should know of it, and where its bytes come from.
pub struct Stream {
    /// Its name, at most [`limits::STREAM_NAME_BYTES`].
    pub name: String,
    /// Whatever the application wants the nodes to know, at most [`limits::STREAM_METADATA_BYTES`].
    pub metadata: Vec<u8>,
    /// Its bytes.
    pub source: Box<dyn Source>,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The session that a client joins, and how. `Default` joins nothing: give it a session or a server.
#[derive(Clone, Debug, Default)]
pub struct ClientConfig {
    /// The session's name.
    pub session: Option<SessionName>,
    /// The host of the server, instead of asking around.
    pub server: Option<Host>,
    /// The key that the server gave out for its nodes. Needed, even if it is [`Key::insecure`].
    pub key: Option<Key>,
    /// Stay until the whole session has ended and the server lets this node go.
    pub wait: bool,
    /// Bytes of the tape to hold at most. `None`: by the memory there is.
    pub window_bytes: Option<u64>,
    /// The time to look for the server. `None`: [`limits::DISCOVER_TIMEOUT`].
    pub discover_timeout: Option<Duration>,
    /// The host's own name for itself, for people only.
    pub label: String,
    /// What this application says of itself to the server's, at most [`limits::ABOUT_BYTES`].
    pub about: Vec<u8>,
    /// Sessions that this node has been through to their end: it joins none of them again ([`JoinError::Done`]).
    pub done: Vec<SessionId>,
    /// The ports and interfaces to listen and ask on.
    pub ports: Ports,
    /// The way to start the thread that feeds the sinks.
    pub threads: Threads,
}

/// A running session's remote control. Clones control the same session.
#[derive(Clone, Debug)]
pub struct Control(mpsc::UnboundedSender<Command>);

/// The session's end of a [`Control`]: [`serve`](super::serve::serve) and [`join`](super::join::join) take it.
#[derive(Debug)]
pub struct Inbox(pub(super) mpsc::UnboundedReceiver<Command>);

impl Inbox {
    /// Runs `work` unless the inbox says stop first: then who stopped it.
    pub(super) async fn unless_stopped<T>(&mut self, work: impl Future<Output = T>) -> Result<T, String> {
        let mut work = pin!(work);
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Ok(done));
            }
            while let Poll::Ready(Some(command)) = self.0.poll_recv(cx) {
                if let Command::Stop(who) = command {
                    return Poll::Ready(Err(who));
                }
            }
            Poll::Pending
        })
        .await
    }
}

#[derive(Debug)]
pub(super) enum Command {
    Go,
    Stop(String),
    Rate(Option<u64>),
    Note(Note),
    State(Vec<u8>),
}

impl Control {
    /// A remote control and the end that a session takes.
    #[must_use]
    pub fn new() -> (Self, Inbox) {
        let (tx, rx) = mpsc::unbounded_channel();
        (Self(tx), Inbox(rx))
    }

    /// Starts a server's session with whoever is there.
    pub fn go(&self) {
        let _ = self.0.send(Command::Go);
    }

    /// Ends the session in order: everybody is told that `who` stopped it. More than once does nothing more.
    pub fn stop(&self, who: impl Into<String>) {
        let _ = self.0.send(Command::Stop(who.into()));
    }

    /// Says something to the server's application (see [`Note`]); a server's own notes go nowhere.
    pub fn note(&self, topic: &str, text: &str) {
        let topic = printable(topic, limits::TEXT_BYTES);
        let text = printable(text, limits::NOTE_BYTES);
        let _ = self.0.send(Command::Note(Note { topic, text }));
    }

    /// Tells the server's application the state of this one, at most [`limits::STATE_BYTES`]; more is cut off. The last one
    /// counts: it arrives even if the connection is lost meanwhile. A server's own state goes nowhere.
    pub fn state(&self, mut state: Vec<u8>) {
        state.truncate(limits::STATE_BYTES);
        let _ = self.0.send(Command::State(state));
    }

    /// Changes a server's rate limit, in bytes per second; `None` lifts it.
    pub fn set_rate(&self, bytes_per_s: Option<u64>) {
        let _ = self.0.send(Command::Rate(bytes_per_s));
    }
}

/// An event at a server.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ServerEvent {
    /// The server listens.
    Open {
        /// The session's identity.
        session: SessionId,
        /// The key that nodes must have to find and join it.
        key: Key,
        /// Its control port.
        control_port: u16,
        /// Its data port.
        data_port: u16,
        /// Its window, in bytes.
        window_bytes: u64,
    },
    /// Something happened in the session.
    Session(proto::Event),
    /// A stream begins to be read.
    Stream(StreamInfo),
    /// The session has no name, by which nodes could find it: they need one of these addresses of this host.
    Nameless(Vec<IpAddr>),
    /// A worry that does not end the session, in words.
    Warning(String),
}

/// An event at a client.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ClientEvent {
    /// A server was heard of that is not this node's, while that was looked for; it still is.
    Other(Other),
    /// The server has answered, there. When it was lost and is back, it may be elsewhere.
    Found(SocketAddr),
    /// This node is not in yet, for this reason, which may pass: it is tried again until the time to look is over. Each
    /// reason is told when it is a new one.
    Trying(Arc<JoinError>),
    /// This node is in.
    Joined {
        /// Its number.
        node: NodeId,
        /// The session's identity.
        session: SessionId,
        /// The number of nodes that the session waits for.
        expected: u32,
        /// Whether the payload is encrypted.
        encrypted: bool,
        /// The port that its children will dial.
        data_port: u16,
        /// Its window, in bytes.
        window_bytes: u64,
    },
    /// This is the parent from now on; the first one also tells that the session has started.
    Parent {
        /// Which node.
        node: NodeId,
        /// The address that the parent listens on.
        addr: SocketAddr,
    },
    /// The node has no parent for now, and gets the rest later: the others come first, or it was not heard for a while.
    NoParent,
    /// The server is not heard any more; this node goes on with those it has, and dials again.
    Away,
    /// The server is heard again.
    Back,
    /// The link to the parent is up.
    Linked,
    /// A stream begins to arrive.
    Stream(StreamInfo),
    /// The progress of this node, every [`limits::PROGRESS_INTERVAL`].
    Progress(Progress),
    /// Everything is here; the sink may still be at work.
    Complete,
    /// The outcome of this node. It may still relay.
    Ended(Outcome),
    /// A worry that does not end the session, in words.
    Warning(String),
}

/// The end of this node's session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeEnd {
    /// Its number in the session.
    pub node: NodeId,
    /// The outcome of the node.
    pub outcome: Outcome,
    /// Payload bytes that arrived, checked.
    pub received: Offset,
    /// The counters of its window.
    pub counters: Counters,
}
