//! A node that is not in yet: finds its server, and says hello.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::control::Connection;
use super::discovery::{self, AskError, Target, UnknownKey};
use super::error::JoinError;
use super::handshake::Fault;
use super::link;
use super::session::{ClientConfig, ClientEvent};
use crate::key::Key;
use crate::limits;
use crate::wire::Malformed;
use crate::wire::control::{Hello, ToCoordinator, ToNode};

/// Finds the server, says hello, and returns its answer. What may pass (a server that is just coming up, a
/// link that is) is tried again until the time to look is over.
pub(super) async fn get_in(
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
            Ok(found) if !found.is_empty() => Ok(found[0].control),
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
            let mut addr = found.swap_remove(0).control;
            addr.set_port(port.unwrap_or(addr.port()));
            Ok(addr)
        }
    }
}

/// How long a given host is asked for its control port before the usual one is tried.
const ASK_HOST: Duration = Duration::from_secs(1);

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
pub(super) async fn exchange(
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
