//! The result of a handshake: the keys of a connection, and how many messages went each way.
//!
//! Messages are sealed with their number for nonce: one that was changed or repeated on its way is not
//! opened, and nothing is after one that was left out.

use std::sync::Arc;

use snow::{HandshakeState, StatelessTransportState};

use crate::wire::TAG_BYTES;

/// Why a message is not acted on that cannot be opened.
pub(crate) const CHANGED: &str = "somebody has changed a message on its way";

/// The keys of a connection, and how many messages went each way.
pub(crate) struct Cipher(Sealing, Opening);

impl Cipher {
    /// Takes the keys from a handshake that came to its end.
    pub(crate) fn new(state: HandshakeState) -> Result<Self, snow::Error> {
        let keys = Arc::new(state.into_stateless_transport_mode()?);
        Ok(Self(Sealing { keys: Arc::clone(&keys), sent: 0 }, Opening { keys, received: 0 }))
    }

    pub(crate) fn sealing(&mut self) -> &mut Sealing {
        &mut self.0
    }

    pub(crate) fn opening(&mut self) -> &mut Opening {
        &mut self.1
    }

    pub(crate) fn split(self) -> (Sealing, Opening) {
        (self.0, self.1)
    }
}

/// The sending half.
pub(crate) struct Sealing {
    keys: Arc<StatelessTransportState>,
    sent: u64,
}

impl Sealing {
    /// The message as it goes over the network; `None` if it is too long.
    pub(crate) fn seal(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        let mut sealed = vec![0; message.len() + TAG_BYTES];
        self.keys.write_message(self.sent, message, &mut sealed).ok()?;
        self.sent += 1;
        Some(sealed)
    }
}

/// The receiving half.
pub(crate) struct Opening {
    keys: Arc<StatelessTransportState>,
    received: u64,
}

impl Opening {
    /// The message that was sealed; `None` if it is not the one that the other side sent next.
    pub(crate) fn open(&mut self, sealed: &[u8]) -> Option<Vec<u8>> {
        let mut message = vec![0; sealed.len().checked_sub(TAG_BYTES)?];
        self.keys.read_message(self.received, sealed, &mut message).ok()?;
        self.received += 1;
        Some(message)
    }
}
