//! The only file that knows bincode: values to bytes and back, with a limit per class of message.
//!
//! Fixed-width little-endian integers, so that `PROTOCOL.md` can describe the bytes. A value that does not
//! fill its bytes exactly is refused.

use alloc::vec::Vec;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::malformed::Malformed;
use crate::limits;

macro_rules! codec {
    ($encode:ident, $decode:ident, $limit:expr, $what:literal) => {
        #[doc = concat!("The bytes of ", $what, ".\n\n# Errors\n[`Malformed::TooLong`] above the limit of its class.")]
        pub fn $encode<T: Serialize>(value: &T) -> Result<Vec<u8>, Malformed> {
            let config = bincode::config::standard()
                .with_fixed_int_encoding()
                .with_little_endian()
                .with_limit::<{ $limit }>();
            let bytes = bincode::serde::encode_to_vec(value, config).map_err(|_| Malformed::Content)?;
            if bytes.len() > $limit { Err(Malformed::TooLong) } else { Ok(bytes) }
        }

        #[doc = concat!("Reads ", $what, ".\n\n# Errors\n[`Malformed`] unless the bytes are exactly one value within the limit of its class.")]
        pub fn $decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Malformed> {
            if bytes.len() > $limit {
                return Err(Malformed::TooLong);
            }
            let config = bincode::config::standard()
                .with_fixed_int_encoding()
                .with_little_endian()
                .with_limit::<{ $limit }>();
            match bincode::serde::decode_from_slice(bytes, config) {
                Ok((value, used)) if used == bytes.len() => Ok(value),
                _ => Err(Malformed::Content),
            }
        }
    };
}

codec!(encode_control, decode_control, limits::CONTROL_BYTES, "a control message");
codec!(encode_statement, decode_statement, limits::STATEMENT_BYTES, "a statement");
codec!(encode_discovery, decode_discovery, limits::DISCOVERY_BYTES, "a discovery datagram");

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    #[test]
    fn a_length_that_lies_is_an_error_and_no_allocation() {
        let huge = (1u64 << 62).to_le_bytes();
        assert_eq!(decode_control::<Vec<u8>>(&huge), Err(Malformed::Content));
        assert_eq!(decode_control::<String>(&huge), Err(Malformed::Content));
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let mut bytes = encode_control(&7u32).unwrap();
        assert_eq!(decode_control::<u32>(&bytes), Ok(7));
        bytes.push(0);
        assert_eq!(decode_control::<u32>(&bytes), Err(Malformed::Content));
    }
}
