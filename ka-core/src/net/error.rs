//! Why a session cannot be opened or joined, and how it is said what is the way out.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

use super::discovery::{AskError, Found, UnknownKey};
use super::host::name::Host;
use super::host::ports::PortError;
use super::host::refused::{refused, way_in};
use crate::types::{SessionId, SessionName};
use crate::wire::Malformed;
use crate::wire::control::Refusal;

/// Why a server cannot open its session.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServeError {
    /// A number of the configuration is out of its range: which, and the range.
    Config(String),
    /// A port cannot be had.
    Port(PortError),
    /// An interface that is named does not exist.
    Interface(io::Error),
    /// Another server serves a session of this name, there.
    Rival(SessionName, SocketAddr),
    /// The system refuses something else.
    Io(String, io::Error),
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(why) => f.write_str(why),
            Self::Port(why) => why.fmt(f),
            Self::Interface(why) => why.fmt(f),
            Self::Rival(name, addr) => write!(
                f,
                "another server at {addr} already serves a session named `{name}`; choose another name, or end that one"
            ),
            Self::Io(what, why) => f.write_str(&refused(what, why)),
        }
    }
}

impl std::error::Error for ServeError {}

/// Why a client could not join a session.
#[derive(Debug)]
#[non_exhaustive]
pub enum JoinError {
    /// The configuration names neither a session nor a server, or a number is out of its range.
    Config(String),
    /// No server was found.
    NotFound(AskError),
    /// The server's name does not resolve.
    Unresolved(Host, io::Error),
    /// Several servers serve a session of this name; all of them are listed.
    Ambiguous(SessionName, Vec<Found>),
    /// The server does not want this node.
    Refused(Refusal),
    /// The server does not know this node's key.
    UnknownKey(UnknownKey),
    /// The server there has this node's key, and serves a session of another name.
    OtherName(IpAddr),
    /// Somebody else than the key's server answers there.
    Impostor(SocketAddr),
    /// The server does not speak this protocol.
    Protocol(SocketAddr, Malformed),
    /// The server was found or named, but cannot be talked to.
    Unreachable(SocketAddr, io::Error),
    /// A port cannot be had.
    Port(PortError),
    /// An interface that is named does not exist.
    Interface(io::Error),
    /// The system refuses something else: what, and why.
    Io(String, io::Error),
    /// The session is one that this node has been through ([`ClientConfig::done`](super::session::ClientConfig::done)). The server is
    /// told nothing, unless it could not be asked for its session before.
    Done(SessionId),
    /// The node was stopped before it was in: by whom, in words.
    Stopped(String),
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(why) => f.write_str(why),
            Self::NotFound(why) => why.fmt(f),
            Self::Unresolved(host, why) => write!(
                f,
                "{host} has no address ({why}); give the server's IP address, or its session's name alone"
            ),
            Self::Ambiguous(name, found) => {
                write!(f, "{} servers serve a session named `{name}`:", found.len())?;
                found.iter().try_for_each(|x| write!(f, " {}", x.control))?;
                f.write_str("; choose one by its address")
            }
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::UnknownKey(who) => who.fmt(f),
            Self::OtherName(addr) => super::discovery::other_name(*addr, f),
            Self::Impostor(addr) => write!(
                f,
                "who answers at {addr} is not the server that this key is for: copy the key that the session's server \
                 printed; if it is that one, somebody else has the server's address"
            ),
            Self::Protocol(addr, why) => write!(f, "the server at {addr}: {why}"),
            Self::Unreachable(addr, why) => {
                write!(f, "the server at {addr} cannot be reached: {why}{}", way_in(why))
            }
            Self::Port(why) => why.fmt(f),
            Self::Interface(why) => why.fmt(f),
            Self::Io(what, why) => f.write_str(&refused(what, why)),
            Self::Done(session) => write!(f, "this node has been through the session {session} already"),
            Self::Stopped(who) => write!(f, "interrupted: {who}"),
        }
    }
}

impl std::error::Error for JoinError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::host::ports::Service;
    use crate::net::host::refused::{exhausted, no_way};

    #[test]
    fn a_port_that_cannot_be_had_is_named_with_the_option_for_another() {
        let words = |service, ports, code| {
            PortError { service, ports, error: io::Error::from_raw_os_error(code) }.to_string()
        };
        let used = libc::EADDRINUSE;
        for (service, ports, wanted) in [
            (Service::Control, 7..=7, ["TCP port 7:", "another program", "--port"]),
            (Service::Data, 7..=7, ["TCP port 7:", "another program", "--data-port"]),
            (Service::Data, 7..=9, ["TCP port of 7-9:", "other programs", "--port-range"]),
            (
                Service::Discovery,
                7..=7,
                ["UDP port 7:", "another program", "--discovery-port, on both sides"],
            ),
        ] {
            let said = words(service, ports, used);
            assert!(wanted.iter().all(|word| said.contains(word)), "{said}");
        }
        let said = words(Service::Control, 7..=7, libc::EACCES);
        assert!(!said.contains("another program"), "{said}");
        let said = words(Service::Control, 7..=9, libc::EMFILE);
        assert!(said.contains("ulimit -n") && !said.contains("--port-range"), "{said}");
    }

    #[test]
    fn a_firewall_is_named_with_the_ports_that_it_should_let_through() {
        let addr = ([10, 0, 0, 9], 30765).into();
        for (code, firewall) in [
            (libc::ETIMEDOUT, true),
            (libc::ECONNREFUSED, true),
            (libc::EHOSTUNREACH, true),
            (libc::ENETUNREACH, false),
        ] {
            let e = || io::Error::from_raw_os_error(code);
            let said = JoinError::Unreachable(addr, e()).to_string();
            assert!(said.contains("10.0.0.9:30765"), "{said}");
            assert_eq!(said.contains("firewall") && said.contains("30764-31275"), firewall, "{said}");
            let said = no_way(addr, &e(), &(7..=9));
            assert!(said.contains("10.0.0.9"), "{said}");
            assert_eq!(said.contains("firewall") && said.contains("7-9"), firewall, "{said}");
        }
    }

    #[test]
    fn what_a_process_has_run_out_of_is_its_own_and_its_limit_is_named() {
        let said = refused("cannot do it", &io::Error::from_raw_os_error(libc::EMFILE));
        assert!(said.contains("ulimit -n"), "{said}");
        assert!(exhausted(&io::Error::from_raw_os_error(libc::ENFILE)));
        assert!(!exhausted(&io::Error::from_raw_os_error(libc::ECONNREFUSED)));
        assert!(!exhausted(&io::Error::other("x")));
    }
}
