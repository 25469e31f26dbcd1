//! The threads at the two ends: one reads the sources, one feeds the sinks. They block, the data loop does not.
//!
//! ```text
//!   Source ──read──▶ Fed … Fed ──bounded──▶ data loop ──▶ ring … ──▶ Job … Job ──in batches──▶ Sink
//! ```
//!
//! A thread is told to give up by its [`Stop`], and then ends its source or sink itself, because only it can.

use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel as crossbeam;
use tokio::sync::{mpsc, oneshot};

use super::pool::{BUFFER_BYTES, LeasePool};
use super::session::Stream;
use crate::limits;
use crate::seal::StreamInfo;
use crate::stream::{Sink, Source, Stop};
use crate::types::Position;

/// How long a thread waits at most before it looks at its [`Stop`] again.
const LOOK: Duration = Duration::from_millis(100);

// ---- sources ----

/// What comes from the sources' thread.
#[derive(Debug)]
pub(super) enum Fed {
    Begin(StreamInfo),
    Bytes(Bytes),
    /// The stream has ended; well, or with these words.
    End(Result<(), String>),
    /// No stream follows.
    Close,
}

/// The data loop's end of the sources' thread.
#[derive(Debug)]
pub(super) struct Feed {
    fed: mpsc::Receiver<Fed>,
    stop: Stop,
    ended: oneshot::Receiver<()>,
}

impl Feed {
    /// Starts reading the streams, one after the other, a few buffers ahead of whoever takes them.
    pub(super) fn start(streams: Vec<Stream>) -> std::io::Result<Self> {
        const AHEAD: usize = 4;
        let (tx, fed) = mpsc::channel(AHEAD);
        let (done, ended) = oneshot::channel();
        let stop = Stop::new();
        let flag = stop.clone();
        thread::Builder::new().name("ka-source".into()).spawn(move || {
            read_all(streams, &tx, &flag);
            drop(done);
        })?;
        Ok(Self { fed, stop, ended })
    }

    /// What comes next, if something is there.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Fed>> {
        self.fed.poll_recv(cx)
    }

    /// Ends the thread and whatever it reads from; waits for it a little longer than a command may take to stop.
    pub(super) async fn stop(mut self) {
        self.stop.set();
        self.fed.close();
        let _ = tokio::time::timeout(limits::STOP_GRACE + limits::CONNECT, self.ended).await;
    }
}

fn read_all(streams: Vec<Stream>, tx: &mpsc::Sender<Fed>, stop: &Stop) {
    let mut streams = streams.into_iter();
    for (number, stream) in (0..).zip(&mut streams) {
        let Stream { name, metadata, source } = stream;
        let info = StreamInfo { number, name, metadata, size: source.size() };
        if tx.blocking_send(Fed::Begin(info)).is_err() {
            source.abort();
            break;
        }
        let Some(result) = read_one(source, tx, stop) else { break };
        let failed = result.is_err();
        if tx.blocking_send(Fed::End(result)).is_err() {
            break;
        }
        if failed {
            break;
        }
    }
    // Streams that nobody will read: each may be a command that already runs.
    streams.for_each(|s| s.source.abort());
    let _ = tx.blocking_send(Fed::Close);
}

/// Reads one source to its end; `None` when nobody wants it any more.
fn read_one(mut source: Box<dyn Source>, tx: &mpsc::Sender<Fed>, stop: &Stop) -> Option<Result<(), String>> {
    let pool = LeasePool::default();
    loop {
        let mut lease = pool.lease();
        let filled = match fill(source.as_mut(), lease.bytes_mut(), stop) {
            Ok(Filled::Bytes(n)) => n,
            Ok(Filled::End) => return Some(source.finish()),
            Ok(Filled::Stopped) => {
                source.abort();
                return None;
            }
            Err(e) => {
                source.abort();
                return Some(Err(e.to_string()));
            }
        };
        if tx.blocking_send(Fed::Bytes(lease.freeze(filled))).is_err() {
            source.abort();
            return None;
        }
    }
}

enum Filled {
    Bytes(usize),
    End,
    Stopped,
}

/// Fills the buffer as far as it goes without waiting for more than its first bytes.
fn fill(source: &mut dyn Source, buffer: &mut [u8], stop: &Stop) -> std::io::Result<Filled> {
    while !source.ready(LOOK)? {
        if stop.is_set() {
            return Ok(Filled::Stopped);
        }
    }
    let mut filled = 0;
    loop {
        if stop.is_set() {
            return Ok(Filled::Stopped);
        }
        match source.read(&mut buffer[filled..]) {
            // The end comes again with the next read.
            Ok(0) if filled > 0 => return Ok(Filled::Bytes(filled)),
            Ok(0) => return Ok(Filled::End),
            Ok(n) => filled += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        }
        if filled == BUFFER_BYTES || !source.ready(Duration::ZERO)? {
            return Ok(Filled::Bytes(filled));
        }
    }
}

// ---- sinks ----

/// What the data loop hands to the sinks' thread; with each, the place on the tape behind it.
#[derive(Debug)]
pub(super) enum Job {
    Begin(StreamInfo),
    Block(Bytes),
    /// The stream is here, whole, and its source ended well.
    End,
    /// Nothing follows: say so when everything is done.
    Close,
}

/// What comes back.
#[derive(Debug)]
pub(super) enum Sunk {
    Took(Position),
    Ended(Result<(), String>),
}

/// Opens a node's sinks: called on the sinks' thread as each stream begins.
pub(super) type OpenSink = Box<dyn FnMut(&StreamInfo) -> Result<Box<dyn Sink>, String> + Send>;

/// The data loop's end of the sinks' thread.
#[derive(Debug)]
pub(super) struct Drain {
    /// `None` once the thread is to end.
    jobs: Option<crossbeam::Sender<(Position, Job)>>,
    sunk: mpsc::UnboundedReceiver<Sunk>,
    stop: Stop,
    ended: oneshot::Receiver<()>,
}

impl Drain {
    pub(super) fn start(open: OpenSink) -> std::io::Result<Self> {
        // Unbounded, because the window bounds what is in it: the ring forgets nothing the sink has not taken.
        let (jobs, rx) = crossbeam::unbounded();
        let (tx, sunk) = mpsc::unbounded_channel();
        let (done, ended) = oneshot::channel();
        let stop = Stop::new();
        let flag = stop.clone();
        thread::Builder::new().name("ka-sink".into()).spawn(move || {
            let result = Sinks { open, current: None, stop: flag }.run(&rx, &tx);
            let _ = tx.send(Sunk::Ended(result));
            drop(done);
        })?;
        Ok(Self { jobs: Some(jobs), sunk, stop, ended })
    }

    /// Hands over the next job. Nothing is taken after a failure or [`abort`](Self::abort).
    pub(super) fn push(&self, behind: Position, job: Job) {
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send((behind, job));
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Sunk> {
        match self.sunk.poll_recv(cx) {
            Poll::Ready(Some(sunk)) => Poll::Ready(sunk),
            _ => Poll::Pending,
        }
    }

    /// Its streams will not be completed.
    pub(super) fn abort(&mut self) {
        self.stop.set();
        self.jobs = None;
    }

    /// Waits until the thread has ended its sink, a little longer than a command may take to stop.
    pub(super) async fn ended(mut self) {
        self.abort();
        let _ = tokio::time::timeout(limits::STOP_GRACE + limits::CONNECT, &mut self.ended).await;
    }
}

/// The sinks' thread.
struct Sinks {
    open: OpenSink,
    current: Option<Box<dyn Sink>>,
    stop: Stop,
}

impl Sinks {
    fn run(
        mut self,
        jobs: &crossbeam::Receiver<(Position, Job)>,
        tx: &mpsc::UnboundedSender<Sunk>,
    ) -> Result<(), String> {
        let result = self.work(jobs, tx);
        if let Some(sink) = self.current.take() {
            sink.abort();
        }
        result
    }

    fn work(
        &mut self,
        jobs: &crossbeam::Receiver<(Position, Job)>,
        tx: &mpsc::UnboundedSender<Sunk>,
    ) -> Result<(), String> {
        let mut blocks = Vec::with_capacity(BATCH);
        let mut told = Position::START;
        while let Ok(mut next) = jobs.recv() {
            // Everything that is there goes to the sink in as few calls as possible.
            loop {
                let (behind, job) = next;
                if !matches!(job, Job::Block(_)) {
                    self.write(&mut blocks)?;
                }
                match job {
                    Job::Block(block) => blocks.push(block),
                    Job::Begin(info) => self.current = Some((self.open)(&info)?),
                    Job::End => self.finish()?,
                    Job::Close => return Ok(()),
                }
                let more = jobs.try_recv();
                if more.is_err() || blocks.len() == BATCH || behind.offset - told.offset >= TELL_BYTES {
                    self.write(&mut blocks)?;
                    told = behind;
                    let _ = tx.send(Sunk::Took(behind));
                }
                match more {
                    Ok(job) => next = job,
                    Err(_) => break,
                }
            }
        }
        Err("interrupted".into())
    }

    fn write(&mut self, blocks: &mut Vec<Bytes>) -> Result<(), String> {
        if self.stop.is_set() {
            return Err("interrupted".into());
        }
        if let (Some(sink), false) = (&mut self.current, blocks.is_empty()) {
            sink.write(blocks, &self.stop).map_err(|e| e.to_string())?;
        }
        blocks.clear();
        Ok(())
    }

    fn finish(&mut self) -> Result<(), String> {
        self.current.take().map_or(Ok(()), |sink| sink.finish(&self.stop))
    }
}

/// Blocks that go to a sink in one call at most.
const BATCH: usize = 64;

/// The data loop hears of a sink's progress this often at least, so that the window moves on.
const TELL_BYTES: u64 = limits::GRANT_STEP_BYTES;
