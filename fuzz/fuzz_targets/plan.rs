//! A golden node's plan and boot records: any bytes are refused in words, or fit together and are read back as they are.
//! The metadata of streams, and the words of nodes about themselves: the same.
#![no_main]

use ka_desc::boot::{check, relocate};
use ka_desc::manifest::{About, Manifest, NodeState, StreamKind};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // A boot record behind the plan, if a zero parts the two.
    let cut = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let boot = bytes.get(cut + 1..).unwrap_or_default();
    match Manifest::from_bytes(&bytes[..cut]) {
        Ok(plan) => {
            assert_eq!(Manifest::from_bytes(&plan.to_bytes()).unwrap(), plan);
            let _ = check(&plan.boot.pieces, boot);
            let starts: Vec<u64> = plan.boot.pieces.iter().map(|piece| piece.sector / 2).collect();
            let _ = relocate(&plan.boot.pieces, boot, &starts);
        }
        Err(why) => assert!(!why.to_string().is_empty()),
    }
    match StreamKind::from_metadata(bytes) {
        Ok(kind) => assert_eq!(StreamKind::from_metadata(&kind.to_metadata()).unwrap(), kind),
        Err(why) => assert!(!why.to_string().is_empty() && !StreamKind::is_estimate(bytes)),
    }
    if let Some(state) = NodeState::from_bytes(bytes) {
        assert_eq!(NodeState::from_bytes(&state.to_bytes()), Some(state));
    }
    let about = About::from_bytes(bytes);
    let told = About::from_bytes(&about.to_bytes());
    assert!(about.macs.starts_with(&told.macs));
});
