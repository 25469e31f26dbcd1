//! The key: one short string that lets a node into a session, and tells it which server to believe.
//!
//! ```text
//!   key     = ten groups of five characters, such as  7t3xk-0p9vd-…
//!   group   = four characters of secret (20 bits), one that checks them and the group's place
//!   secret  = token (96 bits) ‖ pin (104 bits)
//! ```
//!
//! The *token* is what a session's nodes and its server have in common. Who sees a session's datagrams may try tokens
//! on them without asking anybody, so it has as many bits as that takes. The *pin* is the beginning of a hash of the
//! server's public key: a node that holds the token still cannot pose as the server.
//!
//! Absent: where keys are kept and how they get to a node. That is the application's.

use alloc::string::String;
use core::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Bytes of a token.
const TOKEN_BYTES: usize = 12;

/// Bytes of a pin.
const PIN_BYTES: usize = 13;

/// Bytes of a key.
const KEY_BYTES: usize = TOKEN_BYTES + PIN_BYTES;

/// Groups of a key, and characters of one.
const GROUPS: usize = 10;
const GROUP_CHARS: usize = 5;

/// No letter looks like a digit: there is no `i`, `l`, `o` or `u`.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// The credential that lets a node in.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Key {
    token: [u8; TOKEN_BYTES],
    /// `None`: no server in particular is believed.
    pin: Option<[u8; PIN_BYTES]>,
}

impl Key {
    /// The key of sessions without one: everybody has it, and it tells no server from another.
    #[must_use]
    pub fn insecure() -> Self {
        Self { token: [0; TOKEN_BYTES], pin: None }
    }

    /// The key of the server with this public key, for those who are told this token.
    #[must_use]
    pub fn new(token: [u8; TOKEN_BYTES], public: &[u8; 32]) -> Self {
        Self { token, pin: Some(pin(public)) }
    }

    /// Reads a key as [`text`](Self::text) writes it. Capital letters, blanks, and any or no hyphens do not matter, and
    /// neither does `o` for `0`, or `i` and `l` for `1`.
    ///
    /// # Errors
    /// [`KeyError`] says what is wrong and where, and never what was read.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let mut symbols = Zeroizing::new([0; GROUPS * GROUP_CHARS]);
        let mut count = 0;
        for c in text.chars().filter(|c| *c != '-' && !c.is_whitespace()) {
            let symbol = symbol(c).ok_or(KeyError::Character(count / GROUP_CHARS + 1, c))?;
            if let Some(place) = symbols.get_mut(count) {
                *place = symbol;
            }
            count += 1;
        }
        if count != symbols.len() {
            return Err(KeyError::Length(count));
        }
        let mut bits = Zeroizing::new([0_u8; KEY_BYTES]);
        for (number, group) in symbols.chunks_exact(GROUP_CHARS).enumerate() {
            let (secret, check) = group.split_at(GROUP_CHARS - 1);
            if check_of(number, secret) != check[0] {
                return Err(KeyError::Mistyped(number + 1));
            }
            for (i, symbol) in secret.iter().enumerate() {
                put(bits.as_mut_slice(), (number * (GROUP_CHARS - 1) + i) * 5, *symbol);
            }
        }
        let (token, pin) = bits.split_at(TOKEN_BYTES);
        let mut key = Self { token: [0; TOKEN_BYTES], pin: Some([0; PIN_BYTES]) };
        key.token.copy_from_slice(token);
        key.pin.as_mut().into_iter().for_each(|p| p.copy_from_slice(pin));
        Ok(key)
    }

    /// The key as a person types it; `None` if it is [insecure](Self::insecure).
    #[must_use]
    pub fn text(&self) -> Option<Zeroizing<String>> {
        let mut bits = Zeroizing::new([0; KEY_BYTES]);
        let (token, pin) = bits.split_at_mut(TOKEN_BYTES);
        token.copy_from_slice(&self.token);
        pin.copy_from_slice(&self.pin?);
        let mut text = Zeroizing::new(String::with_capacity(GROUPS * (GROUP_CHARS + 1)));
        for number in 0..GROUPS {
            let at = |i| take(bits.as_slice(), (number * (GROUP_CHARS - 1) + i) * 5);
            let secret = Zeroizing::new([at(0), at(1), at(2), at(3)]);
            if number > 0 {
                text.push('-');
            }
            let check = check_of(number, secret.as_slice());
            text.extend(secret.iter().chain([&check]).map(|s| char::from(ALPHABET[usize::from(*s)])));
        }
        Some(text)
    }

    /// Whether it tells servers from each other, and members from strangers.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.pin.is_some()
    }

    /// Whether a server with this public key is the one to believe.
    #[must_use]
    pub fn pins(&self, public: &[u8; 32]) -> bool {
        self.pin.is_none_or(|own| own == pin(public))
    }

    /// A secret for one purpose, which `context` names, and for what it is about.
    #[must_use]
    pub fn derive(&self, context: &str, about: &[u8]) -> Zeroizing<[u8; 32]> {
        let mut hasher = blake3::Hasher::new_derive_key(context);
        hasher.update(&self.token);
        hasher.update(about);
        Zeroizing::new(*hasher.finalize().as_bytes())
    }
}

/// Shows no secret.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_secure() { "Key(..)" } else { "Key(insecure)" })
    }
}

fn pin(public: &[u8; 32]) -> [u8; PIN_BYTES] {
    let hash = blake3::derive_key("ka 1 pin of a server's public key", public);
    let mut pin = [0; PIN_BYTES];
    pin.copy_from_slice(&hash[..PIN_BYTES]);
    pin
}

/// The defect of a key. It never shows the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// In this group, counted from 1, is this character, which no key has.
    Character(usize, char),
    /// The key has so many characters.
    Length(usize),
    /// This group, counted from 1, is not what was printed.
    Mistyped(usize),
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Character(group, c) => {
                write!(f, "the key is mistyped: group {group} has the character {c:?}, which no key has")
            }
            Self::Length(count) => write!(
                f,
                "the key is incomplete or too long: it has {count} characters, not {GROUPS} groups of {GROUP_CHARS}"
            ),
            Self::Mistyped(group) => write!(f, "the key is mistyped in group {group} of {GROUPS}"),
        }
    }
}

impl core::error::Error for KeyError {}

fn symbol(c: char) -> Option<u8> {
    let c = match c.to_ascii_lowercase() {
        'o' => '0',
        'i' | 'l' => '1',
        c => c,
    };
    ALPHABET.iter().position(|a| char::from(*a) == c).map(|at| at as u8)
}

/// The five bits that begin at bit `at`.
fn take(bytes: &[u8], at: usize) -> u8 {
    (0..5).fold(0, |symbol, i| symbol << 1 | (bytes[(at + i) / 8] >> (7 - (at + i) % 8) & 1))
}

fn put(bytes: &mut [u8], at: usize, symbol: u8) {
    (0..5).for_each(|i| bytes[(at + i) / 8] |= (symbol >> (4 - i) & 1) << (7 - (at + i) % 8));
}

/// A checksum over GF(32): each place has another weight, so that one wrong character, two that changed places, and a
/// group at another one's place are all seen.
fn check_of(number: usize, group: &[u8]) -> u8 {
    group.iter().fold(number as u8 + 1, |sum, symbol| times_x(sum ^ symbol))
}

/// Times x, modulo x⁵ + x² + 1.
fn times_x(a: u8) -> u8 {
    let a = a << 1;
    if a & 0x20 == 0 { a } else { a ^ 0x25 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn any_key() -> impl Strategy<Value = Key> {
        (any::<[u8; TOKEN_BYTES]>(), any::<[u8; 32]>()).prop_map(|(token, public)| Key::new(token, &public))
    }

    proptest! {
        #[test]
        fn a_key_comes_back_however_it_is_typed(key in any_key()) {
            let text = key.text().unwrap();
            prop_assert_eq!(text.len(), 59);
            prop_assert_eq!(Key::parse(&text), Ok(key.clone()));
            let typed = text.to_uppercase().replace('-', "  ").replace('0', "o").replace('1', "L");
            prop_assert_eq!(Key::parse(&typed), Ok(key));
        }

        #[test]
        fn a_slip_is_found_and_its_group_is_named(
            key in any_key(), group in 0..GROUPS, place in 0..GROUP_CHARS, other in 1..32_u8, swap: bool
        ) {
            let mut text = key.text().unwrap().as_bytes().to_vec();
            let at = group * (GROUP_CHARS + 1) + place;
            if swap {
                prop_assume!(place > 0 && text[at] != text[at - 1]);
                text.swap(at, at - 1);
            } else {
                let right = symbol(text[at].into()).unwrap();
                text[at] = ALPHABET[usize::from((right + other) % 32)];
            }
            let text = core::str::from_utf8(&text).unwrap();
            prop_assert_eq!(Key::parse(text), Err(KeyError::Mistyped(group + 1)));
        }
    }

    #[test]
    fn groups_that_changed_places_are_found() {
        let key = Key::new([7; TOKEN_BYTES], &[9; 32]);
        let text = key.text().unwrap().to_string();
        let mut groups: Vec<_> = text.split('-').collect();
        groups.swap(2, 3);
        assert_eq!(Key::parse(&groups.join("-")), Err(KeyError::Mistyped(3)));
    }

    #[test]
    fn what_is_no_key_is_said_in_words() {
        for (text, words) in [
            ("", "the key is incomplete or too long: it has 0 characters, not 10 groups of 5"),
            ("00001-ab", "the key is incomplete or too long: it has 7 characters, not 10 groups of 5"),
            ("0000?", "the key is mistyped: group 1 has the character '?', which no key has"),
        ] {
            assert_eq!(Key::parse(text).unwrap_err().to_string(), words);
        }
    }

    #[test]
    fn a_key_shows_itself_to_nobody_by_accident() {
        let key = Key::new([7; TOKEN_BYTES], &[9; 32]);
        assert_eq!(alloc::format!("{key:?} {:?}", Key::insecure()), "Key(..) Key(insecure)");
    }

    #[test]
    fn a_pin_tells_servers_apart() {
        let key = Key::new([7; TOKEN_BYTES], &[9; 32]);
        assert!(key.pins(&[9; 32]) && !key.pins(&[8; 32]) && Key::insecure().pins(&[8; 32]));
        assert_ne!(key.derive("a", b""), key.derive("b", b""));
        assert_ne!(key.derive("a", b"x"), key.derive("a", b"y"));
    }
}
