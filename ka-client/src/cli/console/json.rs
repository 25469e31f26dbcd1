//! The JSON of `ka-d-client`, of which `docs/json.md` lists all. The parts that it shares with `ka-d-server` are in
//! [`ka_core::console::json`].

use std::net::{IpAddr, SocketAddr};

use ka_core::console::json::{Counters, Ending};
use ka_core::net::ClientEvent;
use ka_core::net::discovery::Other;
use ka_desc::manifest::StreamKind;
use serde::Serialize;

/// An event.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
#[expect(missing_docs, reason = "docs/json.md says it")]
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
    Stream { number: u32, name: &'a str, size: Option<u64>, estimate: bool },
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
            ClientEvent::Stream(info) => Self::Stream {
                number: info.number,
                name: &info.name,
                size: info.size,
                estimate: info.size.is_some() && StreamKind::is_estimate(&info.metadata),
            },
            ClientEvent::Progress(p) => Self::Progress { received: p.received.0, sunk: p.sunk.0 },
            ClientEvent::Complete => Self::Complete,
            ClientEvent::Ended(outcome) => Self::Ended(outcome.into()),
            _ => return None,
        })
    }
}

/// The report on the outcome of this node.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "docs/json.md says it")]
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
    pub joined: Option<String>,
    pub started: Option<String>,
    pub ended: String,
    pub counters: Counters,
}
