//! A node's session: find the server, join, receive and relay, end.

use std::net::SocketAddr;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::accept::{self, Door, Own};
use super::clock::Clock;
use super::control::seek::{get_in, not_again};
use super::data::ends::{Drain, OpenSink};
use super::data::relay::Relay;
use super::driver::{Brain, Driver, End};
use super::error::JoinError;
use super::host::interfaces;
use super::host::memory::default_window_bytes;
use super::host::ports::{self, Service};
use super::session::{ClientConfig, ClientEvent, Inbox, NodeEnd};
use super::uplink::{Line, Server};
use crate::crypto::session_key::Key;
use crate::limits;
use crate::proto::Node;
use crate::stream::Sink;
use crate::tape::chain::{Checker, Hash, StreamInfo};
use crate::types::{Offset, printable};
use crate::wire::Malformed;
use crate::wire::control::{Counters, Hello, Outcome, Reason, Receipt, Role, ToCoordinator, ToNode, Welcome};
use std::io;

/// Joins a session as a node: receives its streams, and passes them on to others.
///
/// `open` makes the sink of each stream as it begins; it is called on a thread of its own. The future runs on the
/// caller's runtime for as long as the session takes; `events` is called from there and must not block.
///
/// # Errors
/// [`JoinError`] when this node did not get in. Once it is in, how it ended is in the [`NodeEnd`].
pub async fn join(
    config: ClientConfig,
    open: impl FnMut(&StreamInfo) -> io::Result<Box<dyn Sink>> + Send + 'static,
    mut inbox: Inbox,
    mut events: impl FnMut(ClientEvent) + Send,
) -> Result<NodeEnd, JoinError> {
    let key = check(&config)?;
    let window_bytes = config.window_bytes.unwrap_or_else(default_window_bytes);
    interfaces::usable(&config.ports.interfaces).map_err(JoinError::Interface)?;
    let (listener, data_port) =
        ports::listen(Service::Data, config.ports.data, limits::DATA_PORT, &config.ports)
            .map_err(JoinError::Port)?;

    let hello = hello(&config, Role::Node { data_port, wait: config.wait, back: None })?;
    let got_in = get_in(&config, &key, &hello, &mut events);
    let (mut connection, answer) = inbox.unless_stopped(got_in).await.map_err(JoinError::Stopped)??;
    let addr = connection.server();
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
    let door = Door::new(listener, config.ports.interfaces.clone());
    tasks.spawn(accept::accept_children(door, own, sender.clone()));
    let (writing, mut written) = mpsc::channel::<()>(1);
    let threads = config.threads.clone();
    let server = Server { key, session, node, hello, config };
    let line = Line::new(server, connection, sender.clone(), writing);
    let line = Box::new(line.map_err(|e| JoinError::Unreachable(addr, e))?);

    let clock = Clock::start();
    let machine = Node::new(clock.now(), &welcome, window_bytes);
    let open: OpenSink = Box::new(open);
    let drain = Drain::start(open, window_bytes, welcome.payload.clone(), &threads)
        .map_err(|e| JoinError::Io("cannot start a thread".into(), e))?;
    let brain = Brain::There(line, &mut events);
    let driver = Driver::new(clock, machine, Relay::node(checker, drain), brain, (sender, incoming));
    let End::Node(outcome, received, counters) = driver.run(&mut inbox).await else {
        unreachable!("a node's brain is elsewhere");
    };
    // The receipt.
    let _ = timeout(limits::CONNECT_TIMEOUT, written.recv()).await;
    Ok(NodeEnd { node, outcome, received: received.offset, counters })
}

/// Has a server start its session with whoever is there; says how many nodes that is.
///
/// # Errors
/// [`JoinError`] when there is no such server, or it has nobody to start with.
pub async fn go(config: &ClientConfig) -> Result<u32, JoinError> {
    let key = check(config)?;
    interfaces::usable(&config.ports.interfaces).map_err(JoinError::Interface)?;
    let (connection, answer) = get_in(config, &key, &hello(config, Role::Go)?, &mut |_| ()).await?;
    match answer {
        ToNode::Going(nodes) => Ok(nodes),
        _ => Err(strange(connection.server())),
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
    if config.about.len() > limits::ABOUT_BYTES {
        return wrong("what a node says of itself has at most 1 KiB");
    }
    match &config.key {
        Some(key) => Ok(key.clone()),
        None => wrong("a client needs the key that the server gives its nodes"),
    }
}

/// The description that a process sends of itself, with an incarnation of its own.
fn hello(config: &ClientConfig, role: Role) -> Result<Hello, JoinError> {
    let mut incarnation = [0; 8];
    getrandom::fill(&mut incarnation).map_err(|e| JoinError::Io("no random numbers".into(), e.into()))?;
    Ok(Hello {
        session: config.session.clone(),
        incarnation: u64::from_le_bytes(incarnation),
        role,
        label: printable(&config.label, limits::SESSION_NAME_BYTES),
        about: config.about.clone(),
    })
}

/// The receipt of a node that goes as soon as it is in.
fn never_begun(why: &JoinError) -> Receipt {
    let outcome = Outcome::Failed(Reason::Interrupted(why.to_string()), Offset::ZERO);
    Receipt { outcome, chain: Hash::default(), bytes: 0, counters: Counters::default() }
}

fn strange(addr: SocketAddr) -> JoinError {
    JoinError::Protocol(addr, Malformed::Content)
}
