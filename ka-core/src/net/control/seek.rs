//! A node that is not in yet: finds its server, and says hello.
//!
//! ```text
//!   name ─▶ addresses ┐                     ┌▶ connect, handshake ┐
//!   address ──────────┼─ (asked by UDP) ────┼▶        …           ┼▶ hello, to the first that proves itself ─▶ in, or not
//!   session ─ asked ──┘     each in turn    └▶        …           ┘
//! ```
//!
//! Whatever may pass is tried again until the time to look is over, and told: a name that does not resolve yet, a server
//! that is just coming up, a link that is.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::connection::Connection;
use crate::crypto::session_key::Key;
use crate::limits;
use crate::net::discovery::{self, AskError, Found, Other, Target, UnknownKey};
use crate::net::error::JoinError;
use crate::net::host::connect::{connect, first};
use crate::net::host::interfaces::with_port;
use crate::net::host::name::Host;
use crate::net::host::refused::exhausted;
use crate::net::noise::control::Fault;
use crate::net::session::{ClientConfig, ClientEvent};
use crate::types::{SessionId, printable};
use crate::wire::Malformed;
use crate::wire::control::{Hello, ToCoordinator, ToNode};

/// The time for which a given host is asked for its control port before the usual one is tried.
const ASK_HOST: Duration = Duration::from_secs(1);

/// The pause before a name that does not resolve is resolved again.
const RESOLVE: Duration = Duration::from_secs(1);

/// The most different reasons that are told. A host that answers can make up more of them.
const TOLD: usize = 16;

/// The addresses at which a server may be.
struct Places {
    addrs: Vec<SocketAddr>,
    /// The server has answered there, and so proved that it is the server. Otherwise the addresses are what was given.
    heard: bool,
}

/// Finds the server, says hello, and returns its answer.
pub(crate) async fn get_in(
    config: &ClientConfig,
    key: &Key,
    hello: &Hello,
    events: &mut (dyn FnMut(ClientEvent) + Send),
) -> Result<(Connection, ToNode), JoinError> {
    let end = Instant::now() + config.discover_timeout.unwrap_or(limits::DISCOVER_TIMEOUT);
    let mut told = BTreeSet::new();
    loop {
        let (why, proven) = match find(config, key, end, events).await {
            Err(why) => (why, false),
            Ok(Places { addrs, heard }) => {
                match say_hello(&addrs, heard, key, hello, events).await {
                    Ok(answered) => return Ok(answered),
                    // If somebody else answers now than the one that was heard, that may pass, too.
                    Err(why) => (why, heard && config.server.is_none() && key.is_secure()),
                }
            }
        };
        let pause = if matches!(why, JoinError::Unresolved(..)) { RESOLVE } else { limits::REDIAL_DELAY };
        if Instant::now() + pause >= end || !may_pass(&why, proven) {
            return Err(why);
        }
        if told.len() < TOLD && told.insert(why.to_string()) {
            events(ClientEvent::Trying(Arc::new(why)));
        }
        sleep(pause).await;
    }
}

fn may_pass(why: &JoinError, proven: bool) -> bool {
    match why {
        // An interface that was there at the start, and may come again.
        JoinError::Unreachable(..) | JoinError::Unresolved(..) | JoinError::NotFound(AskError::Io(_)) => true,
        JoinError::UnknownKey(_) | JoinError::Impostor(_) | JoinError::Protocol(..) => proven,
        _ => false,
    }
}

/// Finds the addresses for the control connection.
async fn find(
    config: &ClientConfig,
    key: &Key,
    end: Instant,
    events: &mut (dyn FnMut(ClientEvent) + Send),
) -> Result<Places, JoinError> {
    let ports = &config.ports;
    let name = config.session.as_ref();
    let Some(host) = &config.server else {
        let left = end.saturating_duration_since(Instant::now());
        let (target, mut others) = (Target::Anyone(ports.discovery), |who| events(ClientEvent::Other(who)));
        let asked = discovery::ask(name, target, &ports.interfaces, left, key, &mut others).await;
        let mut found = asked.map_err(not_asked)?;
        if let (2.., Some(name)) = (found.len(), name) {
            return Err(JoinError::Ambiguous(name.clone(), found));
        }
        let Found { control, session, .. } = found.swap_remove(0);
        not_again(config, session)?;
        let addr = with_port(control, ports.control.unwrap_or(control.port()));
        events(ClientEvent::Found(addr));
        return Ok(Places { addrs: vec![addr], heard: true });
    };
    let addrs = resolve(host, config, end).await?;
    let at = |port| addrs.iter().map(|addr| with_port(*addr, port)).collect();
    if let Some(port) = ports.control {
        return Ok(Places { addrs: at(port), heard: false });
    }
    // The given host decides: whichever of its sessions answers first to the name.
    let (left, target) = (end.saturating_duration_since(Instant::now()), Target::Host(at(ports.discovery)));
    match discovery::ask(name, target, &[], left.min(ASK_HOST), key, &mut |_| ()).await {
        Ok(mut found) if !found.is_empty() => {
            let Found { control: addr, session, .. } = found.swap_remove(0);
            not_again(config, session)?;
            events(ClientEvent::Found(addr));
            Ok(Places { addrs: vec![addr], heard: true })
        }
        Err(AskError::OtherVersion(v)) => Err(JoinError::Protocol(addrs[0], Malformed::Version(v))),
        Err(AskError::Other(Other::UnknownKey(who))) => Err(JoinError::UnknownKey(who)),
        Err(AskError::Other(Other::Name(addr))) => Err(JoinError::OtherName(addr)),
        Err(AskError::Io(e)) if exhausted(&e) => Err(not_asked(AskError::Io(e))),
        // It may hear no UDP.
        _ => Ok(Places { addrs: at(limits::CONTROL_PORT), heard: false }),
    }
}

/// Whether a session may be joined. What a server says of itself while it is looked for is as true as what it says later.
pub(crate) fn not_again(config: &ClientConfig, session: SessionId) -> Result<(), JoinError> {
    if config.done.contains(&session) { Err(JoinError::Done(session)) } else { Ok(()) }
}

fn not_asked(why: AskError) -> JoinError {
    match why {
        AskError::Io(e) if exhausted(&e) => JoinError::Io("cannot ask for the session".into(), e),
        why => JoinError::NotFound(why),
    }
}

/// The host's addresses; there is at least one.
async fn resolve(host: &Host, config: &ClientConfig, end: Instant) -> Result<Vec<SocketAddr>, JoinError> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, "no answer from whoever resolves names here");
    let addrs = timeout_at(end, host.addrs(&config.threads)).await.unwrap_or_else(|_| Err(late()));
    let addrs = addrs.and_then(|addrs| match addrs.is_empty() {
        true => Err(io::Error::other("no interface leads to a link-local address")),
        false => Ok(addrs),
    });
    addrs.map_err(|e| JoinError::Unresolved(host.clone(), e))
}

/// Connects to whichever of these addresses is the server's, says hello, and hears the answer.
async fn say_hello(
    addrs: &[SocketAddr],
    heard: bool,
    key: &Key,
    hello: &Hello,
    events: &mut (dyn FnMut(ClientEvent) + Send),
) -> Result<(Connection, ToNode), JoinError> {
    let mut connection = meet(addrs, key, limits::PREFACE_TIMEOUT).await?;
    if !heard {
        events(ClientEvent::Found(connection.server()));
    }
    match exchange(&mut connection, hello, limits::PREFACE_TIMEOUT).await? {
        ToNode::Refused(mut why) => {
            why.text = printable(&why.text, limits::TEXT_BYTES);
            Err(JoinError::Refused(why))
        }
        answer => Ok((connection, answer)),
    }
}

/// A connection to the first of these addresses where the key's server proves itself, which it gets so long for.
///
/// # Errors
/// The most telling one of all addresses.
pub(crate) async fn meet(addrs: &[SocketAddr], key: &Key, limit: Duration) -> Result<Connection, JoinError> {
    let proves_itself = |addr| {
        let key = key.clone();
        async move {
            let stream = connect(addr).await.map_err(|e| unreachable(addr, e))?;
            timeout(limit, shake_hands(stream, addr, &key)).await.unwrap_or_else(|_| Err(silent(addr)))
        }
    };
    let failed = first(addrs, proves_itself).await;
    failed.map_err(|all| {
        let most = all.into_iter().map(|(_, why)| why).min_by_key(rank);
        most.unwrap_or_else(|| JoinError::Config("there is no address to connect to".into()))
    })
}

/// The rank of a reason among those of several addresses without a server; the lowest is told. The words of a host that
/// has answered come first; that nobody listens is told only if it is so at all of them.
fn rank(why: &JoinError) -> u8 {
    match why {
        JoinError::Unreachable(_, e) if e.kind() == io::ErrorKind::ConnectionRefused => 2,
        JoinError::Unreachable(..) => 1,
        _ => 0,
    }
}

async fn shake_hands(stream: TcpStream, addr: SocketAddr, key: &Key) -> Result<Connection, JoinError> {
    Connection::ask(stream, addr, key).await.map_err(|fault| match fault {
        Fault::Io(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
            unreachable(addr, io::Error::other("it closed the connection"))
        }
        Fault::Io(e) => unreachable(addr, e),
        Fault::Malformed(e) => JoinError::Protocol(addr, e),
        Fault::UnknownKey => {
            JoinError::UnknownKey(UnknownKey { addr: addr.ip(), secure: true, given: key.is_secure() })
        }
        Fault::Impostor => JoinError::Impostor(addr),
    })
}

/// Says hello and hears the answer.
pub(crate) async fn exchange(
    connection: &mut Connection,
    hello: &Hello,
    limit: Duration,
) -> Result<ToNode, JoinError> {
    let addr = connection.server();
    let answer = async {
        connection.send(&ToCoordinator::Hello(hello.clone())).await.map_err(|e| unreachable(addr, e))?;
        let answer = connection.receive::<ToNode>().await;
        let answer = answer.map_err(|why| unreachable(addr, io::Error::other(why)))?;
        let closed = || io::Error::other("it closed the connection without an answer");
        answer.ok_or_else(|| unreachable(addr, closed()))
    };
    timeout(limit, answer).await.unwrap_or_else(|_| Err(silent(addr)))
}

fn unreachable(addr: SocketAddr, e: io::Error) -> JoinError {
    if exhausted(&e) {
        return JoinError::Io(format!("cannot connect to the server at {addr}"), e);
    }
    JoinError::Unreachable(addr, e)
}

fn silent(addr: SocketAddr) -> JoinError {
    JoinError::Unreachable(addr, io::Error::other("it accepts the connection but does not answer"))
}
