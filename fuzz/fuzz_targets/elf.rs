//! Headers of programs: whatever a file has in it, what is read of it takes little memory.
#![no_main]

use ka_fuzz::{begin_with, file};
use libfuzzer_sys::fuzz_target;

// A private file that needs no other.
#[path = "../../ka-server/src/rescue/elf.rs"]
mod elf;

use elf::{Elf, LIBRARIES_MAX, NAME_BYTES_MAX};

fuzz_target!(
    init: begin_with(["/bin/true", "/lib64/ld-linux-x86-64.so.2"].into_iter().filter_map(file)),
    |bytes: &[u8]| {
        let Some(elf) = Elf::read(bytes) else { return };
        assert!(elf.is_static() == (elf.interpreter.is_none() && elf.needed.is_empty()));
        assert!(elf.needed.len() <= LIBRARIES_MAX);
        assert!(elf.needed.iter().chain(&elf.interpreter).all(|name| name.len() < NAME_BYTES_MAX));
        assert!(elf.search.iter().map(String::len).sum::<usize>() < NAME_BYTES_MAX);
        // For whom it is is all that is left when nothing is needed.
        assert_eq!(elf.machine, u16::from_le_bytes([bytes[18], bytes[19]]));
    }
);
