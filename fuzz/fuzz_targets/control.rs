//! Control messages, both directions, and the preface before them: whatever comes, an error or a value that
//! encodes to the same bytes.
#![no_main]

use ka_core::wire::codec::{decode_control, encode_control};
use ka_core::wire::control::{ToCoordinator, ToNode};
use ka_core::wire::{Plane, check_preface};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(message) = decode_control::<ToCoordinator>(bytes) {
        assert_eq!(encode_control(&message).as_deref(), Ok(bytes));
    }
    if let Ok(message) = decode_control::<ToNode>(bytes) {
        assert_eq!(encode_control(&message).as_deref(), Ok(bytes));
    }
    if let Some(preface) = bytes.first_chunk() {
        let _ = check_preface(Plane::Control, preface);
        let _ = check_preface(Plane::Data, preface);
    }
});
