//! The files that a program needs before it can start: its loader and its libraries, from its own header. Pure.
//!
//! Files of 64 bits, little-endian; others are none.

/// The contents of the header of a program or a library.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Elf {
    /// For which processor it is.
    pub(super) machine: u16,
    /// The loader.
    pub(super) interpreter: Option<String>,
    /// The libraries, by name.
    pub(super) needed: Vec<String>,
    /// The directories in which they are to be looked for, before all other places.
    pub(super) search: Vec<String>,
}

const LOAD: u32 = 1;
const DYNAMIC: u32 = 2;
const INTERPRETER: u32 = 3;

const NEEDED: u64 = 1;
const STRINGS: u64 = 5;
const RPATH: u64 = 15;
const RUNPATH: u64 = 29;

/// The longest name that is believed.
pub(super) const NAME_BYTES_MAX: usize = 4096;

/// The most libraries that are believed; the largest programs have a tenth of it.
pub(super) const LIBRARIES_MAX: usize = 1024;

/// A part of the file, as the program header says.
struct Segment {
    sort: u32,
    offset: u64,
    address: u64,
    bytes: u64,
}

impl Elf {
    /// Reads a file's header; `None`: it is no such file, or damaged.
    pub(super) fn read(file: &[u8]) -> Option<Self> {
        let whole = file.starts_with(b"\x7fELF\x02\x01");
        let segments = whole.then(|| segments(file)).flatten()?;
        let mut elf = Self { machine: u16_at(file, 18)?, ..Self::default() };
        // Of either sort there is one; a file with more would be read as often.
        let first = |sort: u32| segments.iter().find(|s| s.sort == sort);
        if let Some(segment) = first(INTERPRETER) {
            elf.interpreter = Some(string(file, segment.offset)?);
        }
        let mut entries = Vec::new();
        if let Some(segment) = first(DYNAMIC) {
            let count = (segment.bytes / 16).min(file.len() as u64 / 16);
            for n in 0..count {
                let at = segment.offset.checked_add(n * 16)?;
                match u64_at(file, at)? {
                    0 => break,
                    tag => entries.push((tag, u64_at(file, at.checked_add(8)?)?)),
                }
            }
        }
        if entries.iter().filter(|e| e.0 == NEEDED).count() > LIBRARIES_MAX {
            return None;
        }
        let values = |tag: u64| entries.iter().filter(move |e| e.0 == tag).map(|e| e.1);
        if let Some(table) = values(STRINGS).next() {
            let load = segments.iter().find(|s| {
                s.sort == LOAD && table.checked_sub(s.address).is_some_and(|within| within < s.bytes)
            })?;
            let table = load.offset.checked_add(table - load.address)?;
            let text = |value: u64| string(file, table.checked_add(value)?);
            elf.needed = values(NEEDED).map(text).collect::<Option<_>>()?;
            // The newer of the two hides the older.
            let paths = values(RUNPATH).next().or_else(|| values(RPATH).next());
            if let Some(paths) = paths {
                elf.search = text(paths)?.split(':').filter(|p| !p.is_empty()).map(Into::into).collect();
            }
        }
        Some(elf)
    }

    /// Whether it runs where there is nothing else.
    pub(super) fn is_static(&self) -> bool {
        self.interpreter.is_none() && self.needed.is_empty()
    }
}

fn segments(file: &[u8]) -> Option<Vec<Segment>> {
    let (table, size, count) = (u64_at(file, 32)?, u16_at(file, 54)?, u16_at(file, 56)?);
    let one = |n: u16| {
        let at = table.checked_add(u64::from(n) * u64::from(size))?;
        let field = |offset: u64| u64_at(file, at.checked_add(offset)?);
        Some(Segment { sort: field(0)? as u32, offset: field(8)?, address: field(16)?, bytes: field(32)? })
    };
    (0..count).map(one).collect()
}

fn u16_at(file: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(file.get(at..at + 2)?.try_into().ok()?))
}

fn u64_at(file: &[u8], at: u64) -> Option<u64> {
    let at = usize::try_from(at).ok()?;
    Some(u64::from_le_bytes(file.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// The text that ends with a zero.
fn string(file: &[u8], at: u64) -> Option<String> {
    let rest = file.get(usize::try_from(at).ok()?..)?;
    let length = rest.iter().take(NAME_BYTES_MAX).position(|byte| *byte == 0)?;
    String::from_utf8(rest[..length].to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A program of one page that is loaded at 0x1000 and needs these.
    fn program(interpreter: Option<&str>, dynamic: &[(u64, &str)]) -> Vec<u8> {
        let (mut strings, mut entries) = (vec![0], Vec::new());
        for (tag, text) in dynamic {
            entries.push((*tag, strings.len() as u64));
            strings.extend(text.bytes().chain([0]));
        }
        let loader = strings.len() as u64;
        strings.extend(interpreter.unwrap_or_default().bytes().chain([0]));
        let at = 64 + 3 * 56;
        let strings_at = at + 16 * (entries.len() as u64 + 2);
        let whole = strings_at + strings.len() as u64;
        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(64, 0);
        file[18] = 62;
        file[32] = 64;
        file[54] = 56;
        file[56] = 3;
        let sort = if interpreter.is_some() { INTERPRETER } else { 0 };
        let dynamic_bytes = 16 * (entries.len() as u64 + 2);
        let list =
            [(LOAD, 0, 0x1000, whole), (DYNAMIC, at, 0, dynamic_bytes), (sort, strings_at + loader, 0, 1)];
        for (sort, offset, address, bytes) in list {
            for field in [u64::from(sort), offset, address, address, bytes, bytes, 0] {
                file.extend(field.to_le_bytes());
            }
        }
        entries.push((STRINGS, 0x1000 + strings_at));
        entries.push((0, 0));
        for (tag, value) in entries {
            file.extend([tag, value].iter().flat_map(|n| n.to_le_bytes()));
        }
        [file, strings].concat()
    }

    #[test]
    fn a_program_says_what_it_needs() {
        let file = program(
            Some("/lib64/ld.so"),
            &[(NEEDED, "libc.so.6"), (RPATH, "/old"), (RUNPATH, "$ORIGIN:/opt/lib"), (NEEDED, "libm.so.6")],
        );
        let elf = Elf::read(&file).unwrap();
        assert_eq!(elf.interpreter.as_deref(), Some("/lib64/ld.so"));
        assert_eq!(elf.needed, ["libc.so.6", "libm.so.6"]);
        assert_eq!(elf.search, ["$ORIGIN", "/opt/lib"]);
        assert_eq!(elf.machine, 62);
        assert!(!elf.is_static());
        assert!(Elf::read(&program(None, &[])).unwrap().is_static());
        assert!(!Elf::read(&program(None, &[(NEEDED, "libc.so.6")])).unwrap().is_static());
    }

    #[test]
    fn this_program_is_read_and_a_script_is_none() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let elf = Elf::read(&own).unwrap();
        assert_eq!(elf.is_static(), !elf.needed.iter().any(|name| name == "libc.so.6"));
        assert_eq!(Elf::read(b"#!/bin/sh\n"), None);
    }

    #[test]
    fn one_list_counts_and_it_has_an_end() {
        let list: Vec<(u64, &str)> = std::iter::repeat_n((NEEDED, "libc.so.6"), LIBRARIES_MAX).collect();
        let mut file = program(None, &list);
        assert_eq!(Elf::read(&file).unwrap().needed.len(), LIBRARIES_MAX);
        // The third header says what the second one does.
        file.copy_within(64 + 56..64 + 2 * 56, 64 + 2 * 56);
        assert_eq!(Elf::read(&file).unwrap().needed.len(), LIBRARIES_MAX);
        let more: Vec<(u64, &str)> = std::iter::repeat_n((NEEDED, "libc.so.6"), LIBRARIES_MAX + 1).collect();
        assert_eq!(Elf::read(&program(None, &more)), None);
    }

    proptest! {
        #[test]
        fn damage_is_no_panic(at in 0..400_usize, byte: u8, length in 0..400_usize) {
            let mut file = program(Some("/lib64/ld.so"), &[(NEEDED, "libc.so.6"), (RUNPATH, "/opt")]);
            if let Some(place) = file.get_mut(at) {
                *place = byte;
            }
            file.truncate(length);
            let _ = Elf::read(&file);
        }
    }
}
