//! The sockets of discovery, and where it sends.

use crate::limits;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::net::UdpSocket;

/// The multicast group in which servers hear questions, for switches and hosts that do not pass broadcasts.
pub const GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 75, 65);

/// The same over IPv6: a transient group of link-local scope, with the same four bytes.
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff12, 0, 0, 0, 0, 0, 0xefff, 0x4b41);

/// Every server of this host hears what is sent here.
pub(super) const THIS_HOST: Ipv4Addr = Ipv4Addr::new(127, 255, 255, 255);

/// One byte more than a datagram has, so that one too long is seen to be.
pub(super) type Buffer = [u8; limits::DISCOVERY_BYTES + 1];
pub(super) const EMPTY: Buffer = [0; limits::DISCOVERY_BYTES + 1];

/// Sends now or not at all, and says which: waiting for room would hold up everybody else, and whoever misses a
/// datagram asks again.
pub(super) fn send(socket: &UdpSocket, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
    // Tokio's own `try_send_to` fails on a new socket until the reactor has seen it.
    SockRef::from(socket).send_to(datagram, &to.into()).map(drop)
}

pub(super) fn shared_socket(at: SocketAddr) -> io::Result<UdpSocket> {
    let socket = udp(at.ip())?;
    if at.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    bound(socket, at)
}

pub(super) fn interface_socket(at: SocketAddr) -> io::Result<UdpSocket> {
    let socket = udp(at.ip())?;
    if let IpAddr::V4(v4) = at.ip() {
        socket.set_multicast_if_v4(&v4)?;
    }
    bound(socket, at)
}

pub(super) fn host_socket(host: IpAddr) -> io::Result<UdpSocket> {
    let any: IpAddr =
        if host.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    bound(udp(host)?, (any, 0).into())
}

pub(super) fn udp(family: IpAddr) -> io::Result<Socket> {
    let domain = if family.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if family.is_ipv4() {
        socket.set_broadcast(true)?;
    }
    Ok(socket)
}

pub(super) fn bound(socket: Socket, at: SocketAddr) -> io::Result<UdpSocket> {
    socket.bind(&at.into())?;
    UdpSocket::from_std(socket.into())
}
