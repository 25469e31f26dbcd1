//! A server's own key pair, and what it lets nodes in by.

use std::fmt;
use std::io;

use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::crypto::session_key::Key;

/// The first line of an identity as text.
const TITLE: &str = "ka server identity 1: keep it secret";

/// A server's X25519 key pair. Nodes know the server by it; whoever has it is the server.
#[derive(Clone)]
pub struct Identity {
    secret: StaticSecret,
    public: [u8; 32],
}

impl Identity {
    /// A new one.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn generate() -> io::Result<Self> {
        Ok(Self::new(random()?))
    }

    fn new(secret: [u8; 32]) -> Self {
        let secret = StaticSecret::from(secret);
        let public = PublicKey::from(&secret).to_bytes();
        Self { secret, public }
    }

    /// Reads one as [`text`](Self::text) writes it. `None` if it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (title, rest) = text.split_once('\n')?;
        let hex = rest.trim_end().as_bytes();
        if title != TITLE || hex.len() != 64 {
            return None;
        }
        let mut secret = Zeroizing::new([0; 32]);
        for (byte, pair) in secret.iter_mut().zip(hex.chunks_exact(2)) {
            let digit = |c: u8| char::from(c).to_digit(16);
            *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
        }
        Some(Self::new(*secret))
    }

    /// Two lines, to be kept where only the server's administrator can read them.
    #[must_use]
    pub fn text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(TITLE.len() + 66));
        text.push_str(TITLE);
        text.push('\n');
        for byte in self.secret.as_bytes() {
            for digit in [byte >> 4, byte & 15] {
                text.extend(char::from_digit(digit.into(), 16));
            }
        }
        text.push('\n');
        text
    }

    /// The public half, which nodes may know.
    #[must_use]
    pub fn public(&self) -> &[u8; 32] {
        &self.public
    }
}

/// Shows no secret.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(..)")
    }
}

/// The secrets by which a server lets nodes in: its identity, and the key it gives them.
#[derive(Clone, Debug)]
pub struct ServerKey {
    identity: Identity,
    key: Key,
}

impl ServerKey {
    /// A new identity, and a new key.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn generate() -> io::Result<Self> {
        Self::of(Identity::generate()?)
    }

    /// A new key for an identity that is kept.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn of(identity: Identity) -> io::Result<Self> {
        let key = Key::new(random()?, identity.public());
        Ok(Self { identity, key })
    }

    /// An identity and a key of it, both made before. `None` if the key is another server's.
    #[must_use]
    pub fn with(identity: Identity, key: Key) -> Option<Self> {
        (key.is_secure() && key.pins(identity.public())).then_some(Self { identity, key })
    }

    /// Everybody is let in, and everybody can pose as this server.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn insecure() -> io::Result<Self> {
        Ok(Self { identity: Identity::generate()?, key: Key::insecure() })
    }

    /// The key that its nodes must have.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The server's identity.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The secret half of its identity.
    pub(crate) fn secret(&self) -> &[u8; 32] {
        self.identity.secret.as_bytes()
    }

    /// The secret that the server shares with the owner of `public` and with nobody else (X25519).
    pub(crate) fn agree(&self, public: &[u8; 32]) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.identity.secret.diffie_hellman(&PublicKey::from(*public)).to_bytes())
    }
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_comes_back_from_its_text() {
        let identity = Identity::new([0xA5; 32]);
        let text = identity.text();
        let again = Identity::parse(&text).unwrap();
        assert_eq!((again.public(), &again.text()[..]), (identity.public(), &text[..]));
        for wrong in ["", "x\n", &text[..60], &text.replace("a5", "zz"), &text.replace("ka", "kb")] {
            assert!(Identity::parse(wrong).is_none(), "{wrong}");
        }
        assert_eq!(format!("{identity:?}"), "Identity(..)");
    }

    #[test]
    fn a_key_belongs_to_one_identity() {
        let [a, b] = [1, 2].map(|n| Identity::new([n; 32]));
        let key = ServerKey::of(a.clone()).unwrap().key().clone();
        assert!(ServerKey::with(a.clone(), key.clone()).is_some());
        assert!(ServerKey::with(b, key).is_none());
        assert!(ServerKey::with(a, Key::insecure()).is_none());
    }
}
