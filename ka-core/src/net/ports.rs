//! Listening: the port asked for, else the original's, else one of a short range.
//!
//! It is done on all addresses, whatever interfaces are named: their addresses may come later, or change. Who came in by
//! another one is hung up on ([`door`](super::door)).

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use super::door::Door;
use super::error::{PortError, Service, exhausted};
use super::session::Ports;

/// Listens for this service, and says where.
pub(super) fn listen(
    service: Service,
    wanted: Option<u16>,
    usual: u16,
    ports: &Ports,
) -> Result<(Door, u16), PortError> {
    let door = |listener| Door::new(listener, ports.interfaces.clone());
    if let Some(port) = wanted {
        let error = |error| PortError { service, ports: port..=port, error };
        return bind(port).map(|l| (door(l), port)).map_err(error);
    }
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    // Many processes of one host that look through the range at once do not all begin at its start.
    let (first, end) = (*ports.range.start(), *ports.range.end());
    let len = u32::from(end.saturating_sub(first)) + 1;
    let shift = std::process::id() % len;
    let range = (0..len).map(|i| first + ((i + shift) % len) as u16);
    for port in std::iter::once(usual).filter(|p| ports.range.contains(p)).chain(range) {
        match bind(port) {
            Ok(listener) => return Ok((door(listener), port)),
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
