//! What `ka-d-client` says to programs. The parts it shares with `ka-d-server` are in [`crate::console::json`].
//!
//! **Events** (`--json`), each a line on standard output with `"event"` and `"t"`:
//!
//! | event | further fields |
//! |---|---|
//! | `unknownkey` | `addr` of a server that does not know our key, `text`; we go on looking for ours |
//! | `othername` | `addr` of a server that knows our key and serves a session of another name, `text`; we go on looking for ours |
//! | `found` | `addr`: the server's control address, where it has answered; again if it is elsewhere later |
//! | `trying` | `text`: why we are not in yet; it may pass, and is tried again |
//! | `warning` | `text`: something is wrong that does not end us |
//! | `joined` | `node`: our number; `session`: 32 hex digits; `expected`: nodes; `encrypted`: whether the payload is; `data_port`; `window_bytes` |
//! | `parent` | `node` and `addr` of the node that feeds us from now on (0 is the server) |
//! | `linked` | none: the link to the parent is up |
//! | `noparent` | none: nobody feeds us for now; the rest comes once the others have it |
//! | `away`, `back` | none: the server is not heard any more; it is heard again |
//! | `stream` | `number`, `name`, `size` in bytes or `null` |
//! | `progress` | `received`: bytes that came and were checked; `sunk`: bytes that the sink took; six times a second |
//! | `complete` | none: every byte is here, the sink may still be at work |
//! | `ended` | `outcome`, `reason`, `at`; the node may still relay |
//! | `going` | `nodes`: with `--go`, how many the session starts with |
//! | `report` | the last one: all fields of the report |
//! | `error` | the last one instead of `report`, if the node never joined: `text`, `exit` |
//!
//! **The report** (`--report`) is one object: `"ka"`: our version; `"version"`: 1; `"session"`: 32 hex digits or
//! `null`; `"name"`: the session's name as given or `null`; `"secure"`: false with `--insecure`; `"ok"`; `"exit"`: our
//! exit status; `"error"`: `null`, or why the node never joined; `"node"`: our number or `null`; `"label"`: our host's name; `"outcome"`, `"reason"`,
//! `"at"`; `"received"` and `"bytes"`: bytes that came, and that the sink took; `"joined_s"` and `"ended_s"`: seconds
//! since our start, or `null`; `"counters"`. A node that never joined has outcome `"failed"` without a reason.

use std::net::{IpAddr, SocketAddr};

use ka_core::net::ClientEvent;
use ka_core::net::discovery::Other;
use serde::Serialize;

use crate::console::json::{Counters, Ending};

/// An event.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
#[expect(missing_docs, reason = "the table above says it")]
pub enum Event<'a> {
    UnknownKey { addr: IpAddr, text: String },
    OtherName { addr: IpAddr, text: String },
    Trying { text: String },
    Warning { text: &'a str },
    Found { addr: SocketAddr },
    Joined { node: u32, session: String, expected: u32, encrypted: bool, data_port: u16, window_bytes: u64 },
    Parent { node: u32, addr: SocketAddr },
    NoParent,
    Linked,
    Away,
    Back,
    Stream { number: u32, name: &'a str, size: Option<u64> },
    Progress { received: u64, sunk: u64 },
    Complete,
    Ended(Ending<'a>),
    Going { nodes: u32 },
    Report(&'a Report<'a>),
}

impl<'a> Event<'a> {
    /// The event as programs know it; one that is newer than this is left out.
    #[must_use]
    pub fn of(event: &'a ClientEvent) -> Option<Self> {
        Some(match event {
            ClientEvent::Other(who) => {
                let (addr, text) = (who.addr(), who.to_string());
                match who {
                    Other::UnknownKey(_) => Self::UnknownKey { addr, text },
                    Other::Name(_) => Self::OtherName { addr, text },
                }
            }
            ClientEvent::Trying(why) => Self::Trying { text: why.to_string() },
            ClientEvent::Warning(text) => Self::Warning { text },
            ClientEvent::Found(addr) => Self::Found { addr: *addr },
            ClientEvent::Joined { node, session, expected, encrypted, data_port, window_bytes } => {
                Self::Joined {
                    node: node.0,
                    session: session.to_string(),
                    expected: *expected,
                    encrypted: *encrypted,
                    data_port: *data_port,
                    window_bytes: *window_bytes,
                }
            }
            ClientEvent::Parent { node, addr } => Self::Parent { node: node.0, addr: *addr },
            ClientEvent::NoParent => Self::NoParent,
            ClientEvent::Linked => Self::Linked,
            ClientEvent::Away => Self::Away,
            ClientEvent::Back => Self::Back,
            ClientEvent::Stream(info) => {
                Self::Stream { number: info.number, name: &info.name, size: info.size }
            }
            ClientEvent::Progress(p) => Self::Progress { received: p.received.0, sunk: p.sunk.0 },
            ClientEvent::Complete => Self::Complete,
            ClientEvent::Ended(outcome) => Self::Ended(outcome.into()),
            _ => return None,
        })
    }
}

/// What became of this node.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the text above says it")]
pub struct Report<'a> {
    pub ka: &'static str,
    pub version: u32,
    pub session: Option<String>,
    pub name: Option<&'a str>,
    pub secure: bool,
    pub ok: bool,
    pub exit: u8,
    pub error: Option<String>,
    pub node: Option<u32>,
    pub label: &'a str,
    #[serde(flatten)]
    pub ending: Ending<'a>,
    pub received: u64,
    pub bytes: u64,
    pub joined_s: Option<f64>,
    pub ended_s: f64,
    pub counters: Counters,
}
