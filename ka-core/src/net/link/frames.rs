//! The messages that the ends of a data link exchange beside the tape: sealed, unless the session is insecure.
//!
//! ```text
//!   insecure:  preface ‖ Attach ─▶   ◀─ preface | refusing preface ‖ Refuse    Grant ─▶   ◀─ Beat
//!   secure:    (`pairing`) Attach ═▶   ◀═ Beat | Refuse                        Grant ═▶   ◀═ Beat
//! ```
//!
//! The tape itself needs no seal but its own: statements are signed, and blocks are hashed in them.

use std::borrow::Cow;

use crate::net::noise::transport::Cipher;
use crate::wire::data::{Header, Kind, Refuse};
use crate::wire::{self, Plane, TAG_BYTES};

/// One end's words, in the order in which they are said and heard.
pub(crate) struct Words(Option<Cipher>);

impl Words {
    /// An insecure session's.
    pub(crate) fn open() -> Self {
        Self(None)
    }

    /// Those of two who have proved themselves to each other.
    pub(crate) fn sealed(cipher: Cipher) -> Self {
        Self(Some(cipher))
    }

    /// The frame that says this.
    pub(crate) fn say(&mut self, kind: Kind, said: &[u8]) -> Vec<u8> {
        // What is said is far shorter than what cannot be sealed.
        let sealed = self.0.as_mut().map(|cipher| cipher.sealing().seal(said).unwrap_or_default());
        let body = sealed.as_deref().unwrap_or(said);
        [&Header { kind, len: body.len() }.encode()[..], body].concat()
    }

    /// The message of the other end in the body of a frame; `None` if that is not the message that it sent next.
    pub(crate) fn hear<'a>(&mut self, body: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        match &mut self.0 {
            Some(cipher) => cipher.opening().open(body).map(Cow::Owned),
            None => Some(Cow::Borrowed(body)),
        }
    }

    /// The length of the body of a frame with a message of so many bytes.
    pub(crate) fn body_bytes(&self, said: usize) -> usize {
        if self.0.is_some() { said + TAG_BYTES } else { said }
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
