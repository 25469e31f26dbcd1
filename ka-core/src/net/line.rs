//! A node's connection to its server, and the next one when that is lost.

use std::io;
use std::net::SocketAddr;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::control::{Connection, Ear, Outbox};
use super::driver::{Incoming, NotBack, Task};
use super::error::JoinError;
use super::link;
use super::seek::exchange;
use crate::key::Key;
use crate::limits;
use crate::types::{NodeId, SessionId};
use crate::wire::control::{Hello, Role, ToCoordinator, ToNode};

/// Where a node belongs.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) addr: SocketAddr,
    pub(super) key: Key,
    pub(super) session: SessionId,
    pub(super) node: NodeId,
    /// What it said when it joined.
    pub(super) hello: Hello,
}

/// A node's connection to its server, by and by several. There is one at a time: with an attempt at a new one the old
/// one is given up, and whatever still comes of it has an older number.
pub(super) struct Line {
    server: Server,
    number: u32,
    outbox: Outbox,
    /// Reads from the connection.
    reader: AbortHandle,
    /// Dials the server.
    attempt: Option<Task>,
    /// How many times in a row nobody was listening there.
    closed: u32,
    /// For the writers: dropped by the last one that has sent everything.
    writing: mpsc::Sender<()>,
}

/// A host that is up and says so often that nobody listens: the server has ended.
const CLOSED: u32 = 3;

impl Line {
    pub(super) fn new(
        server: Server,
        connection: Connection,
        sender: mpsc::Sender<Incoming>,
        writing: mpsc::Sender<()>,
    ) -> Self {
        let (outbox, reader) = attend(0, connection, sender, writing.clone());
        Self { server, number: 0, outbox, reader, attempt: None, closed: 0, writing }
    }

    /// The number of the connection, or of the attempt at one.
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// Sends a message; without a connection it is lost.
    pub(super) fn send(&self, message: &ToCoordinator) {
        self.outbox.send(message);
    }

    /// Gives the connection up and dials the server again: [`Incoming::Rejoined`] tells what came of it.
    pub(super) fn dial(&mut self, sender: &mpsc::Sender<Incoming>) {
        self.outbox.abort();
        self.reader.abort();
        self.number += 1;
        let (server, number, sender) = (self.server.clone(), self.number, sender.clone());
        self.attempt = Some(Task::spawn(async move {
            let result = come_back(server).await;
            let _ = sender.send(Incoming::Rejoined(number, result)).await;
        }));
    }

    /// The new connection is up.
    pub(super) fn open(&mut self, connection: Connection, sender: mpsc::Sender<Incoming>) {
        self.closed = 0;
        self.attempt = None;
        (self.outbox, self.reader) = attend(self.number, connection, sender, self.writing.clone());
    }

    /// It is not: why, and whether it may come up later.
    pub(super) fn failed(&mut self, why: NotBack) -> (String, bool) {
        self.closed = if matches!(why, NotBack::Closed(_)) { self.closed + 1 } else { 0 };
        match why {
            NotBack::Closed(why) => (why, self.closed < CLOSED),
            NotBack::Silent(why) => (why, true),
            NotBack::Refused(why) => (why, false),
        }
    }
}

/// Starts to read from a connection and to write to it.
fn attend(
    number: u32,
    connection: Connection,
    sender: mpsc::Sender<Incoming>,
    writing: mpsc::Sender<()>,
) -> (Outbox, AbortHandle) {
    let (mouth, ear) = connection.split();
    let reading = tokio::spawn(listen_to_server(number, ear, sender));
    (Outbox::start(mouth, writing), reading.abort_handle())
}

/// Says hello again, as the node that is in already.
async fn come_back(server: Server) -> Result<Connection, NotBack> {
    let Server { addr, key, session, node, mut hello } = server;
    if let Role::Node { back, .. } = &mut hello.role {
        *back = Some(node);
    }
    let stream = link::connect(addr).await.map_err(|e| match e.kind() {
        io::ErrorKind::ConnectionRefused => NotBack::Closed(e.to_string()),
        _ => NotBack::Silent(e.to_string()),
    })?;
    let silent = "it accepts the connection but does not answer";
    let answer = timeout(limits::CONNECT, exchange(stream, addr, &key, &hello)).await;
    match answer.map_err(|_| NotBack::Silent(silent.into()))? {
        Ok((connection, ToNode::Welcome(w))) if (w.session, w.node) == (session, node) => Ok(connection),
        Ok((_, ToNode::Refused(why))) => Err(NotBack::Refused(why.to_string())),
        Ok(_) => Err(NotBack::Refused("another session is served there now".into())),
        // Somebody else has the server's port now. Once may be a trick.
        Err(why @ (JoinError::UnknownKey(_) | JoinError::Impostor(_))) => {
            Err(NotBack::Closed(why.to_string()))
        }
        Err(why) => Err(NotBack::Silent(why.to_string())),
    }
}

async fn listen_to_server(number: u32, mut ear: Ear, sender: mpsc::Sender<Incoming>) {
    let why = loop {
        match ear.receive().await {
            Ok(Some(message)) => {
                if sender.send(Incoming::Told(number, message)).await.is_err() {
                    return;
                }
            }
            Ok(None) => break "it closed the connection".to_string(),
            Err(why) => break why,
        }
    };
    let _ = sender.send(Incoming::Lost(number, why)).await;
}
