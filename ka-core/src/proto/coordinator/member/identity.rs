//! The identity of a node, and its address.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use crate::time::Instant;
use crate::types::NodeId;

/// The number by which the coordinator's caller identifies one control connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Conn(pub u32);

impl Conn {
    /// The server's own node, which needs no connection.
    pub const ROOT: Self = Self(0);
}

/// The identity of a node, and its address.
#[derive(Clone, Debug)]
pub struct Identity {
    pub(super) node: NodeId,
    conn: Option<Conn>,
    pub(super) addr: SocketAddr,
    /// The address when the node joined, which reports and people know it by.
    pub(super) joined_at: SocketAddr,
    server_ip: IpAddr,
    pub(super) label: String,
    pub(super) about: Vec<u8>,
    pub(super) incarnation: u64,
    waits: bool,
    late: bool,
    pub(super) joined: Instant,
}

impl Identity {
    /// A node at `addr` that reaches the server at `server_ip`.
    #[must_use]
    pub fn new(now: Instant, node: NodeId, conn: Conn, addr: SocketAddr, server_ip: IpAddr) -> Self {
        Self {
            node,
            conn: Some(conn),
            addr,
            joined_at: addr,
            server_ip,
            label: String::new(),
            about: Vec::new(),
            incarnation: 0,
            waits: false,
            late: false,
            joined: now,
        }
    }

    /// The same with what the node says of itself: its host's name, its incarnation, and whether it stays until it is let
    /// go; and whether it came after the start.
    #[must_use]
    pub fn described(self, label: String, about: Vec<u8>, incarnation: u64, waits: bool, late: bool) -> Self {
        Self { label, about, incarnation, waits, late, ..self }
    }

    /// The control connection; `None` once that is gone.
    pub(crate) fn conn(&self) -> Option<Conn> {
        self.conn
    }

    pub(crate) fn set_conn(&mut self, conn: Option<Conn>) -> Option<Conn> {
        core::mem::replace(&mut self.conn, conn)
    }

    /// The server's own address on the control connection: how this node sees the server.
    pub(crate) fn server_ip(&self) -> IpAddr {
        self.server_ip
    }

    /// Notes where the node is now; whether its own address, and the server's, are others.
    pub(crate) fn moves_to(&mut self, addr: SocketAddr, server_ip: IpAddr) -> (bool, bool) {
        let before = (self.addr, self.server_ip);
        (self.addr, self.server_ip) = (addr, server_ip);
        (before.0 != addr, before.1 != server_ip)
    }

    /// Whether the node stays until it is let go.
    pub(crate) fn waits(&self) -> bool {
        self.waits
    }

    /// Whether the node came after the start.
    pub(crate) fn is_late(&self) -> bool {
        self.late
    }
}
