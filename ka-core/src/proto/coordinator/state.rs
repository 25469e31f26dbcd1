//! The coordinator's state, and what all of its parts do with it: tell nodes, tell the application.

use alloc::collections::VecDeque;
use alloc::string::String;
use core::net::{IpAddr, SocketAddr};

use super::config::Config;
use super::liveness::Liveness;
use super::member::Conn;
use super::member::{Identity, Member};
use super::outcome::Outcomes;
use super::placement::Nodes;
use super::roster::Roster;
use super::slowness::Slowness;
use super::stability::Stability;
use super::tree::Tree;
use crate::limits;
use crate::proto::event::{Event, Report};
use crate::proto::timer::{Timer, Timers};
use crate::time::Instant;
use crate::types::NodeId;
use crate::wire::control::{Hello, ToCoordinator, ToNode};

/// Everything that can happen to a session.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Input {
    /// Somebody connected and said hello. `addr` is its end of the connection, `server_ip` ours.
    Joined {
        /// The new connection.
        conn: Conn,
        /// The other end.
        addr: SocketAddr,
        /// This end.
        server_ip: IpAddr,
        /// The first message on it.
        hello: Hello,
    },
    /// A node said something.
    Said(Conn, ToCoordinator),
    /// A connection is gone, in words.
    Gone(Conn, String),
    /// The admin says: start with whoever is there.
    Go,
    /// Somebody stops the session: who, in words.
    Stop(String),
    /// The source cannot be read again after all: why, in words.
    RereadFailed(String),
    /// The server may send so many bytes per second from now on.
    SetRate(Option<u64>),
    /// The instant of the last [`Output::Wait`] has come.
    Timeout,
}

/// Everything a coordinator wants done. Take them until [`Output::Wait`] or [`Output::Done`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Output {
    /// Say this to a node.
    Tell(Conn, ToNode),
    /// Say nothing more to it: close the connection once everything said is sent.
    HangUp(Conn),
    /// The application may want to know.
    Event(Event),
    /// Nothing to do before this instant.
    Wait(Instant),
    /// The session is over. Nothing comes after.
    Done(Report),
}

/// The phase of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The gate is closed; nodes come and go.
    Gathering,
    /// The tape is under way.
    Streaming,
    /// Every outcome is known; the last nodes are let go.
    Draining,
    /// Over.
    Done,
}

/// The brain of one session.
#[derive(Debug)]
pub struct Coordinator {
    pub(super) config: Config,
    pub(super) phase: Phase,
    pub(super) opened: Instant,
    pub(super) started: Option<Instant>,
    pub(super) nodes: Nodes,
    pub(super) liveness: Liveness,
    pub(super) slowness: Slowness,
    pub(super) stability: Stability,
    pub(super) outcomes: Outcomes,
    pub(super) timers: Timers,
    pub(super) outputs: VecDeque<Output>,
}

impl Coordinator {
    /// Opens a session. The root is in it from the start, as [`Conn::ROOT`].
    #[must_use]
    pub fn new(now: Instant, config: Config) -> Self {
        let mut nodes = Nodes::new(config.fan_out);
        let unspecified = IpAddr::from([0, 0, 0, 0]);
        let addr = SocketAddr::new(unspecified, config.data_port);
        let root = |node| Member::new(now, Identity::new(now, node, Conn::ROOT, addr, unspecified));
        nodes.roster.add(root);
        let mut timers = Timers::default();
        timers.set(Timer::Beat, now + limits::HEARTBEAT_INTERVAL);
        timers.set(Timer::Silence, now + limits::SILENCE_CHECK_INTERVAL);
        if let Some(after) = config.start_after {
            timers.set(Timer::StartAfter, now + after);
        }
        Self {
            phase: Phase::Gathering,
            opened: now,
            started: None,
            nodes,
            liveness: Liveness::new(now),
            slowness: Slowness::new(now),
            stability: Stability::new(now),
            outcomes: Outcomes::new(config.release_delay),
            timers,
            outputs: VecDeque::new(),
            config,
        }
    }

    /// The members of the session.
    #[must_use]
    pub fn roster(&self) -> &Roster {
        &self.nodes.roster
    }

    /// The tree in which they feed each other.
    #[must_use]
    pub fn tree(&self) -> &Tree {
        &self.nodes.tree
    }

    pub(super) fn tell_node(&mut self, node: NodeId, message: ToNode) {
        if let Some(conn) = self.nodes.get(node).and_then(|m| m.identity.conn()) {
            self.tell(conn, message);
        }
    }

    pub(super) fn tell(&mut self, conn: Conn, message: ToNode) {
        self.outputs.push_back(Output::Tell(conn, message));
    }

    pub(super) fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }
}
