//! Discovery datagrams: questions, answers, and what strangers are told.
#![no_main]

use ka_core::limits::DISCOVERY_BYTES;
use ka_core::types::SessionId;
use ka_core::wire::discovery::{
    Answer, Question, Stranger, decode_answer, decode_question, decode_stranger, encode_answer,
    encode_question, encode_stranger,
};
use ka_fuzz::begin_with;
use libfuzzer_sys::fuzz_target;

/// One of each: of their length, chance makes none.
fn seeds() -> [Vec<u8>; 4] {
    let (public, tag, session) = ([1; 32], [2; 32], SessionId([3; 16]));
    let asker = "10.0.0.1:7".parse().ok();
    let answer = Answer { public, server: [4; 32], session, control_port: 5, probing: true, tag };
    [
        encode_question(&Question { public, tag, asker }),
        encode_question(&Question { public, tag, asker: None }),
        encode_answer(&answer),
        encode_stranger(&Stranger { public, secure: true }),
    ]
}

fuzz_target!(init: begin_with(seeds()), |bytes: &[u8]| {
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
