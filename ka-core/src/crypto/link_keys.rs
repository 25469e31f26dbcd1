//! The keys of data links: what the two ends of one have in common, and nobody else but the coordinator.
//!
//! ```text
//!   the session's secret ──node──▶ that node's own key ──child──▶ the key of one link
//!      coordinator                   its Welcome                   the child's View; its parent makes it
//! ```
//!
//! So a node can tell apart by their keys all those that it may have to feed, whoever they will be, and can
//! pose as none of them to anybody else: it has no other node's own key, and of the keys of links to others
//! only that of the one to its present parent.
//!
//! Certificates of nodes would cost each link a signature, and the protocol a list of nodes.
//!
//! Absent: what the keys are used for. That is `net`'s.

use core::fmt;

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::types::NodeId;

/// One of the keys above. As a message it is its 32 bytes.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop, Serialize, Deserialize)]
pub struct LinkKey([u8; 32]);

impl LinkKey {
    /// A session's secret: random bytes, made for this session.
    #[must_use]
    pub fn new(secret: [u8; 32]) -> Self {
        Self(secret)
    }

    /// Of a session's secret: this node's own key.
    #[must_use]
    pub fn of_node(&self, node: NodeId) -> Self {
        self.derive("ka 1 a node's data links", node)
    }

    /// Of a node's own key: the key of the link to this child.
    #[must_use]
    pub fn of_child(&self, child: NodeId) -> Self {
        self.derive("ka 1 data link", child)
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn derive(&self, context: &str, node: NodeId) -> Self {
        let mut material = Zeroizing::new([0; 36]);
        material[..32].copy_from_slice(&self.0);
        material[32..].copy_from_slice(&node.0.to_le_bytes());
        Self(blake3::derive_key(context, material.as_slice()))
    }
}

/// Shows no secret.
impl fmt::Debug for LinkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn every_link_has_a_key_of_its_own() {
        let [session, other] = [1, 2].map(|n| LinkKey::new([n; 32]));
        let numbers = [0, 1, 2, 3, 1 << 24].map(NodeId);
        let own = |of: &LinkKey| numbers.map(|n| of.of_node(n));
        let mut all: Vec<_> = [own(&session), own(&other)].concat();
        for node in all.clone() {
            all.extend(numbers.map(|child| node.of_child(child)));
        }
        all.extend(numbers.map(|n| session.of_child(n)));
        for (i, key) in all.iter().enumerate() {
            assert!(!all[..i].contains(key), "number {i} is another one's");
        }
        assert_eq!(session.of_node(NodeId(3)).of_child(NodeId(7)), own(&session)[3].of_child(NodeId(7)));
    }

    #[test]
    fn a_key_shows_itself_to_nobody_by_accident() {
        assert_eq!(alloc::format!("{:?}", LinkKey::new([7; 32])), "LinkKey(..)");
    }

    #[test]
    fn a_key_is_its_bytes_in_a_message() {
        let (key, bytes) = (LinkKey::new([7; 32]), [7; 32]);
        assert_eq!(key.bytes(), &bytes);
        assert_eq!(crate::wire::codec::encode_control(&key).unwrap(), bytes);
        assert_eq!(crate::wire::codec::decode_control(&bytes), Ok(key));
    }
}
