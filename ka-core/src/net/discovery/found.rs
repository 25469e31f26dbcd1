//! The target of a search, its results, and the reasons why it finds nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::limits;
use crate::net::host::interfaces::Interface;
use crate::types::SessionId;
use crate::wire::Malformed;

/// The hosts that [`ask`](super::ask()) asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Every neighbour on every usable interface, and this host, at this port.
    Anyone(u16),
    /// One host, at any of these addresses and its port of discovery.
    Host(Vec<SocketAddr>),
}

/// A server that has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The address for control connections to it.
    pub control: SocketAddr,
    /// Which session it serves.
    pub session: SessionId,
    /// Whether it is itself still asking if another server was there first.
    pub probing: bool,
}

/// A server that is not the one asked for, as a warning or an error names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Other {
    /// The server does not have the asker's key.
    UnknownKey(UnknownKey),
    /// The server at this address has that key, and serves a session of another name.
    Name(IpAddr),
}

impl Other {
    /// The server's address.
    #[must_use]
    pub fn addr(&self) -> IpAddr {
        match self {
            Self::UnknownKey(who) => who.addr,
            Self::Name(addr) => *addr,
        }
    }
}

impl fmt::Display for Other {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKey(who) => who.fmt(f),
            Self::Name(addr) => other_name(*addr, f),
        }
    }
}

pub(in crate::net) fn other_name(addr: IpAddr, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "the server at {addr} has this key, but serves a session of another name: check it (--session)")
}

/// A server that does not know the asker's key, as a warning or an error says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownKey {
    /// The server's address.
    pub addr: IpAddr,
    /// Whether it wants a key.
    pub secure: bool,
    /// Whether the asker has one.
    pub given: bool,
}

impl fmt::Display for UnknownKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { addr, secure, given } = self;
        write!(f, "the server at {addr} ")?;
        f.write_str(match (secure, given) {
            (true, true) => {
                "does not know this key: copy the one it printed when this session was opened (if it printed none: it \
                 runs without)"
            }
            (true, false) => {
                "wants a key: give the one it printed (--key), or start both sides with --insecure"
            }
            (false, true) => "says that it runs without a key: if it is yours, start it without --insecure",
            (false, false) => "serves another session",
        })
    }
}

/// Why no server was found.
#[derive(Debug)]
#[non_exhaustive]
pub enum AskError {
    /// None has answered.
    NotFound {
        /// For how long it was asked for.
        waited: Duration,
        /// The addresses asked from, each with its interface. None if one host was asked.
        from: Vec<Interface>,
        /// A server that is not the one asked for, if one was heard of.
        other: Option<Other>,
    },
    /// The host that was asked has a server, and that is not the one asked for.
    Other(Other),
    /// None has answered but those of another version of the protocol, this one.
    OtherVersion(u16),
    /// All the time there was no interface to ask from.
    NoInterface,
    /// The system's error, or an interface to ask from that does not exist.
    Io(io::Error),
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { waited, from, other } => {
                write!(f, "no server has answered in {:.1} s", waited.as_secs_f64())?;
                asked(from, f)?;
                match other {
                    Some(who) => write!(f, "; {who}"),
                    None => advise(from, f),
                }
            }
            Self::Other(who) => who.fmt(f),
            Self::OtherVersion(v) => Malformed::Version(*v).fmt(f),
            Self::NoInterface => f.write_str(
                "there is no wired network interface that is up, has a carrier, and an address of IPv4 or IPv6",
            ),
            Self::Io(e) => e.fmt(f),
        }
    }
}

/// Whence it was asked.
pub(super) fn asked(from: &[Interface], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut by_name = BTreeMap::<&str, Vec<String>>::new();
    for interface in from {
        let addrs = by_name.entry(&interface.name).or_default();
        addrs.extend((!interface.loopback).then(|| interface.addr.to_string()));
    }
    let each = by_name.iter().map(|(name, addrs)| match addrs.is_empty() {
        true => (*name).to_owned(),
        false => format!("{name} with {}", addrs.join(" and ")),
    });
    let each: Vec<_> = each.collect();
    if each.is_empty() { Ok(()) } else { write!(f, " (asked from {})", each.join(", ")) }
}

/// Writes what to look at if none of the hosts that were asked from there has answered.
pub(super) fn advise(from: &[Interface], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let outer = || from.iter().filter(|i| !i.loopback);
    let v4 = || outer().filter_map(|i| if let IpAddr::V4(v4) = i.addr { Some(v4) } else { None });
    if from.is_empty() {
        return Ok(());
    }
    if outer().next().is_none() {
        return f
            .write_str("; that is this host alone: no wired interface is up, with a carrier and an address");
    }
    if v4().next().is_some() && v4().all(|ip| ip.is_link_local()) {
        return f.write_str(
            "; this host gave itself its IPv4 address, and a server with another one cannot answer that: is there no \
             DHCP server?",
        );
    }
    let port = limits::DISCOVERY_PORT;
    write!(f, "; is it running, and does its firewall let UDP {port} in? --host reaches it without that")
}

impl std::error::Error for AskError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(e) => Some(e),
            _ => None,
        }
    }
}

impl From<io::Error> for AskError {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn at(name: &str, addr: &str) -> Interface {
        let addr: IpAddr = addr.parse().unwrap();
        Interface { name: name.into(), index: 2, addr, broadcast: None, loopback: addr.is_loopback() }
    }

    #[test]
    fn what_was_not_found_is_said_with_whence_it_was_asked() {
        let said = |from: &[Interface]| {
            let waited = Duration::from_secs(2);
            AskError::NotFound { waited, from: from.to_vec(), other: None }.to_string()
        };
        let (lo, dhcp, own) = (at("lo", "127.0.0.1"), at("eth0", "10.0.0.9"), at("eth0", "169.254.7.7"));
        let v6 = at("eth0", "fe80::1");
        for (from, says, not) in [
            (vec![lo.clone(), dhcp.clone(), v6.clone()], "eth0 with 10.0.0.9 and fe80::1, lo)", "DHCP"),
            (vec![lo.clone(), own.clone(), v6.clone()], "no DHCP server", "this host alone"),
            (vec![dhcp, own], "2.0 s", "DHCP"),
            (vec![lo.clone(), v6], "firewall", "DHCP"),
            (vec![lo], "this host alone", "DHCP"),
            (vec![], "2.0 s", "this host alone"),
        ] {
            let said = said(&from);
            assert!(said.contains(says) && !said.contains(not), "{said}");
        }
    }

    #[test]
    fn a_server_that_does_not_know_the_key_says_what_to_do() {
        let words =
            |secure, given| UnknownKey { addr: Ipv4Addr::LOCALHOST.into(), secure, given }.to_string();
        assert_eq!(
            words(true, true),
            "the server at 127.0.0.1 does not know this key: copy the one it printed when this session was opened (if it printed none: it runs without)"
        );
        assert_eq!(
            words(false, true),
            "the server at 127.0.0.1 says that it runs without a key: if it is yours, start it without --insecure"
        );
        assert_eq!(
            words(true, false),
            "the server at 127.0.0.1 wants a key: give the one it printed (--key), \
             or start both sides with --insecure"
        );
    }
}
