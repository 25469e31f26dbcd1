//! Refusals of the system, and the sentences that tell what to do about them.

use crate::limits;
use rustix::process::{Resource, getrlimit};
use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

/// Whether the system says no because this process or its host has run out of something: nobody else is to blame.
pub(crate) fn exhausted(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS))
}

/// The words for a refusal of the system: what, why, and what helps if it is that this process has run out of it.
pub(crate) fn refused(what: &str, why: &io::Error) -> String {
    let mut words = format!("{what}: {why}");
    if why.raw_os_error() == Some(libc::EMFILE) {
        let may = getrlimit(Resource::Nofile).current.map_or_else(String::new, |n| format!(" {n}"));
        words += &format!("; this process may have{may} files open, which is too few: see `ulimit -n`");
    }
    words
}

/// Why a connection to another node's data port did not come about, and what to look at.
pub(crate) fn no_way(addr: SocketAddr, why: &io::Error, ports: &RangeInclusive<u16>) -> String {
    let (ip, port) = (addr.ip(), addr.port());
    let open = format!("nodes need TCP {}-{} open between them", ports.start(), ports.end());
    match why.kind() {
        io::ErrorKind::TimedOut => {
            format!("TCP port {port} of {ip} does not answer; a firewall there? {open}")
        }
        io::ErrorKind::ConnectionRefused => {
            format!("TCP port {port} of {ip} is closed: nobody listens, or a firewall there says no; {open}")
        }
        io::ErrorKind::HostUnreachable => format!("{ip} is not there, or a firewall says so ({why}); {open}"),
        _ => format!("{ip}: {why}"),
    }
}

/// The words on what to look at if a server cannot be reached for this reason.
pub(crate) fn way_in(why: &io::Error) -> String {
    let (first, last) = (limits::DATA_PORT, limits::PORT_RANGE_LAST);
    let open = format!("a server needs TCP {first}-{last} and UDP {} open", limits::DISCOVERY_PORT);
    match why.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::HostUnreachable => format!("; a firewall? {open}"),
        io::ErrorKind::ConnectionRefused => {
            format!("; nobody listens there (--port says where), or a firewall says no: {open}")
        }
        _ => String::new(),
    }
}
