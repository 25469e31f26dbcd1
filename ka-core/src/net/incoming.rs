//! The messages from the tasks of a session to its run loop.

use std::net::{IpAddr, SocketAddr};

use tokio::task::AbortHandle;

use super::control::connection::{Connection, Outbox};
use super::link::dial::{Link, NoLink};
use crate::proto::coordinator::Conn;
use crate::types::LinkId;
use crate::wire::control::{Hello, ToCoordinator, ToNode};
use crate::wire::data::Attach;

/// A message from the connections' tasks.
pub(super) enum Incoming {
    /// Server: somebody said hello on a new control connection.
    Hello { conn: Conn, addr: SocketAddr, server_ip: IpAddr, hello: Hello, outbox: Outbox },
    /// Server: a node said something.
    Said(Conn, ToCoordinator),
    /// Server: a control connection is gone.
    Gone(Conn, String),
    /// Node: the coordinator said something, on the connection of this number.
    Told(u32, ToNode),
    /// Node: that control connection is gone.
    Lost(u32, String),
    /// Node: the attempt at this control connection has ended.
    Rejoined(u32, Result<Connection, NotBack>),
    /// A child dialled.
    Offer(Link, Attach),
    /// A dialled parent accepted, or could not be reached.
    Dialled(LinkId, Result<Link, NoLink>),
    /// Something is wrong that does not end the session.
    Warning(String),
}

/// Why a node is not back with its server.
#[derive(Debug)]
pub(super) enum NotBack {
    /// Nobody listens there.
    Closed(String),
    /// The server cannot be reached, or does not answer.
    Silent(String),
    /// The server, or whoever is there now, says no.
    Refused(String),
}

/// A task that is given up when nobody waits for it any more.
#[derive(Debug)]
pub(super) struct Task(AbortHandle);

impl Task {
    pub(super) fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(work).abort_handle())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
