//! Listening: the port asked for, else the original's, else one of a short range.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use super::interfaces;
use super::session::Ports;

/// A listener and its port. `what` is for the error: "control TCP port 30765".
pub(super) fn listen(
    what: &str,
    wanted: Option<u16>,
    usual: u16,
    ports: &Ports,
) -> Result<(TcpListener, u16), (String, io::Error)> {
    let addr = |port| address(port, ports);
    if let Some(port) = wanted {
        return bind(addr(port).map_err(|e| (what.to_string(), e))?)
            .map(|l| (l, port))
            .map_err(|e| (format!("{what} TCP port {port}"), e));
    }
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    // Many processes of one host that look through the range at once do not all begin at its start.
    let (first, end) = (*ports.range.start(), *ports.range.end());
    let len = u32::from(end.saturating_sub(first)) + 1;
    let shift = std::process::id() % len;
    let range = (0..len).map(|i| first + ((i + shift) % len) as u16);
    for port in std::iter::once(usual).filter(|p| ports.range.contains(p)).chain(range) {
        match bind(addr(port).map_err(|e| (what.to_string(), e))?) {
            Ok(listener) => return Ok((listener, port)),
            Err(e) => last = e,
        }
    }
    Err((format!("any {what} TCP port of {first}-{end}"), last))
}

/// Every address of the host, or the one interface's if exactly one is named.
fn address(port: u16, ports: &Ports) -> io::Result<SocketAddr> {
    match ports.interfaces.as_slice() {
        [_] => match interfaces::usable(&ports.interfaces)?.first() {
            Some(interface) => Ok(SocketAddr::from((interface.addr, port))),
            None => Ok(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))),
        },
        _ => Ok(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))),
    }
}

fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    match bind_one(addr) {
        // A kernel without IPv6.
        Err(e) if addr.is_ipv6() && e.kind() != io::ErrorKind::AddrInUse => {
            bind_one(SocketAddr::from((Ipv4Addr::UNSPECIFIED, addr.port())))
        }
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
