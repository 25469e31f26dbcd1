//! A node's session: find the server, join, receive and relay, end.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use super::control::{Connection, Ear, Outbox};
use super::discovery::{self, AskError, Found, Target, UnknownKey};
use super::driver::{Brain, Driver, End, Incoming, NotBack, Task};
use super::ends::{Drain, OpenSink};
use super::handshake::Fault;
use super::link::{self, Own};
use super::relay::Relay;
use super::session::{ClientConfig, ClientEvent, Inbox, JoinError, NodeEnd};
use super::{Clock, default_window_bytes, ports, unless_stopped};
use crate::key::Key;
use crate::limits;
use crate::proto::Node;
use crate::seal::{Checker, Hash, StreamInfo};
use crate::stream::Sink;
use crate::types::{NodeId, Offset, SessionId, printable};
use crate::wire::Malformed;
use crate::wire::control::{Counters, Hello, Outcome, Reason, Receipt, Role, ToCoordinator, ToNode, Welcome};

/// Joins a session as a node: receives its streams, and passes them on to others.
///
/// `open` makes the sink of each stream as it begins; it is called on a thread of its own. The future runs on the
/// caller's runtime for as long as the session takes; `events` is called from there and must not block.
///
/// # Errors
/// [`JoinError`] when this node did not get in. Once it is in, how it ended is in the [`NodeEnd`].
pub async fn join(
    config: ClientConfig,
    open: impl FnMut(&StreamInfo) -> Result<Box<dyn Sink>, String> + Send + 'static,
    mut inbox: Inbox,
    mut events: impl FnMut(ClientEvent) + Send,
) -> Result<NodeEnd, JoinError> {
    let key = check(&config)?;
    let window_bytes = config.window_bytes.unwrap_or_else(default_window_bytes);
    let (listener, data_port) = ports::listen("data", config.ports.data, limits::DATA_PORT, &config.ports)
        .map_err(|(what, e)| JoinError::Port(what, e))?;

    let hello = hello(&config, Role::Node { data_port, wait: config.wait, back: None })?;
    let got_in = get_in(&config, &key, &hello, &mut events);
    let (mut connection, addr, answer) =
        unless_stopped(&mut inbox, got_in).await.map_err(JoinError::Stopped)??;
    let ToNode::Welcome(welcome) = answer else { return Err(strange(addr)) };
    if let Err(done) = not_again(&config, welcome.session) {
        // A server that could be asked nothing before has let it in, and hears why it goes.
        let _ = connection.send(&ToCoordinator::Receipt(never_begun(&done))).await;
        return Err(done);
    }
    let checker =
        Checker::new(welcome.session, &welcome.key, welcome.payload.clone()).ok_or_else(|| strange(addr))?;
    let Welcome { node, session, expected, .. } = welcome;
    let own = Own { session, key: welcome.link.clone() };
    let encrypted = !welcome.payload.is_plain();
    events(ClientEvent::Joined { node, session, expected, encrypted, data_port, window_bytes });

    let (sender, incoming) = mpsc::channel(1024);
    let mut tasks = JoinSet::new();
    tasks.spawn(link::accept_children(listener, own, sender.clone()));
    let (writing, mut written) = mpsc::channel::<()>(1);
    let server = Server { addr, key, session, node, hello };
    let line = Box::new(Line::new(server, connection, sender.clone(), writing));

    let clock = Clock::start();
    let machine = Node::new(clock.now(), &welcome, window_bytes);
    let open: OpenSink = Box::new(open);
    let drain = Drain::start(open, window_bytes, welcome.payload.clone(), &config.threads)
        .map_err(|e| JoinError::Port("a thread".into(), e))?;
    let brain = Brain::There(line, &mut events);
    let driver = Driver::new(clock, machine, Relay::node(checker, drain), brain, (sender, incoming));
    let End::Node(outcome, received, counters) = driver.run(&mut inbox).await else {
        unreachable!("a node's brain is elsewhere");
    };
    // The receipt.
    let _ = timeout(limits::CONNECT, written.recv()).await;
    Ok(NodeEnd { node, outcome, received: received.offset, counters })
}

/// Has a server start its session with whoever is there; says how many nodes that is.
///
/// # Errors
/// [`JoinError`] when there is no such server, or it has nobody to start with.
pub async fn go(config: &ClientConfig) -> Result<u32, JoinError> {
    let key = check(config)?;
    let (_, addr, answer) = get_in(config, &key, &hello(config, Role::Go)?, &mut |_| ()).await?;
    match answer {
        ToNode::Going(nodes) => Ok(nodes),
        _ => Err(strange(addr)),
    }
}

/// Holds the configuration against what it must have, of which the key is needed everywhere.
fn check(config: &ClientConfig) -> Result<Key, JoinError> {
    let wrong = |what: &str| Err(JoinError::Config(what.into()));
    if config.session.is_none() && config.server.is_none() {
        return wrong("a client needs a session's name or a server's address");
    }
    if config.window_bytes.is_some_and(|w| w < limits::WINDOW_BYTES_MIN) {
        return wrong("a window has at least 1 MiB");
    }
    match &config.key {
        Some(key) => Ok(key.clone()),
        None => wrong("a client needs the key that the server gives its nodes"),
    }
}

/// Finds the server, says hello, and returns its answer. What may pass (a server that is just coming up, a
/// link that is) is tried again until the time to look is over.
async fn get_in(
    config: &ClientConfig,
    key: &Key,
    hello: &Hello,
    events: &mut (dyn FnMut(ClientEvent) + Send),
) -> Result<(Connection, SocketAddr, ToNode), JoinError> {
    let end = Instant::now() + config.discover_timeout.unwrap_or(limits::DISCOVER);
    loop {
        let addr = find(config, key, end, events).await?;
        events(ClientEvent::Found(addr));
        // Who was found has proved that it is the server: if somebody else answers now, that may pass, too.
        let found = config.server.is_none() && key.is_secure();
        match say_hello(addr, key, hello).await {
            Err(why) if Instant::now() + limits::REDIAL < end && may_pass(&why, found) => {
                sleep(limits::REDIAL).await;
            }
            other => return other.map(|(connection, answer)| (connection, addr, answer)),
        }
    }
}

fn may_pass(why: &JoinError, found: bool) -> bool {
    match why {
        JoinError::Unreachable(..) => true,
        JoinError::UnknownKey(_) | JoinError::Impostor(_) | JoinError::Protocol(..) => found,
        _ => false,
    }
}

/// Where the control connection goes.
async fn find(
    config: &ClientConfig,
    key: &Key,
    end: Instant,
    events: &mut (dyn FnMut(ClientEvent) + Send),
) -> Result<SocketAddr, JoinError> {
    let left = end.saturating_duration_since(Instant::now());
    let ports = &config.ports;
    let mut strangers = |who| events(ClientEvent::UnknownKey(who));
    let mut ask = async |target, left| {
        let (name, only, port) = (config.session.as_ref(), &ports.interfaces, ports.discovery);
        discovery::ask(name, target, only, port, left, key, &mut strangers).await
    };
    match (config.server, ports.control) {
        (Some(server), Some(port)) => Ok(SocketAddr::new(server, port)),
        // The given host decides: whichever of its sessions answers first to the name.
        (Some(server), None) => match ask(Target::Host(server), left.min(ASK_HOST)).await {
            Ok(found) if !found.is_empty() => {
                not_again(config, found[0].session)?;
                Ok(found[0].control)
            }
            Err(AskError::OtherVersion(v)) => {
                Err(JoinError::Protocol(SocketAddr::new(server, 0), Malformed::Version(v)))
            }
            Err(AskError::UnknownKey(who)) => Err(JoinError::UnknownKey(who)),
            // It may hear no UDP.
            _ => Ok(SocketAddr::new(server, limits::CONTROL_PORT)),
        },
        (None, port) => {
            let mut found = ask(Target::Anyone, left).await.map_err(JoinError::NotFound)?;
            if let (2.., Some(name)) = (found.len(), &config.session) {
                return Err(JoinError::Ambiguous(name.clone(), found));
            }
            let Found { control: mut addr, session, .. } = found.swap_remove(0);
            not_again(config, session)?;
            addr.set_port(port.unwrap_or(addr.port()));
            Ok(addr)
        }
    }
}

/// Whether a session may be joined. What a server says of itself while it is looked for is as true as what it says later.
fn not_again(config: &ClientConfig, session: SessionId) -> Result<(), JoinError> {
    if config.done.contains(&session) { Err(JoinError::Done(session)) } else { Ok(()) }
}

/// The receipt of a node that goes as soon as it is in.
fn never_begun(why: &JoinError) -> Receipt {
    let outcome = Outcome::Failed(Reason::Interrupted(why.to_string()), Offset::ZERO);
    Receipt { outcome, chain: Hash::default(), bytes: 0, counters: Counters::default() }
}

/// How long a given host is asked for its control port before the usual one is tried.
const ASK_HOST: Duration = Duration::from_secs(1);

/// What a process says of itself, with an incarnation of its own.
fn hello(config: &ClientConfig, role: Role) -> Result<Hello, JoinError> {
    let mut incarnation = [0; 8];
    getrandom::fill(&mut incarnation).map_err(|e| JoinError::Port("a random number".into(), e.into()))?;
    Ok(Hello {
        session: config.session.clone(),
        incarnation: u64::from_le_bytes(incarnation),
        role,
        label: printable(&config.label, limits::SESSION_NAME_BYTES),
    })
}

/// Connects and says hello.
async fn say_hello(addr: SocketAddr, key: &Key, hello: &Hello) -> Result<(Connection, ToNode), JoinError> {
    let unreachable = |e: io::Error| JoinError::Unreachable(addr, e);
    let stream = link::connect(addr).await.map_err(unreachable)?;
    match timeout(limits::PREFACE, exchange(stream, addr, key, hello)).await {
        Err(_) => Err(unreachable(io::Error::new(
            io::ErrorKind::TimedOut,
            "it accepts the connection but does not answer",
        ))),
        Ok(Ok((_, ToNode::Refused(why)))) => Err(JoinError::Refused(why)),
        Ok(answer) => answer,
    }
}

/// Proves itself, says hello and hears the answer.
async fn exchange(
    stream: TcpStream,
    addr: SocketAddr,
    key: &Key,
    hello: &Hello,
) -> Result<(Connection, ToNode), JoinError> {
    let unreachable = |e: io::Error| JoinError::Unreachable(addr, e);
    let mut connection = Connection::ask(stream, key).await.map_err(|fault| match fault {
        Fault::Io(e) => unreachable(e),
        Fault::Malformed(e) => JoinError::Protocol(addr, e),
        Fault::UnknownKey => {
            JoinError::UnknownKey(UnknownKey { addr: addr.ip(), secure: true, given: key.is_secure() })
        }
        Fault::Impostor => JoinError::Impostor(addr),
    })?;
    connection.send(&ToCoordinator::Hello(hello.clone())).await.map_err(unreachable)?;
    let answer = connection
        .receive::<ToNode>()
        .await
        .map_err(|why| unreachable(io::Error::other(why)))?
        .ok_or_else(|| unreachable(io::Error::other("it closed the connection without an answer")))?;
    Ok((connection, answer))
}

fn strange(addr: SocketAddr) -> JoinError {
    JoinError::Protocol(addr, Malformed::Content)
}

// ---- the connection to the server, and the next one ----

/// Where a node belongs.
#[derive(Clone, Debug)]
pub(super) struct Server {
    addr: SocketAddr,
    key: Key,
    session: SessionId,
    node: NodeId,
    /// What it said when it joined.
    hello: Hello,
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
    fn new(
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
