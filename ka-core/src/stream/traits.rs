//! The two traits of a stream's ends, and the flag that ends either.

use bytes::Bytes;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The origin of the bytes of a stream.
pub trait Source: Send {
    /// Reads what is there into `buf`, up to its length, and says how many bytes. 0 is the end of the stream.
    ///
    /// # Errors
    /// An error fails the stream for every node.
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize>;

    /// Waits up to `timeout` until [`read`](Self::read) would not block (data, or the end), and says whether so.
    ///
    /// A source that never blocks for long need not implement it. One that can should: it is what lets a
    /// session be cancelled, and a trickle of bytes be sent on, while nothing comes.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    fn ready(&mut self, timeout: Duration) -> io::Result<bool> {
        let _ = timeout;
        Ok(true)
    }

    /// The number of bytes that will come, if that is known beforehand. For progress only.
    fn size(&self) -> Option<u64> {
        None
    }

    /// Its bytes once more, if they can be read again: then nodes that are slow, come late or were away for long are
    /// served after the others. Asked before the first byte is read.
    fn again(&self) -> Option<Box<dyn ReadAt>> {
        None
    }

    /// Called once after the end of the stream: did the source end well?
    ///
    /// # Errors
    /// An error fails the stream for every node, such as "`tar c .` ended with exit status 2".
    fn finish(self: Box<Self>) -> io::Result<()> {
        Ok(())
    }

    /// Called instead of [`finish`](Self::finish) when nobody wants the rest: end what is running.
    fn abort(self: Box<Self>) {}
}

/// The destination of the bytes of a stream on a node.
pub trait Sink: Send {
    /// Takes the next blocks of the stream, all of each, in order.
    ///
    /// A sink that may block for long looks at `stop` now and then, and returns an error once it is set.
    ///
    /// # Errors
    /// An error fails this node's sink; the node goes on as a relay.
    fn write(&mut self, blocks: &[Bytes], stop: &Stop) -> io::Result<()>;

    /// The whole stream is here and true: make it last (flush, sync, rename, wait for the command).
    ///
    /// # Errors
    /// An error fails this node's sink, such as "`tar xf -` ended with exit status 2".
    fn finish(self: Box<Self>, stop: &Stop) -> io::Result<()>;

    /// The stream will not be completed: undo, kill, remove. Nothing may look complete afterwards.
    fn abort(self: Box<Self>);
}

/// A flag that asks a source's or sink's thread to give up. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// A flag that is not set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets it, for good.
    pub fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether it is set.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Bytes of a source that can be read again at any place, by another thread than the one that reads it first.
pub trait ReadAt: Send + Sync {
    /// Reads what is there at `offset` of the stream into `buf`, up to its length, and says how many bytes. 0 is the end.
    ///
    /// # Errors
    /// An error ends the session for those who need these bytes, not for the others.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
}
