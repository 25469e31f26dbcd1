//! Frames of a data link: headers and the bodies that are decoded by hand.
#![no_main]

use ka_core::wire::data::{Attach, Grant, HEADER_BYTES, Header, Refuse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(header) = bytes.first_chunk::<HEADER_BYTES>()
        && let Ok(decoded) = Header::decode(*header)
    {
        assert_eq!(decoded.encode(), *header);
    }
    if let Ok(attach) = Attach::decode(bytes) {
        assert_eq!(attach.encode(), bytes);
    }
    if let Ok(grant) = Grant::decode(bytes) {
        assert_eq!(grant.encode(), bytes);
    }
    if let Ok(refuse) = Refuse::decode(bytes) {
        // Its words are made harmless, so that only what was read is read again.
        assert_eq!(Refuse::decode(&refuse.encode()), Ok(refuse));
    }
});
