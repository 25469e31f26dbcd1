//! The desc language: any text is a desc that prints and reads back, or has problems that can be told.
#![no_main]

use ka_desc::language::{faults, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| match parse(text) {
    Ok(desc) => {
        assert!(faults(&desc).is_empty());
        assert_eq!(parse(desc.to_string()).as_ref(), Ok(&desc));
    }
    Err(problems) => {
        assert!(problems.iter().count() > 0);
        assert!(!problems.render("desc").is_empty());
    }
});
