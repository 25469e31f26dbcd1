//! Why nobody reads along: the payload is encrypted once, where it is read, and opened where it is written.
//!
//! ```text
//!   source ─▶ ⊕ keystream ─▶ hashed, signed, relayed as it is by every node … ─▶ ⊕ keystream ─▶ sink
//! ```
//!
//! A stream cipher, a key for each stream and purpose, and a place on the keystream for each byte of the stream: no
//! byte is added, so that offsets are those of the payload, and any part can be encrypted or opened alone. Whether the
//! bytes are the true ones is not this file's business: the hash that the server signed is that of the encrypted
//! ones (see [`tape::chain`](crate::tape::chain)), so a tag of the cipher's own would say the same once more.
//!
//! All nodes of a session have its key. What keeps it from others is the connection on which they get it.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use chacha20::ChaCha20Legacy;
use ctr::Ctr64BE;
use ctr::cipher::{KeyIvInit, StreamCipher, StreamCipherSeek};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// The encryption of a session's payload.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub enum PayloadKey {
    /// No encryption.
    Plain,
    /// AES-256 in counter mode: the fastest where the processor has instructions for it.
    Aes256([u8; 32]),
    /// ChaCha20 (the variant with a counter of 64 bits): the fastest elsewhere.
    ChaCha20([u8; 32]),
}

/// A part of a stream that is encrypted; each part has a key of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Its bytes.
    Bytes,
    /// The description at its beginning.
    Begin,
    /// The statement about it at its end.
    End,
}

impl PayloadKey {
    /// Whether it keeps anything from anybody.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        matches!(self, Self::Plain)
    }

    /// The keystream of a part of the stream with this number; `None` if nothing is encrypted.
    #[must_use]
    pub fn keystream(&self, stream: u32, part: Part) -> Option<Keystream> {
        let context = match part {
            Part::Bytes => "ka 1 bytes of a stream",
            Part::Begin => "ka 1 beginning of a stream",
            Part::End => "ka 1 end of a stream",
        };
        let key = |secret: &[u8; 32]| {
            let mut hasher = blake3::Hasher::new_derive_key(context);
            hasher.update(secret).update(&stream.to_le_bytes());
            Zeroizing::new(*hasher.finalize().as_bytes())
        };
        // The key is used for one part of one stream only, so the nonce may always be the same.
        Some(Keystream(match self {
            Self::Plain => return None,
            Self::Aes256(secret) => {
                Cipher::Aes256(Box::new(Ctr64BE::new((&*key(secret)).into(), &[0; 16].into())))
            }
            Self::ChaCha20(secret) => {
                Cipher::ChaCha20(ChaCha20Legacy::new((&*key(secret)).into(), &[0; 8].into()))
            }
        }))
    }

    /// Words about a stream, encrypted or opened.
    #[must_use]
    pub fn words(&self, stream: u32, part: Part, mut words: Vec<u8>) -> Vec<u8> {
        if let Some(mut keystream) = self.keystream(stream, part) {
            keystream.apply(&mut words);
        }
        words
    }
}

/// Shows no secret.
impl fmt::Debug for PayloadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "PayloadKey::Plain",
            Self::Aes256(_) => "PayloadKey::Aes256(..)",
            Self::ChaCha20(_) => "PayloadKey::ChaCha20(..)",
        })
    }
}

/// A place on a keystream: what is applied next, twice at the same place, comes back as it was.
pub struct Keystream(Cipher);

enum Cipher {
    Aes256(Box<Ctr64BE<aes::Aes256>>),
    ChaCha20(ChaCha20Legacy),
}

impl Keystream {
    /// Goes to byte number `offset` of the part.
    pub fn seek(&mut self, offset: u64) {
        match &mut self.0 {
            Cipher::Aes256(cipher) => cipher.seek(offset),
            Cipher::ChaCha20(cipher) => cipher.seek(offset),
        }
    }

    /// Encrypts or opens the next bytes.
    pub fn apply(&mut self, bytes: &mut [u8]) {
        match &mut self.0 {
            Cipher::Aes256(cipher) => cipher.apply_keystream(bytes),
            Cipher::ChaCha20(cipher) => cipher.apply_keystream(bytes),
        }
    }

    /// Encrypts or opens the next bytes into a place as long as they are.
    ///
    /// # Panics
    /// If it is not.
    pub fn apply_to(&mut self, from: &[u8], to: &mut [u8]) {
        match &mut self.0 {
            Cipher::Aes256(cipher) => cipher.apply_keystream_b2b(from, to),
            Cipher::ChaCha20(cipher) => cipher.apply_keystream_b2b(from, to),
        }
    }
}

impl fmt::Debug for Keystream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keystream(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    fn any_key() -> impl Strategy<Value = PayloadKey> {
        (any::<[u8; 32]>(), any::<bool>()).prop_map(|(secret, aes)| {
            if aes { PayloadKey::Aes256(secret) } else { PayloadKey::ChaCha20(secret) }
        })
    }

    proptest! {
        #[test]
        fn any_part_opens_alone_however_it_was_cut(
            key in any_key(), bytes in prop::collection::vec(any::<u8>(), 0..5000), cuts in prop::collection::vec(0..5000_usize, 0..4)
        ) {
            let keystream = || key.keystream(3, Part::Bytes).unwrap();
            let mut whole = bytes.clone();
            keystream().apply(&mut whole);
            let mut cuts: Vec<_> = cuts.into_iter().map(|c| c.min(bytes.len())).chain([0, bytes.len()]).collect();
            cuts.sort_unstable();
            let mut going_on = keystream();
            for cut in cuts.windows(2) {
                let part = cut[0]..cut[1];
                let mut sealed = vec![0; part.len()];
                going_on.apply_to(&bytes[part.clone()], &mut sealed);
                prop_assert_eq!(&sealed, &whole[part.clone()]);
                let mut alone = keystream();
                alone.seek(cut[0] as u64);
                alone.apply(&mut sealed);
                prop_assert_eq!(&sealed, &bytes[part]);
            }
        }
    }

    #[test]
    fn every_stream_part_and_secret_has_a_key_of_its_own() {
        let mut seen = Vec::new();
        for key in
            [[1; 32], [2; 32]].into_iter().flat_map(|s| [PayloadKey::Aes256(s), PayloadKey::ChaCha20(s)])
        {
            for (stream, part) in [(0, Part::Bytes), (1, Part::Bytes), (0, Part::Begin), (0, Part::End)] {
                let words = key.words(stream, part, vec![0; 64]);
                assert!(!seen.contains(&words));
                seen.push(words);
            }
        }
    }

    #[test]
    fn a_place_beyond_four_gibibytes_of_blocks_is_another_one() {
        for key in [PayloadKey::Aes256([1; 32]), PayloadKey::ChaCha20([1; 32])] {
            let at = |offset| {
                let (mut keystream, mut bytes) = (key.keystream(0, Part::Bytes).unwrap(), [0; 32]);
                keystream.seek(offset);
                keystream.apply(&mut bytes);
                bytes
            };
            assert_ne!(at(0), at(1 << 38));
            assert_ne!(at(0), at(1 << 36));
        }
    }

    #[test]
    fn a_plain_session_encrypts_nothing_and_no_key_shows_itself() {
        assert_eq!(PayloadKey::Plain.words(0, Part::Begin, b"name".to_vec()), b"name");
        assert!(PayloadKey::Plain.keystream(0, Part::Bytes).is_none());
        let shown = alloc::format!("{:?} {:?}", PayloadKey::Aes256([7; 32]), PayloadKey::ChaCha20([7; 32]));
        assert!(!shown.contains('7'));
    }
}
