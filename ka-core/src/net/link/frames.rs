//! The messages that the ends of a data link exchange beside the tape: sealed, unless the session is insecure.
//!
//! ```text
//!   insecure:  preface ‖ Attach ─▶   ◀─ preface | refusing preface ‖ Refuse    Grant ─▶   ◀─ Beat
//!   secure:    (`pairing`) Attach ═▶   ◀═ Beat | Refuse                        Grant ═▶   ◀═ Beat
//! ```
//!
//! The tape itself needs no seal but its own: statements are signed, and blocks are hashed in them. In a secure session a
//! tag behind each item shows that the parent has sent this, here. So what somebody has changed on its way is not held
//! against the parent.

use std::borrow::Cow;

use bytes::Bytes;

use crate::net::noise::link::Keys;
use crate::net::noise::tags::Tag;
use crate::tape::chain::{self, Hash};
use crate::wire::data::{Header, Kind, Refuse};
use crate::wire::{self, Plane, TAG_BYTES};

/// One end's words, in the order in which they are said and heard.
pub(crate) struct Words(Option<Keys>);

impl Words {
    /// An insecure session's.
    pub(crate) fn open() -> Self {
        Self(None)
    }

    /// Those of two who have proved themselves to each other.
    pub(crate) fn sealed(keys: Keys) -> Self {
        Self(Some(keys))
    }

    /// The frame that says this.
    pub(crate) fn say(&mut self, kind: Kind, said: &[u8]) -> Vec<u8> {
        // What is said is far shorter than what cannot be sealed.
        let sealed = self.0.as_mut().map(|keys| keys.cipher.sealing().seal(said).unwrap_or_default());
        let body = sealed.as_deref().unwrap_or(said);
        [&Header { kind, len: body.len() }.encode()[..], body].concat()
    }

    /// The message of the other end in the body of a frame; `None` if that is not the message that it sent next.
    pub(crate) fn hear<'a>(&mut self, body: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        match &mut self.0 {
            Some(keys) => keys.cipher.opening().open(body).map(Cow::Owned),
            None => Some(Cow::Borrowed(body)),
        }
    }

    /// The length of the body of a frame with a message of so many bytes.
    pub(crate) fn body_bytes(&self, said: usize) -> usize {
        if self.0.is_some() { said + TAG_BYTES } else { said }
    }

    /// Whether what comes is known to be from the other end.
    pub(crate) fn are_sealed(&self) -> bool {
        self.0.is_some()
    }

    /// The tag behind the next item that goes to a child, whose frame has this header; none in an insecure session.
    pub(crate) fn tag(&mut self, header: Header, hash: &Hash) -> Option<Tag> {
        self.0.as_mut().map(|keys| keys.tags.next(header.encode(), hash))
    }

    /// The body of the item in a frame, and its hash; `None` if that is not what the parent sent next.
    pub(crate) fn item(&mut self, kind: Kind, mut body: Bytes) -> Option<(Bytes, Hash)> {
        let header = Header { kind, len: body.len() };
        let tag = match &self.0 {
            Some(_) => body.split_off(body.len().checked_sub(TAG_BYTES)?),
            None => Bytes::new(),
        };
        let hash = chain::hash(&body);
        // Who guesses has one attempt: the next connection has another key.
        self.tag(header, &hash).is_none_or(|true_tag| true_tag[..] == tag[..]).then_some((body, hash))
    }

    /// The first message of a parent to a child that it takes.
    pub(crate) fn accept(&mut self) -> Vec<u8> {
        match self.0 {
            Some(_) => self.say(Kind::Beat, &[]),
            None => wire::preface(Plane::Data).into(),
        }
    }

    /// The message of a parent to a child that it does not take.
    pub(crate) fn refuse(&mut self, why: &Refuse) -> Vec<u8> {
        let refusal = self.say(Kind::Refuse, &why.encode());
        match self.0 {
            Some(_) => refusal,
            None => [&wire::refusing_preface(Plane::Data)[..], &refusal].concat(),
        }
    }
}
