//! A clone's streams: the plan, the files, raw partitions, boot records.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use ka_client::plan::{Plan, Purpose};
use ka_core::net::Stream;
use ka_core::stream::{Reread, Source};

use super::files::Files;
use super::gate::{Gated, Shared};

/// Where the bytes are.
pub(super) struct From {
    /// The plan.
    pub(super) plan: Plan,
    /// The boot records.
    pub(super) boot: Vec<u8>,
    /// The golden node's files.
    pub(super) files: Files,
    /// The raw partitions.
    pub(super) raw: Vec<Range>,
}

/// A part of a disk or an image.
#[derive(Clone, Debug)]
pub(super) struct Range {
    /// The disk or image.
    pub(super) path: PathBuf,
    /// Where it begins, in bytes.
    pub(super) at: u64,
    /// How long it is.
    pub(super) bytes: u64,
}

/// Makes the streams. `say` hears how the files are read, and who is not ready when they are sent.
pub(super) fn streams(
    from: From,
    gate: Shared,
    say: impl Fn(String) + Send + 'static,
) -> io::Result<Vec<Stream>> {
    let stream = |name: &str, purpose: Purpose, source: Box<dyn Source>| Stream {
        name: name.into(),
        metadata: purpose.to_metadata(),
        source,
    };
    let files = from.files;
    let files = Gated::new(
        gate,
        from.plan.files.bytes,
        Box::new(move |late| {
            if !late.is_empty() {
                let names: Vec<String> = late.iter().map(ToString::to_string).collect();
                say(format!("not ready in time, and not waited for any longer: {}", names.join(", ")));
            }
            files.open(say)
        }),
    );
    let mut streams = vec![
        stream("plan", Purpose::Plan, Box::new(Memory::new(from.plan.to_bytes()))),
        stream("files", Purpose::Files, Box::new(files)),
    ];
    for (index, (range, raw)) in from.raw.iter().zip(&from.plan.raw).enumerate() {
        let name = format!("partition {}", raw.part);
        streams.push(stream(&name, Purpose::Raw(index), Box::new(Blocks::open(range)?)));
    }
    streams.push(stream("boot", Purpose::Boot, Box::new(Memory::new(from.boot))));
    Ok(streams)
}

/// A part of a disk, as often as it is wanted.
#[derive(Clone)]
struct Blocks {
    file: Arc<File>,
    range: Range,
    done: u64,
}

impl Blocks {
    fn open(range: &Range) -> io::Result<Self> {
        // A partition's own node has a memory of its own; what is in that must be on the disk.
        rustix::fs::sync();
        let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", range.path.display()));
        let file = Arc::new(File::open(&range.path).map_err(named)?);
        Ok(Self { file, range: range.clone(), done: 0 })
    }
}

impl Source for Blocks {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.read_at(buf, self.done)?;
        self.done += n as u64;
        Ok(n)
    }

    fn size(&self) -> Option<u64> {
        Some(self.range.bytes)
    }

    fn again(&self) -> Option<Box<dyn Reread>> {
        Some(Box::new(self.clone()))
    }

    fn finish(self: Box<Self>) -> Result<(), String> {
        let Self { range, done, .. } = *self;
        if done == range.bytes {
            return Ok(());
        }
        Err(format!(
            "{} ended after {done} bytes of the {} of a partition",
            range.path.display(),
            range.bytes
        ))
    }
}

impl Reread for Blocks {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = usize::try_from(self.range.bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let n = buf.len().min(left);
        self.file.read_at(&mut buf[..n], self.range.at + offset)
    }
}

/// Bytes in memory, as often as they are wanted.
#[derive(Clone)]
struct Memory {
    bytes: bytes::Bytes,
    at: usize,
}

impl Memory {
    fn new(bytes: Vec<u8>) -> Self {
        Self { bytes: bytes.into(), at: 0 }
    }
}

impl Source for Memory {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = buf.len().min(self.bytes.len() - self.at);
        buf[..n].copy_from_slice(&self.bytes[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }

    fn size(&self) -> Option<u64> {
        Some(self.bytes.len() as u64)
    }

    fn again(&self) -> Option<Box<dyn Reread>> {
        Some(Box::new(self.clone()))
    }
}

impl Reread for Memory {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(self.bytes.len());
        let n = buf.len().min(self.bytes.len() - from);
        buf[..n].copy_from_slice(&self.bytes[from..from + n]);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_read_from_its_disk() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"0123456789").unwrap();
        let range = Range { path: file.path().into(), at: 3, bytes: 4 };
        let mut blocks = Blocks::open(&range).unwrap();
        let mut buf = [0; 16];
        assert_eq!((blocks.read(&mut buf).unwrap(), &buf[..4]), (4, &b"3456"[..]));
        assert_eq!(
            (blocks.read(&mut buf).unwrap(), blocks.read_at(&mut buf, 3).unwrap(), buf[0]),
            (0, 1, b'6')
        );
        assert!(Box::new(blocks).finish().is_ok());
        let short = Blocks::open(&Range { bytes: 40, ..range }).unwrap();
        assert!(Box::new(short).finish().unwrap_err().contains("ended after 0 bytes"));
    }

    #[test]
    fn memory_is_read_and_read_again() {
        let mut memory = Memory::new(b"hello".to_vec());
        let mut buf = [0; 3];
        assert_eq!(memory.read(&mut buf).unwrap(), 3);
        assert_eq!(memory.read_at(&mut buf, 3).unwrap(), 2);
        assert_eq!(&buf[..2], b"lo");
        assert_eq!(memory.read(&mut buf).unwrap(), 2);
        assert_eq!((memory.read(&mut buf).unwrap(), memory.read_at(&mut buf, 9).unwrap()), (0, 0));
    }
}
