//! The root's end of the tape: cuts what its sources give into blocks, and seals them segment by segment.
//!
//! It reads ahead while nodes gather, hashes each block once, and signs as late as it may: a segment is closed
//! when it is full, when the stream ends, or when a child would otherwise have to wait for it.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::{Instant, Sleep};

use super::ends::{Fed, Feed};
use super::reread::Again;
use crate::limits::{self, BLOCK_BYTES, SEGMENT_BLOCKS};
use crate::net::host::threads::Threads;
use crate::proto::Window;
use crate::stream::ReadAt;
use crate::tape::chain::{self, Hash, Sealer, Segment, Statement, StreamEnd, StreamInfo};
use crate::tape::ring::Item;
use crate::types::{Position, printable};

/// The number of bytes that the source is read ahead of what the fastest child was sent: at 1 Gbit/s it bridges a
/// source that hiccups for an eighth of a second, and touches no more memory than that.
const READ_AHEAD_BYTES: u64 = 16 << 20;

/// Items that the root adds to the tape.
#[derive(Debug, Default)]
pub(crate) struct Sealed {
    pub(crate) items: Vec<Item>,
    /// A stream that begins with these items.
    pub(crate) begun: Option<StreamInfo>,
    /// The source's failure that these items tell.
    pub(crate) failed: Option<String>,
    /// The chain's last value, if these items close the tape.
    pub(crate) closed: Option<Hash>,
    /// Why the sources cannot be read again after all.
    pub(crate) reread_failed: Option<String>,
}

/// The root's end.
pub(crate) struct Root {
    sealer: Sealer,
    feed: Feed,
    /// The tape once more, as it was sealed; `None` if it cannot be had.
    again: Option<Again>,
    /// Read, but not cut yet.
    loose: Loose,
    /// Cut and hashed, but not announced yet.
    blocks: Vec<Bytes>,
    hashes: Vec<Hash>,
    /// Bytes of the current stream that are announced.
    length: u64,
    /// When the next segment may be closed early.
    pace: Pin<Box<Sleep>>,
}

impl Root {
    pub(crate) fn new(sealer: Sealer, feed: Feed, threads: &Threads) -> io::Result<Self> {
        let again = feed.reread().then(|| Again::start(&sealer, threads)).transpose()?;
        Ok(Self {
            sealer,
            feed,
            again,
            loose: Loose::default(),
            blocks: Vec::with_capacity(SEGMENT_BLOCKS),
            hashes: Vec::with_capacity(SEGMENT_BLOCKS),
            length: 0,
            pace: Box::pin(tokio::time::sleep(Duration::ZERO)),
        })
    }

    /// The tape once more, if it can be had.
    pub(crate) fn again(&self) -> Option<&Again> {
        self.again.as_ref()
    }

    /// The same, to ask for parts of it.
    pub(crate) fn again_mut(&mut self) -> &mut Option<Again> {
        &mut self.again
    }

    /// Reads as far as `window` allows beyond `end`, where the tape ends now; ready with the next items.
    /// `starving` says that a child has been sent everything there is.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        window: &Window,
        starving: bool,
        end: Position,
    ) -> Poll<Sealed> {
        let limit = window.granted().min(window.sent_furthest() + READ_AHEAD_BYTES);
        loop {
            if self.blocks.len() == SEGMENT_BLOCKS {
                let items = self.segment();
                return Poll::Ready(Sealed { items, ..Sealed::default() });
            }
            let room = end.offset + self.unsealed() < limit;
            let fed = if room { self.feed.poll(cx) } else { Poll::Pending };
            match fed {
                Poll::Ready(Some(Fed::Bytes(bytes))) => {
                    self.loose.push(bytes);
                    self.cut(BLOCK_BYTES);
                }
                Poll::Ready(Some(Fed::Begin(info, again))) => return Poll::Ready(self.begin(info, again)),
                Poll::Ready(Some(Fed::RereadFailed(why))) => {
                    self.again = None;
                    return Poll::Ready(Sealed { reread_failed: Some(why), ..Sealed::default() });
                }
                Poll::Ready(Some(Fed::End(result))) => return Poll::Ready(self.finish(result)),
                Poll::Ready(Some(Fed::Close)) => return Poll::Ready(self.close()),
                Poll::Ready(None) => return Poll::Pending,
                Poll::Pending => {
                    if !starving || self.unsealed() == 0 {
                        return Poll::Pending;
                    }
                    if room {
                        ready!(self.pace.as_mut().poll(cx));
                    }
                    self.cut(1);
                    let items = self.segment();
                    return Poll::Ready(Sealed { items, ..Sealed::default() });
                }
            }
        }
    }

    /// Ends the sources; says what went wrong with the spool.
    pub(crate) async fn stop(self) -> Result<(), String> {
        self.feed.stop().await
    }

    fn state(&mut self, statement: &Statement) -> Item {
        let before = self.sealer.chain();
        let sealed = self.sealer.seal(statement);
        if let Some(again) = &mut self.again {
            again.note(statement, &sealed, (before, self.sealer.chain()));
        }
        Item::Statement(sealed)
    }

    fn unsealed(&self) -> u64 {
        self.blocks.iter().map(|b| b.len() as u64).sum::<u64>() + self.loose.bytes as u64
    }

    /// Cuts blocks off what is loose while a block of at least `least` bytes can be had, up to a full segment.
    fn cut(&mut self, least: usize) {
        while self.loose.bytes >= least && self.blocks.len() < SEGMENT_BLOCKS {
            let block = self.loose.take(BLOCK_BYTES);
            self.hashes.push(chain::hash(&block));
            self.blocks.push(block);
        }
    }

    /// Announces the cut blocks. Only the last of them may be short, because a short one is cut only here before.
    fn segment(&mut self) -> Vec<Item> {
        let Some(last) = self.blocks.last() else { return Vec::new() };
        let last_bytes = last.len() as u32;
        self.length += self.blocks.iter().map(|b| b.len() as u64).sum::<u64>();
        self.pace.as_mut().reset(Instant::now() + limits::SEGMENT_INTERVAL);
        let hashes = std::mem::take(&mut self.hashes);
        let mut items = Vec::with_capacity(1 + self.blocks.len());
        let blocks = self.blocks.drain(..).zip(hashes.clone()).map(|(block, hash)| Item::Block(block, hash));
        let blocks: Vec<_> = blocks.collect();
        items.push(self.state(&Statement::Segment(Segment { last_bytes, hashes })));
        items.extend(blocks);
        self.cut(BLOCK_BYTES);
        items
    }

    fn begin(&mut self, info: StreamInfo, source: Option<Box<dyn ReadAt>>) -> Sealed {
        self.length = 0;
        if let (Some(again), Some(source)) = (&mut self.again, source) {
            again.stream(source);
        }
        let item = self.state(&Statement::Begin(info.clone()));
        Sealed { items: vec![item], begun: Some(info), ..Sealed::default() }
    }

    fn finish(&mut self, result: Result<(), String>) -> Sealed {
        let mut items = Vec::new();
        loop {
            self.cut(1);
            if self.blocks.is_empty() {
                break;
            }
            items.extend(self.segment());
        }
        let failed = result.err().map(|why| printable(&why, limits::TEXT_BYTES));
        let end = StreamEnd { length: self.length, failure: failed.clone() };
        items.push(self.state(&Statement::End(end)));
        Sealed { items, failed, ..Sealed::default() }
    }

    fn close(&mut self) -> Sealed {
        let item = self.state(&Statement::Close);
        Sealed { items: vec![item], closed: Some(self.sealer.chain()), ..Sealed::default() }
    }
}

/// Bytes as the source gave them, to be cut into blocks.
#[derive(Debug, Default)]
struct Loose {
    parts: VecDeque<Bytes>,
    bytes: usize,
}

impl Loose {
    fn push(&mut self, part: Bytes) {
        self.bytes += part.len();
        self.parts.push_back(part);
    }

    /// The next `max` bytes, or all there are. Copied only where a block spans two parts.
    fn take(&mut self, max: usize) -> Bytes {
        let len = max.min(self.bytes);
        self.bytes -= len;
        if let Some(first) = self.parts.front_mut()
            && first.len() > len
        {
            return first.split_to(len);
        }
        if self.parts.front().is_some_and(|first| first.len() == len) {
            return self.parts.pop_front().unwrap_or_default();
        }
        let mut block = BytesMut::with_capacity(len);
        while block.len() < len {
            let Some(first) = self.parts.front_mut() else { break };
            let part = first.split_to(first.len().min(len - block.len()));
            block.extend_from_slice(&part);
            if first.is_empty() {
                self.parts.pop_front();
            }
        }
        block.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loose_bytes_come_out_as_they_went_in() {
        let mut loose = Loose::default();
        for part in [&b"abc"[..], b"defgh", b"i"] {
            loose.push(Bytes::from_static(part));
        }
        assert_eq!(loose.take(2), "ab");
        assert_eq!(loose.take(3), "cde");
        assert_eq!(loose.take(3), "fgh");
        assert_eq!(loose.take(3), "i");
        assert_eq!((loose.bytes, loose.take(3)), (0, Bytes::new()));
    }
}
