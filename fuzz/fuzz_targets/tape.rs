//! The tape: foreign statements and blocks before a checker, and statements that are rightly signed but make no
//! sense, which only a broken server could send.
#![no_main]

use ka_core::crypto::payload::PayloadKey;
use ka_core::tape::chain::{Checker, Sealer, Segment, Statement, StreamEnd, StreamInfo};
use ka_core::types::SessionId;
use libfuzzer_sys::fuzz_target;

const SESSION: SessionId = SessionId([3; 16]);

const KEY: PayloadKey = PayloadKey::Aes256([8; 32]);

fuzz_target!(|bytes: &[u8]| {
    let mut sealer = Sealer::new(SESSION, [9; 32], KEY);
    let Some(mut checker) = Checker::new(SESSION, &sealer.public_key(), KEY) else { return };
    let start = checker.position();
    assert!(checker.statement(bytes).is_err(), "nobody can forge a signature");
    assert!(checker.block(bytes).is_err(), "nothing was announced");
    assert_eq!(checker.position(), start);

    for (i, part) in bytes.chunks(5).enumerate() {
        let n = u64::from(part[0]);
        let statement = match part[0] % 5 {
            0 => Statement::Begin(StreamInfo {
                number: (i % 3) as u32,
                name: "x".repeat(part.len()),
                metadata: part.to_vec(),
                size: Some(n),
            }),
            1 => Statement::Segment(Segment {
                last_bytes: n as u32 * 300,
                hashes: vec![[part[0]; 32]; part.len() - 1],
            }),
            2 => Statement::End(StreamEnd { length: n, failure: None }),
            3 => Statement::Close,
            _ => {
                let _ = checker.block(part);
                continue;
            }
        };
        let before = checker.position();
        let taken = checker.statement(&sealer.seal(&statement)).is_ok();
        assert_eq!(checker.position().item - before.item, u64::from(taken));
        if !taken {
            // Its chain has gone on without us: nothing signed later counts.
            assert!(checker.statement(&sealer.seal(&Statement::Close)).is_err());
            return;
        }
    }
});
