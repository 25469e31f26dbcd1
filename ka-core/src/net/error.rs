//! Why a session cannot be opened or joined.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use super::discovery::{AskError, Found, UnknownKey};
use crate::types::SessionName;
use crate::wire::Malformed;
use crate::wire::control::Refusal;

/// Why a server cannot open its session.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServeError {
    /// A number of the configuration is out of its range: which, and the range.
    Config(String),
    /// A port cannot be had: which, and why.
    Port(String, io::Error),
    /// Another server serves a session of this name, there.
    Rival(SessionName, SocketAddr),
    /// The system refuses something else.
    Io(String, io::Error),
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(why) => f.write_str(why),
            Self::Port(what, why) => write!(f, "cannot listen on {what}: {why}"),
            Self::Rival(name, addr) => write!(
                f,
                "another server at {addr} already serves a session named `{name}`; choose another name, or end that one"
            ),
            Self::Io(what, why) => write!(f, "{what}: {why}"),
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
    /// Several servers serve a session of this name; all of them are listed.
    Ambiguous(SessionName, Vec<Found>),
    /// The server does not want this node.
    Refused(Refusal),
    /// The server does not know this node's key.
    UnknownKey(UnknownKey),
    /// Somebody else than the key's server answers there.
    Impostor(SocketAddr),
    /// The server does not speak this protocol.
    Protocol(SocketAddr, Malformed),
    /// The server was found but cannot be talked to.
    Unreachable(SocketAddr, io::Error),
    /// A port cannot be had: which, and why.
    Port(String, io::Error),
    /// It was stopped before it was in: by whom, in words.
    Stopped(String),
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(why) => f.write_str(why),
            Self::NotFound(why) => why.fmt(f),
            Self::Ambiguous(name, found) => {
                write!(f, "{} servers serve a session named `{name}`:", found.len())?;
                found.iter().try_for_each(|x| write!(f, " {}", x.control))?;
                f.write_str("; choose one by its address")
            }
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::UnknownKey(who) => who.fmt(f),
            Self::Impostor(addr) => write!(
                f,
                "who answers at {addr} is not the server that this key is for: copy the key that the session's server \
                 printed; if it is that one, somebody else has the server's address"
            ),
            Self::Protocol(addr, why) => write!(f, "the server at {addr}: {why}"),
            Self::Unreachable(addr, why) => write!(f, "the server at {addr} cannot be reached: {why}"),
            Self::Port(what, why) => write!(f, "cannot listen on {what}: {why}"),
            Self::Stopped(who) => write!(f, "interrupted: {who}"),
        }
    }
}

impl std::error::Error for JoinError {}
