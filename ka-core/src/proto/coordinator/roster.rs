//! The members of the session, by number and by connection.

use alloc::collections::{BTreeMap, BTreeSet};

use super::member::{Conn, Member};
use crate::types::NodeId;

/// The members of a session by number, and by connection.
///
/// The root is always there. A node that left before the start is taken out, and its number is not given again.
#[derive(Debug, Default)]
pub struct Roster {
    members: BTreeMap<NodeId, Member>,
    conns: BTreeMap<Conn, NodeId>,
    /// Every member but the root, by what it calls itself.
    incarnations: BTreeSet<(u64, NodeId)>,
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
        if member.node() != NodeId::ROOT {
            self.incarnations.insert((member.incarnation(), member.node()));
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
        let Some(member) = self.members.remove(&node) else { return };
        self.incarnations.remove(&(member.incarnation(), node));
        if let Some(conn) = member.identity.conn() {
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

    /// The number of the node of this incarnation; the first, if several call themselves by it.
    #[must_use]
    pub fn by_incarnation(&self, incarnation: u64) -> Option<NodeId> {
        let of_it = (incarnation, NodeId::ROOT)..=(incarnation, NodeId(u32::MAX));
        self.incarnations.range(of_it).next().map(|(_, node)| *node)
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

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use alloc::vec::Vec;
    use core::net::{IpAddr, Ipv4Addr, SocketAddr};

    use super::super::member::Identity;
    use super::*;
    use crate::time::Instant;

    #[test]
    fn a_node_is_found_by_its_incarnation_as_long_as_it_is_in() {
        let mut roster = Roster::default();
        let member = |incarnation| {
            move |node: NodeId| {
                let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
                let identity = Identity::new(Instant::ZERO, node, Conn(node.0), SocketAddr::new(ip, 1), ip);
                let identity = identity.described(String::new(), Vec::new(), incarnation, false, false);
                Member::new(Instant::ZERO, identity)
            }
        };
        roster.add(member(0));
        let [first, second, other] = [7, 7, 8].map(|incarnation| roster.add(member(incarnation)));
        assert_eq!(roster.by_incarnation(0), None, "the root");
        assert_eq!([7, 8, 9].map(|n| roster.by_incarnation(n)), [Some(first), Some(other), None]);
        roster.remove(first);
        assert_eq!(roster.by_incarnation(7), Some(second));
        roster.remove(second);
        assert!(roster.by_incarnation(7).is_none() && roster.restore(member(7)(second)));
        assert_eq!(roster.by_incarnation(7), Some(second));
    }
}
