//! A clone's streams: the plan, the files, raw partitions, boot records.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use ka_core::net::Stream;
use ka_core::stream::{ReadAt, Source};
use ka_desc::manifest::{Manifest, StreamKind};

use super::barrier::{Gated, Shared};
use super::files::Files;
use super::nodes::Nodes;
use super::raw::{Range, RawSource};

/// The sources of the streams.
pub(super) struct StreamSources {
    /// The plan.
    pub(super) plan: Manifest,
    /// The boot records.
    pub(super) boot: Vec<u8>,
    /// The golden node's files.
    pub(super) files: Files,
    /// About how many bytes they are.
    pub(super) files_bytes: u64,
    /// The raw partitions.
    pub(super) raw: Vec<Range>,
    /// The record of the notes that the nodes have sent.
    pub(super) nodes: Arc<Mutex<Nodes>>,
}

/// Makes the streams. `say` hears how files and partitions are read, and who is not ready when they are sent.
pub(super) fn streams(
    from: StreamSources,
    gate: Shared,
    say: impl Fn(String) + Clone + Send + 'static,
) -> Vec<Stream> {
    let stream = |name: &str, purpose: StreamKind, source: Box<dyn Source>| Stream {
        name: name.into(),
        metadata: purpose.to_metadata(),
        source,
    };
    let files = from.files;
    let voice = say.clone();
    let files = Gated::new(
        gate,
        from.files_bytes,
        Box::new(move |late| {
            if !late.is_empty() {
                let names: Vec<String> = late.iter().map(ToString::to_string).collect();
                say(format!("not ready in time, and not waited for any longer: {}", names.join(", ")));
            }
            files.open(say)
        }),
    );
    let mut streams = vec![
        stream("plan", StreamKind::Manifest, Box::new(Memory::new(from.plan.to_bytes()))),
        stream("files", StreamKind::Files, Box::new(files)),
    ];
    for (index, (range, raw)) in from.raw.iter().zip(&from.plan.raw).enumerate() {
        let name = format!("partition {}", raw.part);
        let nodes = Arc::clone(&from.nodes);
        let lacks = Box::new(move |fs: &str| nodes.lock().unwrap_or_else(PoisonError::into_inner).lack(fs));
        let source = RawSource::new(range.clone(), raw.clone(), lacks, Box::new(voice.clone()));
        streams.push(stream(&name, StreamKind::Raw(index), Box::new(source)));
    }
    streams.push(stream("boot", StreamKind::Boot, Box::new(Memory::new(from.boot))));
    streams
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

    fn again(&self) -> Option<Box<dyn ReadAt>> {
        Some(Box::new(self.clone()))
    }
}

impl ReadAt for Memory {
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
