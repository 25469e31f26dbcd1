//! The members of the session, by number and by connection.

use alloc::collections::BTreeMap;

use super::member::{Conn, Member};
use crate::types::NodeId;

/// The members of a session by number, and by connection.
///
/// The root is always there. A node that left before the start is taken out, and its number is not given again.
#[derive(Debug, Default)]
pub struct Roster {
    members: BTreeMap<NodeId, Member>,
    conns: BTreeMap<Conn, NodeId>,
    next: u32,
}

impl Roster {
    /// Adds a member under the next number.
    pub fn add(&mut self, member: impl FnOnce(NodeId) -> Member) -> NodeId {
        let node = NodeId(self.next);
        self.next += 1;
        self.insert(member(node));
        node
    }

    /// The numbers that were given out.
    #[must_use]
    pub fn numbers(&self) -> u32 {
        self.next
    }

    /// Puts a member back under a number that it had before; false if it cannot have had it.
    pub fn restore(&mut self, member: Member) -> bool {
        let had = member.node().0 < self.next && !self.members.contains_key(&member.node());
        if had {
            self.insert(member);
        }
        had
    }

    fn insert(&mut self, member: Member) {
        if let Some(conn) = member.identity.conn() {
            self.conns.insert(conn, member.node());
        }
        self.members.insert(member.node(), member);
    }

    /// A member speaks on a new connection from now on; the old one, if there is one, is returned.
    pub fn reconnect(&mut self, node: NodeId, conn: Conn) -> Option<Conn> {
        let member = self.members.get_mut(&node)?;
        member.presence.set_gone(None);
        let old = member.identity.set_conn(Some(conn));
        if let Some(old) = old {
            self.conns.remove(&old);
        }
        self.conns.insert(conn, node);
        old
    }

    /// Takes a member out, as if it had never been there.
    pub fn remove(&mut self, node: NodeId) {
        if let Some(conn) = self.members.remove(&node).and_then(|m| m.identity.conn()) {
            self.conns.remove(&conn);
        }
    }

    /// A member's connection is gone: whose was it?
    pub fn hang_up(&mut self, conn: Conn) -> Option<NodeId> {
        let node = self.conns.remove(&conn)?;
        self.members.get_mut(&node)?.identity.set_conn(None);
        Some(node)
    }

    /// Whose connection this is.
    #[must_use]
    pub fn by_conn(&self, conn: Conn) -> Option<NodeId> {
        self.conns.get(&conn).copied()
    }

    /// A member by its number.
    #[must_use]
    pub fn get(&self, node: NodeId) -> Option<&Member> {
        self.members.get(&node)
    }

    /// A member by its number, to change it.
    pub fn get_mut(&mut self, node: NodeId) -> Option<&mut Member> {
        self.members.get_mut(&node)
    }

    /// Every member but the root, to change it.
    pub fn nodes_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        self.members.values_mut().filter(|m| m.node() != NodeId::ROOT)
    }

    /// Every member, the root first.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// Every member but the root.
    pub fn nodes(&self) -> impl Iterator<Item = &Member> {
        self.members.values().filter(|m| m.node() != NodeId::ROOT)
    }

    /// The number of members besides the root.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.members.len().saturating_sub(1) as u32
    }

    /// Whether there is nobody besides the root.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
