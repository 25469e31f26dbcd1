//! Tags of what is not sealed on a data link: by them a child knows what its parent has sent from what somebody on the way
//! has made of it.
//!
//! ```text
//!   key of one connection = derive(link's key ‖ hash of the handshake)
//!   tag of the nth item   = the first 16 bytes of keyed hash(n ‖ header ‖ hash of the body)
//! ```
//!
//! A block's hash is known at both ends, so a tag costs one compression of it, however long the block is. A tag that is
//! repeated, or of another connection, fits no other place.

use crate::crypto::link_keys::LinkKey;
use crate::tape::chain::Hash;
use crate::wire::TAG_BYTES;
use crate::wire::data::HEADER_BYTES;

/// A tag: as long as those of sealed messages.
pub(crate) type Tag = [u8; TAG_BYTES];

/// The tags of one connection, in the order of the items.
pub(crate) struct Tags {
    key: [u8; 32],
    next: u64,
}

impl Tags {
    /// Those of the connection whose handshake has this hash. Both sides' random keys are in it.
    pub(crate) fn new(key: &LinkKey, handshake: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("ka 1 tape on a data link");
        hasher.update(key.bytes()).update(handshake);
        Self { key: *hasher.finalize().as_bytes(), next: 0 }
    }

    /// The tag of the next item, whose frame begins with `header`, and whose body has this hash.
    pub(crate) fn next(&mut self, header: [u8; HEADER_BYTES], hash: &Hash) -> Tag {
        let mut said = [0; 8 + HEADER_BYTES + 32];
        said[..8].copy_from_slice(&self.next.to_le_bytes());
        said[8..8 + HEADER_BYTES].copy_from_slice(&header);
        said[8 + HEADER_BYTES..].copy_from_slice(hash);
        self.next += 1;
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(&blake3::keyed_hash(&self.key, &said).as_bytes()[..TAG_BYTES]);
        tag
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::NodeId;

    #[test]
    fn a_tag_is_that_of_one_place_on_one_connection() {
        let key = LinkKey::new([1; 32]);
        let other = key.of_child(NodeId(3));
        let (header, hash) = ([3, 0, 0, 0, 9, 0, 0, 0], [7; 32]);
        let tag =
            |key: &LinkKey, handshake: &[u8], header, hash| Tags::new(key, handshake).next(header, &hash);
        let mut tags = Tags::new(&key, b"one");
        let all = [
            tags.next(header, &hash),
            tags.next(header, &hash),
            tag(&other, b"one", header, hash),
            tag(&key, b"two", header, hash),
            tag(&key, b"one", [2, 0, 0, 0, 9, 0, 0, 0], hash),
            tag(&key, b"one", [3, 0, 0, 0, 8, 0, 0, 0], hash),
            tag(&key, b"one", header, [8; 32]),
        ];
        assert_eq!(all[0], tag(&key, b"one", header, hash));
        assert!((1..all.len()).all(|i| !all[..i].contains(&all[i])));
    }
}
