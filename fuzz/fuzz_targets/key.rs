//! Keys, sizes, rates and times as people type them: any text is one, which reads the same as it is written, or none.
#![no_main]

use ka_core::crypto::session_key::Key;
use ka_core::types;
use ka_fuzz::begin_with;
use libfuzzer_sys::fuzz_target;

// A private file of the programs, which needs only `types`.
#[allow(unreachable_pub, reason = "it is public where it belongs")]
#[path = "../../ka-core/src/console/units.rs"]
mod units;

fn seeds() -> [Vec<u8>; 4] {
    let key = Key::new([7; 12], &[9; 32]).text().expect("it is secure");
    [key.to_uppercase().into(), key.as_bytes().to_vec(), b"1.5GiB".to_vec(), b"400 mbit/s".to_vec()]
}

fuzz_target!(init: begin_with(seeds()), |bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    match Key::parse(&text) {
        Ok(key) => {
            let again = key.text().expect("a key that is typed is secure");
            assert!(Key::parse(&again) == Ok(key));
        }
        Err(why) => assert!(!why.to_string().is_empty()),
    }
    if let Ok(name) = types::SessionName::new(text.as_ref()) {
        assert_eq!(name.as_str(), text);
    }
    // As they are shown, the largest may be rounded up to what is none.
    let shown = |bytes: &u64| *bytes < 1 << 62;
    if let Some(bytes) = units::parse_size(&text).ok().filter(shown) {
        assert!(units::parse_size(&units::size(bytes)).is_ok());
    }
    if let Some(bytes) = units::parse_rate(&text).ok().filter(shown) {
        assert!(units::parse_rate(&units::rate(bytes)).is_ok());
    }
    if let Ok(time) = units::parse_duration(&text) {
        assert!(!units::duration(time).is_empty() && !units::nodes(time.subsec_millis()).is_empty());
    }
});
