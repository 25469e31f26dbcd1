//! Files as an archive that the kernel unpacks: cpio's format "newc". Same entries, same bytes.
//!
//! Everything belongs to root and is as old as the epoch; names are sorted, so a directory comes before what is in it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The name that ends an archive.
const TRAILER: &str = "TRAILER!!!";

/// The kind of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// A directory.
    Directory,
    /// A file.
    File(Content, Mode),
    /// A symbolic link to this.
    Link(String),
    /// A character device: its two numbers.
    Device(u32, u32),
}

/// The origin of a file's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// From here.
    Bytes(Vec<u8>),
    /// From this file, when the archive is written.
    Copy(PathBuf),
}

/// Whether a file can be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// A file that is only read.
    Plain,
    /// A file that is started.
    Program,
}

/// The entries to archive, by their paths without the first slash.
#[derive(Clone, Debug, Default)]
pub(super) struct Archive(BTreeMap<String, Entry>);

impl Archive {
    /// Adds an entry, and the directories that it is in. One that is there already stays.
    pub(super) fn add(&mut self, path: &str, entry: Entry) {
        let path = path.trim_matches('/');
        for (at, _) in path.match_indices('/') {
            self.0.entry(path[..at].to_owned()).or_insert(Entry::Directory);
        }
        self.0.entry(path.to_owned()).or_insert(entry);
    }

    /// Whether there is such an entry.
    pub(super) fn has(&self, path: &str) -> bool {
        self.0.contains_key(path.trim_matches('/'))
    }

    /// Writes the archive.
    ///
    /// # Errors
    /// A file cannot be read (which is named), or `to` takes no more.
    pub(super) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        for (number, (path, entry)) in (1..).zip(&self.0) {
            let (mode, links, device, bytes) = match entry {
                Entry::Directory => (0o040_755, 2, (0, 0), Vec::new()),
                Entry::File(content, Mode::Plain) => (0o100_644, 1, (0, 0), content.read()?),
                Entry::File(content, Mode::Program) => (0o100_755, 1, (0, 0), content.read()?),
                Entry::Link(target) => (0o120_777, 1, (0, 0), target.as_bytes().to_vec()),
                Entry::Device(major, minor) => (0o020_600, 1, (*major, *minor), Vec::new()),
            };
            one(to, path, [number, mode, links], device, &bytes)?;
        }
        one(to, TRAILER, [0, 0, 1], (0, 0), &[])
    }
}

impl Content {
    fn read(&self) -> io::Result<Vec<u8>> {
        let named = |path: &Path, e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
        match self {
            Self::Bytes(bytes) => Ok(bytes.clone()),
            Self::Copy(path) => fs::read(path).map_err(|e| named(path, e)),
        }
    }
}

fn one(
    to: &mut impl Write,
    name: &str,
    [number, mode, links]: [u32; 3],
    (major, minor): (u32, u32),
    bytes: &[u8],
) -> io::Result<()> {
    let short = |length: usize| {
        u32::try_from(length)
            .map_err(|_| io::Error::other(format!("{name}: 4 GiB or more do not fit into an archive")))
    };
    let (length, name_length) = (short(bytes.len())?, short(name.len() + 1)?);
    // Number, mode, owner, group, links, time, length, device (2), the device that it is (2), name's length, check.
    let fields = [number, mode, 0, 0, links, 0, length, 0, 0, major, minor, name_length, 0];
    let mut head = String::from("070701");
    head.extend(fields.map(|field| format!("{field:08x}")));
    head.push_str(name);
    head.push('\0');
    padded(to, head.as_bytes())?;
    padded(to, bytes)
}

/// Everything begins at a multiple of four.
fn padded(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes)?;
    to.write_all(&[0; 3][..bytes.len().next_multiple_of(4) - bytes.len()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(archive: &Archive) -> Vec<u8> {
        let mut bytes = Vec::new();
        archive.write(&mut bytes).unwrap();
        bytes
    }

    /// Returns what a reader sees: name, mode, contents.
    fn listed(mut bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut list = Vec::new();
        loop {
            let field = |n: usize| {
                let text = std::str::from_utf8(&bytes[6 + 8 * n..14 + 8 * n]).unwrap();
                u32::from_str_radix(text, 16).unwrap()
            };
            assert_eq!(&bytes[..6], b"070701");
            let (mode, length, name) = (field(1), field(6) as usize, field(11) as usize);
            let begin = (110 + name).next_multiple_of(4);
            let text = String::from_utf8(bytes[110..110 + name - 1].to_vec()).unwrap();
            if text == TRAILER {
                assert_eq!(bytes.len(), begin);
                return list;
            }
            list.push((text, mode, bytes[begin..begin + length].to_vec()));
            bytes = &bytes[(begin + length).next_multiple_of(4)..];
        }
    }

    fn entry() -> impl Strategy<Value = Entry> {
        let bytes = proptest::collection::vec(any::<u8>(), 0..40);
        prop_oneof![
            bytes.prop_map(|bytes| Entry::File(Content::Bytes(bytes), Mode::Plain)),
            "[a-z/.]{1,20}".prop_map(Entry::Link),
            Just(Entry::Directory),
        ]
    }

    proptest! {
        #[test]
        fn what_is_added_is_read(list in proptest::collection::vec(("[a-z]{1,6}(-[a-z]{1,3}){0,2}", entry()), 0..20)) {
            let mut archive = Archive::default();
            for (path, entry) in &list {
                archive.add(&format!("/top/{path}"), entry.clone());
            }
            let read = listed(&bytes(&archive));
            prop_assert!(read.is_sorted_by(|a, b| a.0 < b.0));
            prop_assert_eq!(read.len(), archive.0.len());
            for (name, mode, content) in read {
                let (kind, bytes) = match &archive.0[&name] {
                    Entry::File(Content::Bytes(bytes), _) => (0o100_000, bytes.as_slice()),
                    Entry::Link(target) => (0o120_000, target.as_bytes()),
                    _ => (0o040_000, &[][..]),
                };
                prop_assert_eq!((mode & 0o170_000, content.as_slice()), (kind, bytes));
            }
        }
    }

    #[test]
    fn directories_come_with_what_is_in_them_and_nothing_is_overwritten() {
        let mut archive = Archive::default();
        archive.add("bin", Entry::Link("usr/bin".into()));
        archive.add("/usr/bin/x", Entry::File(Content::Bytes(b"1".into()), Mode::Program));
        archive.add("usr/bin/x", Entry::Directory);
        archive.add("dev/console", Entry::Device(5, 1));
        assert!(archive.has("/usr/bin"));
        let names: Vec<_> =
            listed(&bytes(&archive)).into_iter().map(|(name, mode, _)| (name, mode)).collect();
        let expected = [
            ("bin", 0o120_777),
            ("dev", 0o040_755),
            ("dev/console", 0o020_600),
            ("usr", 0o040_755),
            ("usr/bin", 0o040_755),
            ("usr/bin/x", 0o100_755),
        ];
        assert_eq!(names, expected.map(|(name, mode)| (name.to_owned(), mode)));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let mut archive = Archive::default();
        archive.add("x", Entry::File(Content::Copy("/nonexistent/x".into()), Mode::Plain));
        assert!(archive.write(&mut Vec::new()).unwrap_err().to_string().starts_with("/nonexistent/x: "));
    }
}
