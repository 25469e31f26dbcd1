//! Discovery datagrams: questions, answers, and what strangers are told.
#![no_main]

use ka_core::limits::DISCOVERY_BYTES;
use ka_core::wire::discovery::{
    decode_answer, decode_question, decode_stranger, encode_answer, encode_question, encode_stranger,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(question) = decode_question(bytes) {
        let again = encode_question(&question);
        assert_eq!(again.len(), DISCOVERY_BYTES);
        assert_eq!(decode_question(&again), Ok(question));
    }
    if let Ok(answer) = decode_answer(bytes) {
        assert_eq!(decode_answer(&encode_answer(&answer)), Ok(answer));
    }
    if let Ok(stranger) = decode_stranger(bytes) {
        assert_eq!(decode_stranger(&encode_stranger(&stranger)), Ok(stranger));
    }
});
