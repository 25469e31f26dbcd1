//! The tape once more: the root's, for children that lack what its window has forgotten.
//!
//! ```text
//!   a child's next item ──▶ Index ──Part──▶ thread: read again, seal again ──Ring──▶ that child's socket
//! ```
//!
//! One thread reads for all of them, a part at a time for each, so that memory is bounded by their number. What it
//! has sealed must come to the same chain as before: a source that has changed is not sent. (Nor could it be without
//! harm: other bytes at the same place of a keystream would tell both.)

use std::io;
use std::task::{Context, Poll};

use bytes::Bytes;
use crossbeam_channel as crossbeam;
use tokio::sync::mpsc;

use crate::limits::BLOCK_BYTES;
use crate::net::host::threads::Threads;
use crate::stream::ReadAt;
use crate::tape::chain::{self, Hash, Sealer, Segment, Statement};
use crate::tape::index::{Blocks, Index, Part};
use crate::tape::ring::{Item, Ring};
use crate::types::{LinkId, Position};

/// The data loop's end of the thread.
pub(crate) struct Again {
    index: Index,
    jobs: crossbeam::Sender<Job>,
    done: mpsc::UnboundedReceiver<Done>,
}

enum Job {
    /// The next stream's bytes are here.
    Stream(Box<dyn ReadAt>),
    /// Seal this again.
    Part(LinkId, Part),
}

/// For whom, and the part; or why it cannot be had.
type Done = (LinkId, Result<Ring, String>);

impl Again {
    /// Starts the thread; `sealer` lends its key.
    pub(crate) fn start(sealer: &Sealer, threads: &Threads) -> io::Result<Self> {
        let (jobs, rx) = crossbeam::unbounded();
        let (tx, done) = mpsc::unbounded_channel();
        let sealer = sealer.from(Hash::default());
        threads.start("ka-again", move || work(&sealer, &rx, &tx))?;
        Ok(Self { index: Index::default(), jobs, done })
    }

    /// A stream begins that can be read again here.
    pub(crate) fn stream(&mut self, source: Box<dyn ReadAt>) {
        let _ = self.jobs.send(Job::Stream(source));
    }

    /// Notes what was sealed.
    pub(crate) fn note(&mut self, statement: &Statement, sealed: &Bytes, chain: (Hash, Hash)) {
        self.index.note(statement, sealed, chain);
    }

    /// Asks for the part of the tape with item number `item`, for the child of this link.
    pub(crate) fn ask(&mut self, link: LinkId, item: u64) {
        if let Some(part) = self.index.part(item) {
            let _ = self.jobs.send(Job::Part(link, part));
        }
    }

    /// The next part that was asked for, if one is there; or the reason why nothing more will come.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(LinkId, Ring), String>> {
        self.done.poll_recv(cx).map(|done| match done {
            Some((link, part)) => part.map(|part| (link, part)),
            None => Err("the thread that reads it has ended".into()),
        })
    }

    /// The places of everything on the tape.
    pub(crate) fn index(&self) -> &Index {
        &self.index
    }
}

fn work(sealer: &Sealer, jobs: &crossbeam::Receiver<Job>, done: &mpsc::UnboundedSender<Done>) {
    let mut sources = Vec::new();
    for job in jobs {
        match job {
            Job::Stream(source) => sources.push(source),
            Job::Part(link, part) => {
                let part = match part {
                    Part::Statement(at, sealed) => Ok(ring(at, [Item::Statement(sealed)])),
                    Part::Blocks(blocks) => sources
                        .get(blocks.stream as usize)
                        .ok_or_else(|| "it is not there".into())
                        .and_then(|source| seal_again(sealer, source.as_ref(), &blocks)),
                };
                if done.send((link, part)).is_err() {
                    return;
                }
            }
        }
    }
}

fn ring(at: Position, items: impl IntoIterator<Item = Item>) -> Ring {
    let mut ring = Ring::from_place(at);
    items.into_iter().for_each(|item| ring.push(item));
    ring
}

/// Reads a segment's bytes again, and seals them as they were sealed before.
fn seal_again(sealer: &Sealer, source: &dyn ReadAt, part: &Blocks) -> Result<Ring, String> {
    let mut bytes = vec![0; part.bytes as usize];
    let mut filled = 0;
    while filled < bytes.len() {
        match source.read_at(&mut bytes[filled..], part.offset + filled as u64) {
            Ok(0) => return Err(format!("it ends at byte {} now", part.offset + filled as u64)),
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e.to_string()),
        }
    }
    if let Some(mut keystream) = sealer.keystream(part.stream) {
        keystream.seek(part.offset);
        keystream.apply(&mut bytes);
    }
    let mut rest = Bytes::from(bytes);
    let mut blocks = Vec::new();
    while !rest.is_empty() {
        blocks.push(rest.split_to(BLOCK_BYTES.min(rest.len())));
    }
    let last_bytes = blocks.last().map_or(0, |b| b.len() as u32);
    let hashes: Vec<_> = blocks.iter().map(|b| chain::hash(b)).collect();
    let blocks: Vec<_> =
        blocks.into_iter().zip(hashes.clone()).map(|(b, hash)| Item::Block(b, hash)).collect();
    let (before, after) = part.chain;
    let mut sealer = sealer.from(before);
    let statement = sealer.seal(&Statement::Segment(Segment { last_bytes, hashes }));
    if sealer.chain() != after {
        let end = part.offset + part.bytes;
        return Err(format!("bytes {} to {end} are others than when they were read first", part.offset));
    }
    Ok(ring(part.at, [Item::Statement(statement)].into_iter().chain(blocks)))
}
