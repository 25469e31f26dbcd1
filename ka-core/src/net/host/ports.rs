//! Listening: the port asked for, else the original's, else one of a short range.
//!
//! It is done on all addresses, whatever interfaces are named: their addresses may come later, or change. Who came in by
//! another one is hung up on (`accept`).

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use super::refused::{exhausted, refused};
use crate::limits;

/// Listens for this service, and says where.
pub(crate) fn listen(
    service: Service,
    wanted: Option<u16>,
    usual: u16,
    ports: &Ports,
) -> Result<(TcpListener, u16), PortError> {
    if let Some(port) = wanted {
        let error = |error| PortError { service, ports: port..=port, error };
        return bind(port).map(|l| (l, port)).map_err(error);
    }
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    // Many processes of one host that look through the range at once do not all begin at its start.
    let (first, end) = (*ports.range.start(), *ports.range.end());
    let len = u32::from(end.saturating_sub(first)) + 1;
    let shift = std::process::id() % len;
    let range = (0..len).map(|i| first + ((i + shift) % len) as u16);
    for port in std::iter::once(usual).filter(|p| ports.range.contains(p)).chain(range) {
        match bind(port) {
            Ok(listener) => return Ok((listener, port)),
            Err(e) => last = e,
        }
        if exhausted(&last) {
            break;
        }
    }
    Err(PortError { service, ports: ports.range.clone(), error: last })
}

fn bind(port: u16) -> io::Result<TcpListener> {
    match bind_one((Ipv6Addr::UNSPECIFIED, port).into()) {
        // A kernel without IPv6.
        Err(e) if e.kind() != io::ErrorKind::AddrInUse => bind_one((Ipv4Addr::UNSPECIFIED, port).into()),
        other => other,
    }
}

fn bind_one(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // A port whose last connections are only waiting for stray packets is free.
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    socket.listen(1024)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

/// The service that a process listens for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Control connections, over TCP.
    Control,
    /// Data links, over TCP.
    Data,
    /// Questions for sessions, over UDP.
    Discovery,
}

/// A port that cannot be had.
#[derive(Debug)]
pub struct PortError {
    /// The service that needs it.
    pub service: Service,
    /// Which one, or all that were tried.
    pub ports: RangeInclusive<u16>,
    /// The system's word.
    pub error: io::Error,
}

impl fmt::Display for PortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = (self.ports.start(), self.ports.end());
        let one = first == last;
        if exhausted(&self.error) {
            return f.write_str(&refused("cannot listen", &self.error));
        }
        let (what, option) = match self.service {
            Service::Control => ("TCP", "--port"),
            Service::Data => ("TCP", "--data-port"),
            Service::Discovery => ("UDP", "--discovery-port, on both sides"),
        };
        match one {
            true => write!(f, "cannot listen on {what} port {first}: {}", self.error)?,
            false => write!(f, "cannot listen on any {what} port of {first}-{last}: {}", self.error)?,
        }
        if self.error.kind() == io::ErrorKind::AddrInUse {
            f.write_str(if one { "; another program has it" } else { "; other programs have them" })?;
        }
        match one {
            true => write!(f, "; choose another one by {option}"),
            false => f.write_str("; choose others by --port-range"),
        }
    }
}

impl std::error::Error for PortError {}

/// The ports and interfaces on which a process listens and asks.
#[derive(Clone, Debug)]
pub struct Ports {
    /// Control TCP port. `None`: the original's if it is free, else one of the range. A client takes it as
    /// the server's port, and without one learns it from the server.
    pub control: Option<u16>,
    /// Data TCP port. `None`: the original's if it is free, else one of the range.
    pub data: Option<u16>,
    /// The range of all further ports, so that a firewall rule can name them.
    pub range: RangeInclusive<u16>,
    /// UDP port of discovery.
    pub discovery: u16,
    /// Interfaces to ask from, and on whose addresses to answer and to listen, whichever those are by then; this host itself
    /// is always answered. Empty: loopback and every wired one; who comes by another one is answered, too.
    pub interfaces: Vec<String>,
}

impl Default for Ports {
    fn default() -> Self {
        Self {
            control: None,
            data: None,
            range: limits::DATA_PORT..=limits::PORT_RANGE_LAST,
            discovery: limits::DISCOVERY_PORT,
            interfaces: Vec::new(),
        }
    }
}
