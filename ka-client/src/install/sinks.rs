//! The sinks of a clone's streams.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use ka_core::stream::{Sink, Stop};
use ka_core::tape::chain::StreamInfo;
use ka_desc::error::Error;
use ka_desc::manifest::{BOOT_BYTES_MAX, MANIFEST_BYTES_MAX, StreamKind};

use super::work::Work;

/// Opens the sink of each stream, in the order of the plan.
pub(super) fn open(work: &Arc<Mutex<Work>>, info: &StreamInfo) -> io::Result<Box<dyn Sink>> {
    let purpose = StreamKind::from_metadata(&info.metadata).map_err(io::Error::other)?;
    let whole = |bytes_max: usize, then: Then| -> Box<dyn Sink> {
        Box::new(Whole { bytes: Vec::new(), bytes_max, work: Arc::clone(work), then })
    };
    let mut now = lock(work);
    now.expect(&purpose).map_err(io::Error::other)?;
    match purpose {
        StreamKind::Manifest => Ok(whole(MANIFEST_BYTES_MAX, Work::prepare)),
        StreamKind::Files => Ok(Box::new(now.unpack()?)),
        StreamKind::Raw(index) => Ok(Box::new(now.raw(index).map_err(io::Error::other)?)),
        StreamKind::Boot => Ok(whole(BOOT_BYTES_MAX as usize, Work::finish)),
    }
}

pub(super) fn lock(work: &Mutex<Work>) -> MutexGuard<'_, Work> {
    work.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The action that takes a whole stream.
type Then = fn(&mut Work, &[u8]) -> Result<(), Error>;

/// Collects a short stream, and acts when it is whole.
struct Whole {
    bytes: Vec<u8>,
    bytes_max: usize,
    work: Arc<Mutex<Work>>,
    then: Then,
}

impl Sink for Whole {
    fn write(&mut self, blocks: &[Bytes], _: &Stop) -> io::Result<()> {
        for block in blocks {
            if self.bytes.len() + block.len() > self.bytes_max {
                let why = format!("the stream is longer than {} bytes", self.bytes_max);
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
            self.bytes.extend_from_slice(block);
        }
        Ok(())
    }

    fn finish(self: Box<Self>, _: &Stop) -> io::Result<()> {
        (self.then)(&mut lock(&self.work), &self.bytes).map_err(io::Error::other)
    }

    fn abort(self: Box<Self>) {}
}
