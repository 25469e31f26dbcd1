//! The nouns: small types that tell who is who, so that two bare integers never stand side by side.

use alloc::string::String;
use core::fmt;
use core::ops::{Add, AddAssign, Sub};

use serde::{Deserialize, Serialize};

use crate::limits;

/// A value that cannot be taken, such as a word of a command line: a sentence that says what is wrong, and what to write
/// instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid(String);

impl From<String> for Invalid {
    fn from(sentence: String) -> Self {
        Self(sentence)
    }
}

impl From<&str> for Invalid {
    fn from(sentence: &str) -> Self {
        Self(sentence.into())
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for Invalid {}

/// A place on the session's tape, in payload bytes from the first byte of the first stream.
///
/// The streams of a session lie end to end on one tape, so that window, credit and resumption know one
/// number only. The statements between the blocks (see [`tape::chain`](crate::tape::chain)) take no room on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Offset(pub u64);

impl Offset {
    /// The first byte.
    pub const ZERO: Self = Self(0);
}

impl Add<u64> for Offset {
    type Output = Self;
    fn add(self, bytes: u64) -> Self {
        Self(self.0.saturating_add(bytes))
    }
}

impl AddAssign<u64> for Offset {
    fn add_assign(&mut self, bytes: u64) {
        *self = *self + bytes;
    }
}

/// Bytes from one offset to another; zero when they stand the other way round.
impl Sub for Offset {
    type Output = u64;
    fn sub(self, other: Self) -> u64 {
        self.0.saturating_sub(other.0)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A place on the tape to resume at: how many items (blocks and statements) and how many bytes lie before it.
///
/// Every node holds the same items in the same order, so a position means the same everywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// Items before this place.
    pub item: u64,
    /// Payload bytes before this place.
    pub offset: Offset,
}

impl Position {
    /// The start of the tape.
    pub const START: Self = Self { item: 0, offset: Offset::ZERO };

    /// Behind every place: what somebody holds who is not there, and so needs nothing.
    pub const END: Self = Self { item: u64::MAX, offset: Offset(u64::MAX) };

    /// The place behind one more item of `bytes` payload bytes (a statement has none).
    #[must_use]
    pub fn after(self, bytes: u64) -> Self {
        Self { item: self.item + 1, offset: self.offset + bytes }
    }
}

/// The positions up to which the levels of a subtree hold the tape: its top node, the slowest of that node's children,
/// the slowest of theirs, and so on; [`Position::END`] where there is no node.
///
/// A node evicts a block only when every level of its children's watermarks is beyond it, so that a node that loses up
/// to [`limits::LOSSES`] ancestors at once finds what it lacks with the next one above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks(pub [Position; limits::LOSSES + 1]);

impl Watermarks {
    /// Every level at `at`: what must be assumed of a subtree that has not said anything.
    #[must_use]
    pub const fn all(at: Position) -> Self {
        Self([at; limits::LOSSES + 1])
    }

    /// A node that holds `at` and has nobody below it.
    #[must_use]
    pub const fn leaf(at: Position) -> Self {
        let mut watermarks = Self::all(Position::END);
        watermarks.0[0] = at;
        watermarks
    }

    /// The position of the top node.
    #[must_use]
    pub fn held(&self) -> Position {
        self.0[0]
    }

    /// The slowest of all levels.
    #[must_use]
    pub fn lowest(&self) -> Position {
        self.0.iter().fold(Position::END, |low, at| low.min(*at))
    }
}

/// A node of one session, numbered by the coordinator in the order of joining. The server's own node is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u32);

impl NodeId {
    /// The server's own node: the root of the tree, whose parent is the source.
    pub const ROOT: Self = Self(0);

    /// This node's place in a list that has one entry per node.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::ROOT { f.write_str("the server") } else { write!(f, "node {}", self.0) }
    }
}

/// The number of a view: who is whose parent. The coordinator counts it up; a lower one is ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(pub u32);

/// The number by which the caller of a state machine identifies one of its data links. Never sent over the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u32);

/// Sixteen random bytes that no other session has. Bound into every signature.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId(pub [u8; 16]);

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// The name under which nodes find a session: 1 to 64 bytes of printable text without control characters.
///
/// A server without a name is reached by its address only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SessionName(String);

impl SessionName {
    /// Takes `name` if it may be a session's name.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub fn new(name: impl Into<String>) -> Result<Self, BadName> {
        let name = name.into();
        if name.is_empty() {
            Err(BadName::Empty)
        } else if name.len() > limits::SESSION_NAME_BYTES {
            Err(BadName::TooLong(name.len()))
        } else if name.chars().any(char::is_control) {
            Err(BadName::Control)
        } else {
            Ok(Self(name))
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::str::FromStr for SessionName {
    type Err = BadName;
    fn from_str(s: &str) -> Result<Self, BadName> {
        Self::new(s)
    }
}

impl TryFrom<String> for SessionName {
    type Error = BadName;
    fn try_from(s: String) -> Result<Self, BadName> {
        Self::new(s)
    }
}

impl From<SessionName> for String {
    fn from(name: SessionName) -> Self {
        name.0
    }
}

/// Why some text cannot be a session's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BadName {
    /// The name has no characters.
    Empty,
    /// The name has this many bytes, more than [`limits::SESSION_NAME_BYTES`].
    TooLong(usize),
    /// The name has a control character.
    Control,
}

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a session name has at least one character"),
            Self::TooLong(n) => {
                write!(f, "a session name has at most {} bytes, this one has {n}", limits::SESSION_NAME_BYTES)
            }
            Self::Control => f.write_str("a session name has no control characters"),
        }
    }
}

impl core::error::Error for BadName {}

/// Characters other than controls that show as nothing, begin a line, or change how their neighbours are shown: general
/// categories Cf, Zl and Zp, and property `Default_Ignorable_Code_Point`. Ranges of Unicode 17.0's `UnicodeData.txt` and
/// `DerivedCoreProperties.txt`; some have room for what is assigned later.
const HIDDEN: [(char, char); 26] = [
    ('\u{ad}', '\u{ad}'),       // soft hyphen
    ('\u{34f}', '\u{34f}'),     // grapheme joiner
    ('\u{600}', '\u{605}'),     // Arabic number signs
    ('\u{61c}', '\u{61c}'),     // Arabic letter mark
    ('\u{6dd}', '\u{6dd}'),     // Arabic end of ayah
    ('\u{70f}', '\u{70f}'),     // Syriac abbreviation mark
    ('\u{890}', '\u{891}'),     // Arabic currency marks
    ('\u{8e2}', '\u{8e2}'),     // Arabic disputed end of ayah
    ('\u{115f}', '\u{1160}'),   // Hangul fillers
    ('\u{17b4}', '\u{17b5}'),   // Khmer inherent vowels
    ('\u{180b}', '\u{180f}'),   // Mongolian variation selectors and vowel separator
    ('\u{200b}', '\u{200f}'),   // zero width, joiners, directional marks
    ('\u{2028}', '\u{202e}'),   // line and paragraph separators, embeddings, overrides
    ('\u{2060}', '\u{206f}'),   // word joiner, invisible operators, isolates
    ('\u{3164}', '\u{3164}'),   // Hangul filler
    ('\u{fe00}', '\u{fe0f}'),   // variation selectors
    ('\u{feff}', '\u{feff}'),   // byte order mark
    ('\u{ffa0}', '\u{ffa0}'),   // halfwidth Hangul filler
    ('\u{fff0}', '\u{fffb}'),   // reserved, interlinear annotations
    ('\u{110bd}', '\u{110bd}'), // Kaithi number sign
    ('\u{110cd}', '\u{110cd}'), // Kaithi number sign above
    ('\u{13430}', '\u{1343f}'), // Egyptian format controls
    ('\u{1bca0}', '\u{1bca3}'), // shorthand format controls
    ('\u{1d173}', '\u{1d17a}'), // musical format controls
    ('\u{e0000}', '\u{e007f}'), // tags
    ('\u{e0080}', '\u{e0fff}'), // variation selectors, reserved
];

/// Whether a character could make a terminal or a log show something else than the text: a control character, or one that
/// is invisible, separates lines or changes the direction.
#[must_use]
pub fn is_hidden(c: char) -> bool {
    c.is_control() || HIDDEN.iter().any(|(first, last)| (*first..=*last).contains(&c))
}

/// Text from a peer, made fit for a terminal and a log: [hidden](is_hidden) characters escaped, at most `max` bytes.
#[must_use]
pub fn printable(text: &str, max: usize) -> String {
    const CUT: char = '…';
    let mut out = String::new();
    for c in text.chars() {
        let before = out.len();
        if is_hidden(c) {
            out.extend(c.escape_default())
        } else {
            out.push(c)
        }
        if out.len() > max {
            out.truncate(before);
            while out.len() + CUT.len_utf8() > max && out.pop().is_some() {}
            if out.len() + CUT.len_utf8() <= max {
                out.push(CUT);
            }
            break;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printable_text_has_nothing_hidden() {
        assert_eq!(printable("ok \u{1b}[31m", 64), "ok \\u{1b}[31m");
        // A name that ends in `gnp.exe`, a second line, three kinds of nothing, and what may stay.
        assert_eq!(printable("a\u{202e}exe.png", 64), "a\\u{202e}exe.png");
        assert_eq!(printable("a\u{2028}b\u{2029}c\u{85}d", 64), "a\\u{2028}b\\u{2029}c\\u{85}d");
        assert_eq!(printable("\u{200b}\u{e0041}\u{fe0f}", 64), "\\u{200b}\\u{e0041}\\u{fe0f}");
        for plain in ["größe", "e\u{301}", "日本", "שלום", "🎉", "a\u{a0}b"] {
            assert_eq!(printable(plain, 64), plain);
        }
    }

    /// The library's own table of what cannot be printed must know what ours has, but for fillers, which it takes for letters.
    #[test]
    fn what_is_hidden_is_what_cannot_be_printed() {
        let fillers = ['\u{115f}', '\u{1160}', '\u{3164}', '\u{ffa0}'];
        for c in ('\0'..=char::MAX).filter(|c| is_hidden(*c) && !fillers.contains(c)) {
            assert!(c.escape_debug().count() > 1, "{c:?}");
        }
        assert!(HIDDEN.is_sorted() && HIDDEN.iter().all(|(first, last)| first <= last));
    }
}
