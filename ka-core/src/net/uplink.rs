//! A node's connection to its server, and the next one when that is lost.
//!
//! ```text
//!   lost ─▶ dial where it was ─────────────────────────────┬─▶ up
//!      └─ a moment later: ask for the session, resolve ────┘
//!         the host's name: each place found is dialled, too
//! ```
//!
//! An address is a hint: the server's may change. That it is the same server the handshake proves, and that it is the same
//! session its Welcome.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use super::control::connection::{Connection, Ear, Outbox};
use super::control::seek::{exchange, meet};
use super::discovery;
use super::error::JoinError;
use super::host::interfaces::{self, reach, with_port};
use super::incoming::{Incoming, NotBack, Task};
use super::link::dial::Way;
use super::session::ClientConfig;
use crate::crypto::session_key::Key;
use crate::limits;
use crate::time::Duration;
use crate::types::{NodeId, SessionId, printable};
use crate::wire::control::{Hello, Peer, Role, ToCoordinator, ToNode};

/// The server and the session that a node belongs to.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) key: Key,
    pub(super) session: SessionId,
    pub(super) node: NodeId,
    /// The hello that it sent when it joined.
    pub(super) hello: Hello,
    /// The configuration with which it looked for the server then.
    pub(super) config: ClientConfig,
}

/// A node's connection to its server, by and by several. There is one at a time: with an attempt at a new one the old
/// one is given up, and whatever still comes of it has an older number.
pub(super) struct Line {
    server: Arc<Server>,
    /// The two ends of the last connection that was up: the server's address is good now, or was then.
    at: SocketAddr,
    local: SocketAddr,
    places: Places,
    number: u32,
    outbox: Outbox,
    /// Reads from the connection.
    reader: AbortHandle,
    /// Dials the server.
    attempt: Option<Task>,
    /// Looks for the server elsewhere.
    search: Option<Task>,
    /// The number of times in a row that nobody was listening there.
    closed: u32,
    /// For the writers: dropped by the last one that has sent everything.
    writing: mpsc::Sender<()>,
}

/// A host that is up and says so often that nobody listens, while the server is found nowhere else: it has ended.
const CLOSED: u32 = 6;

/// The pause before a host's name is resolved again.
const RESOLVE: Duration = Duration::from_secs(3);

impl Line {
    /// The line that begins with this connection.
    ///
    /// # Errors
    /// The connection is gone.
    pub(super) fn new(
        server: Server,
        connection: Connection,
        sender: mpsc::Sender<Incoming>,
        writing: mpsc::Sender<()>,
    ) -> io::Result<Self> {
        let (at, local) = (connection.server(), connection.local()?);
        let (outbox, reader) = attend(0, connection, sender, writing.clone());
        Ok(Self {
            server: Arc::new(server),
            at,
            local,
            places: Places::new(at),
            number: 0,
            outbox,
            reader,
            attempt: None,
            search: None,
            closed: 0,
            writing,
        })
    }

    /// The number of the connection, or of the attempt at one.
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// Which node's it is.
    pub(super) fn node(&self) -> NodeId {
        self.server.node
    }

    /// The address at which the server is, or was last.
    pub(super) fn at(&self) -> SocketAddr {
        self.at
    }

    /// The way to this parent from here. The root is where the server is, whatever that believes to be its own address;
    /// a link-local neighbour is on the link that leads to the server.
    pub(super) fn way(&self, parent: &Peer) -> Way {
        let addrs = match parent.node {
            NodeId::ROOT => vec![with_port(self.at, parent.addr.port())],
            _ if interfaces::needs_scope(parent.addr.ip()) => {
                let usable = interfaces::usable(&self.server.config.ports.interfaces).unwrap_or_default();
                interfaces::on_links(parent.addr, &interfaces::links(self.at, self.local, &usable))
            }
            _ => vec![parent.addr],
        };
        Way { addrs, key: parent.key.clone(), ports: self.server.config.ports.range.clone() }
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
        let addrs = self.places.all();
        self.attempt = Some(Task::spawn(async move {
            let result = come_back(&server, &addrs).await;
            let _ = sender.send(Incoming::Rejoined(number, result)).await;
        }));
        self.search.get_or_insert_with(|| {
            Task::spawn(look_elsewhere(self.server.clone(), self.at.port(), self.places.clone()))
        });
    }

    /// The new connection is up.
    pub(super) fn open(&mut self, connection: Connection, sender: mpsc::Sender<Incoming>) {
        (self.closed, self.attempt, self.search) = (0, None, None);
        self.at = connection.server();
        self.local = connection.local().unwrap_or(self.local);
        self.places = Places::new(self.at);
        (self.outbox, self.reader) = attend(self.number, connection, sender, self.writing.clone());
    }

    /// The new connection is not up. Returns why, and whether it may come up later.
    pub(super) fn failed(&mut self, why: NotBack) -> (String, bool) {
        self.closed = if matches!(why, NotBack::Closed(_)) { self.closed + 1 } else { 0 };
        match why {
            NotBack::Closed(why) => (why, self.closed < CLOSED),
            NotBack::Silent(why) => (why, true),
            NotBack::Refused(why) => (why, false),
        }
    }
}

/// The address at which the server was, and those at which it was heard of since.
#[derive(Clone, Debug)]
struct Places {
    was: SocketAddr,
    found: Arc<Mutex<Vec<SocketAddr>>>,
}

impl Places {
    fn new(was: SocketAddr) -> Self {
        Self { was, found: Arc::default() }
    }

    fn add(&self, place: SocketAddr) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if place != self.was && !found.contains(&place) {
            found.insert(0, place);
            found.sort_by_key(|place| reach(place.ip()));
            found.truncate(limits::ADDRS - 1);
        }
    }

    /// The one that reaches farthest comes first, of two such the one found last; where it was comes after those that reach
    /// as far.
    fn all(&self) -> Vec<SocketAddr> {
        let mut all = self.found.lock().unwrap_or_else(PoisonError::into_inner).clone();
        all.insert(all.partition_point(|place| reach(place.ip()) <= reach(self.was.ip())), self.was);
        all
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

/// Says hello again, as the node that is in already, at the first of these places where the server is.
async fn come_back(server: &Server, places: &[SocketAddr]) -> Result<Connection, NotBack> {
    let mut connection = meet(places, &server.key, limits::CONNECT_TIMEOUT).await.map_err(not_back)?;
    let mut hello = server.hello.clone();
    if let Role::Node { back, .. } = &mut hello.role {
        *back = Some(server.node);
    }
    match exchange(&mut connection, &hello, limits::CONNECT_TIMEOUT).await.map_err(not_back)? {
        ToNode::Welcome(w) if (w.session, w.node) == (server.session, server.node) => Ok(connection),
        ToNode::Refused(why) => Err(NotBack::Refused(printable(&why.text, limits::TEXT_BYTES))),
        _ => Err(NotBack::Refused("another session is served there now".into())),
    }
}

fn not_back(why: JoinError) -> NotBack {
    let words = why.to_string();
    match why {
        JoinError::Unreachable(_, e) if e.kind() == io::ErrorKind::ConnectionRefused => {
            NotBack::Closed(words)
        }
        // Somebody else has the server's port now. Once may be a trick.
        JoinError::UnknownKey(_) | JoinError::Impostor(_) => NotBack::Closed(words),
        // This host's own fault, which stays.
        JoinError::Io(..) => NotBack::Refused(words),
        _ => NotBack::Silent(words),
    }
}

/// Finds places where the server is now: by its session, everywhere, and by its host's name, for ever.
async fn look_elsewhere(server: Arc<Server>, port: u16, places: Places) {
    sleep(limits::SEARCH_DELAY).await;
    let config = &server.config;
    let by_session = async {
        let (ports, found) = (&config.ports, &mut |addr| places.add(addr));
        let (name, only, key) = (config.session.as_ref(), &ports.interfaces, &server.key);
        discovery::follow(name, server.session, only, ports.discovery, key, found).await
    };
    let by_host = async {
        let Some(host) = config.server.as_ref().filter(|host| host.moves()) else { return };
        loop {
            let addrs = host.addrs(&config.threads).await.unwrap_or_default();
            addrs.into_iter().for_each(|addr| places.add(with_port(addr, port)));
            sleep(RESOLVE).await;
        }
    };
    tokio::join!(by_session, by_host);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_last_and_reaches_farthest_comes_first_and_where_it_was_is_tried_too() {
        let at = |n: u16| SocketAddr::from(([10, 0, 0, 1], n));
        let (was, near) = (at(0), "[fe80::1%2]:7".parse().unwrap());
        let places = Places::new(was);
        for place in [at(1), near, at(2), at(1), was] {
            places.add(place);
        }
        assert_eq!(places.all(), [at(2), at(1), was, near]);
        (3..=100).for_each(|n| places.add(at(n)));
        let all = places.all();
        assert_eq!((all.len(), all[0], all.last()), (limits::ADDRS, at(100), Some(&was)));
    }
}
