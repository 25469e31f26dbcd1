//! The threads at the two ends: one reads the sources, one feeds the sinks. They block, the data loop does not.
//!
//! ```text
//!   Source ──read──▶ Fed … Fed ──bounded──▶ data loop ──▶ ring … ──▶ Job … Job ──in batches──▶ Sink
//! ```
//!
//! The payload is encrypted and opened here: these threads have the bytes in their hands anyway, one node's beside
//! another's.
//!
//! A thread is told to give up by its [`Stop`], and then ends its source or sink itself, because only it can.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel as crossbeam;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Sleep};

use super::pool::{LEASE_BYTES, Lease, LeasePool};
use crate::crypto::payload::{Keystream, Part, PayloadKey};
use crate::limits::{self, BLOCK_BYTES};
use crate::net::host::threads::Threads;
use crate::net::session::Stream;
use crate::stream::{ReadAt, Sink, Source, Spool, Stop};
use crate::tape::chain::StreamInfo;
use crate::types::Position;

/// The longest time that a thread waits before it looks at its [`Stop`] again.
const LOOK: Duration = Duration::from_millis(100);

// ---- sources ----

/// A message from the sources' thread.
pub(crate) enum Fed {
    /// With its bytes once more, if they can be read again.
    Begin(StreamInfo, Option<Box<dyn ReadAt>>),
    Bytes(Bytes),
    /// No stream can be read again after all, for this reason.
    RereadFailed(String),
    /// The stream has ended; well, or with these words.
    End(Result<(), String>),
    /// No stream follows.
    Close,
}

/// The data loop's end of the sources' thread.
pub(crate) struct Feed {
    fed: mpsc::Receiver<Fed>,
    /// Whether every stream can be read again.
    reread: bool,
    spools: bool,
    /// The last word has come.
    over: bool,
    stop: Stop,
    /// The last message of the thread, at its end: a spool that could not be kept is worth a word.
    ended: oneshot::Receiver<Result<(), String>>,
}

impl Feed {
    /// Starts reading the streams, one after the other, a few buffers ahead of whoever takes them. What cannot be read
    /// again goes to the spool, too, if there is one.
    pub(crate) fn start(
        streams: Vec<Stream>,
        spool: Option<Spool>,
        payload: PayloadKey,
        threads: &Threads,
    ) -> io::Result<Self> {
        const AHEAD: usize = 4;
        let streams: Vec<_> = streams.into_iter().map(|s| (s.source.again(), s)).collect();
        let spool = spool.filter(|_| streams.iter().any(|(again, _)| again.is_none()));
        let spools = spool.is_some();
        let reread = spools || streams.iter().all(|(again, _)| again.is_some());
        let (tx, fed) = mpsc::channel(AHEAD);
        let (done, ended) = oneshot::channel();
        let stop = Stop::new();
        let flag = stop.clone();
        threads.start("ka-source", move || {
            let _ = done.send(read_all(streams, spool, &payload, &tx, &flag));
        })?;
        Ok(Self { fed, reread, spools, over: false, stop, ended })
    }

    /// The next message, if one is there.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Fed>> {
        let fed = ready!(self.fed.poll_recv(cx));
        if std::mem::replace(&mut self.over, matches!(fed, None | Some(Fed::Close))) {
            return Poll::Ready(None);
        }
        // Without a last word it has panicked, and nobody may wait for that.
        Poll::Ready(fed.or_else(|| Some(Fed::End(Err("its thread has ended".into())))))
    }

    /// Whether every stream can be read again.
    pub(crate) fn reread(&self) -> bool {
        self.reread
    }

    /// Ends the thread and whatever it reads from; waits for it a little longer than a command may take to stop. What
    /// went wrong with the spool is worth a word.
    pub(crate) async fn stop(mut self) -> Result<(), String> {
        self.fed.close();
        self.stop.set();
        match tokio::time::timeout(limits::STOP_GRACE + limits::CONNECT_TIMEOUT, self.ended).await {
            Ok(Ok(result)) => result,
            Err(_) if self.spools => {
                Err("what was read is still being written to the spool: it is not kept".into())
            }
            _ => Ok(()),
        }
    }
}

fn read_all(
    streams: Vec<(Option<Box<dyn ReadAt>>, Stream)>,
    mut spool: Option<Spool>,
    payload: &PayloadKey,
    tx: &mpsc::Sender<Fed>,
    stop: &Stop,
) -> Result<(), String> {
    let mut streams = streams.into_iter();
    let mut whole = true;
    for (number, (again, stream)) in (0..).zip(&mut streams) {
        let Stream { name, metadata, source } = stream;
        let info = StreamInfo { number, name, metadata, size: source.size() };
        let mut none = None;
        let (again, spool) = match again {
            Some(again) => (Some(again), &mut none),
            None => (spool.as_ref().map(Spool::again), &mut spool),
        };
        if tx.blocking_send(Fed::Begin(info, again)).is_err() {
            source.abort();
            whole = false;
            break;
        }
        let result = read_one(source, spool, payload.keystream(number, Part::Bytes), tx, stop);
        whole = matches!(result, Some(Ok(())));
        if result.is_none_or(|result| tx.blocking_send(Fed::End(result)).is_err()) || !whole {
            break;
        }
    }
    // Streams that nobody will read: each may be a command that already runs.
    streams.for_each(|(_, s)| s.source.abort());
    let _ = tx.blocking_send(Fed::Close);
    // Nobody but the disk waits for this.
    spool.filter(|_| whole).map_or(Ok(()), |spool| spool.finish(&Stop::new())).map_err(|e| e.to_string())
}

/// Reads one source to its end; `None` when nobody wants it any more. A spool that fails is given up.
fn read_one(
    mut source: Box<dyn Source>,
    spool: &mut Option<Spool>,
    mut keystream: Option<Keystream>,
    tx: &mpsc::Sender<Fed>,
    stop: &Stop,
) -> Option<Result<(), String>> {
    let pool = LeasePool::default();
    loop {
        let mut lease = pool.lease();
        let filled = match fill(source.as_mut(), lease.bytes_mut(), stop) {
            Ok(Filled::Bytes(n)) => n,
            Ok(Filled::End) => return Some(source.finish().map_err(|e| e.to_string())),
            Ok(Filled::Stopped) => {
                source.abort();
                return None;
            }
            Err(e) => {
                source.abort();
                return Some(Err(e.to_string()));
            }
        };
        let spooled = spool.as_mut().map_or(Ok(()), |spool| spool.write(&lease.bytes_mut()[..filled]));
        let failed = spooled.err().map(|e| {
            *spool = None;
            Fed::RereadFailed(e.to_string())
        });
        if let Some(keystream) = &mut keystream {
            keystream.apply(&mut lease.bytes_mut()[..filled]);
        }
        let bytes = Fed::Bytes(lease.freeze(filled));
        if [failed, Some(bytes)].into_iter().flatten().any(|fed| tx.blocking_send(fed).is_err()) {
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
fn fill(source: &mut dyn Source, buffer: &mut [u8], stop: &Stop) -> io::Result<Filled> {
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
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        }
        if filled == LEASE_BYTES || !source.ready(Duration::ZERO)? {
            return Ok(Filled::Bytes(filled));
        }
    }
}

// ---- sinks ----

/// A message from the data loop to the sinks' thread.
#[derive(Debug)]
pub(crate) enum Job {
    Begin(StreamInfo),
    Block(Bytes),
    /// The stream is here, whole, and its source ended well.
    End,
    /// Nothing follows: say so when everything is done.
    Close,
}

/// A message from the sinks' thread.
#[derive(Debug)]
pub(crate) enum Sunk {
    Took(Position),
    Ended(Result<(), String>),
}

/// Opens a node's sinks: called on the sinks' thread as each stream begins.
pub(crate) type OpenSink = Box<dyn FnMut(&StreamInfo) -> io::Result<Box<dyn Sink>> + Send>;

/// Some jobs; with each, the place on the tape behind it.
type Batch = Vec<(Position, Job)>;

/// The data loop's end of the sinks' thread.
///
/// Waking the thread for every block would cost more than the block: jobs are collected, and go over when
/// there are enough of them, when a stream ends, or when they have waited for [`LINGER`].
#[derive(Debug)]
pub(crate) struct Drain {
    /// `None` once the thread is to end.
    jobs: Option<crossbeam::Sender<Batch>>,
    batch: Batch,
    /// Jobs that go over at once.
    enough: usize,
    /// When fewer may.
    linger: Pin<Box<Sleep>>,
    sunk: mpsc::UnboundedReceiver<Sunk>,
    /// Nothing more comes from the thread.
    over: bool,
    stop: Stop,
    ended: oneshot::Receiver<()>,
}

/// The time that a few blocks wait for more before they go to the sink. No node downstream waits for a sink.
const LINGER: Duration = Duration::from_millis(50);

impl Drain {
    /// Starts the thread, for a window of so many bytes.
    pub(crate) fn start(
        open: OpenSink,
        window_bytes: u64,
        payload: PayloadKey,
        threads: &Threads,
    ) -> io::Result<Self> {
        // Unbounded, because the window bounds what is in it: the ring forgets nothing the sink has not taken.
        let (jobs, rx) = crossbeam::unbounded();
        let (tx, sunk) = mpsc::unbounded_channel();
        let (done, ended) = oneshot::channel();
        let stop = Stop::new();
        let flag = stop.clone();
        threads.start("ka-sink", move || {
            let result = Sinks {
                open,
                payload,
                keystream: None,
                pool: LeasePool::default(),
                current: None,
                stop: flag,
            }
            .run(&rx, &tx);
            let _ = tx.send(Sunk::Ended(result.map_err(|e| e.to_string())));
            drop(done);
        })?;
        // A small part of the window, so that it never fills up with what only lingers.
        let enough = usize::try_from(window_bytes / 8 / BLOCK_BYTES as u64).unwrap_or(BATCH).clamp(1, BATCH);
        let linger = Box::pin(tokio::time::sleep(Duration::ZERO));
        Ok(Self { jobs: Some(jobs), batch: Vec::new(), enough, linger, sunk, over: false, stop, ended })
    }

    /// Hands over the next job. Nothing is taken after a failure or [`abort`](Self::abort).
    pub(crate) fn push(&mut self, behind: Position, job: Job) {
        let statement = !matches!(job, Job::Block(_));
        self.batch.push((behind, job));
        if statement || self.batch.len() >= self.enough {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(batch);
        }
        self.linger.as_mut().reset(Instant::now() + LINGER);
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Sunk> {
        if !self.batch.is_empty() && self.linger.as_mut().poll(cx).is_ready() {
            self.flush();
        }
        if self.over {
            return Poll::Pending;
        }
        // Without a last word it has panicked, and nobody may wait for that.
        let dead = || Sunk::Ended(Err("its thread has ended".into()));
        let sunk = ready!(self.sunk.poll_recv(cx)).unwrap_or_else(dead);
        self.over = matches!(sunk, Sunk::Ended(_));
        Poll::Ready(sunk)
    }

    /// Its streams will not be completed.
    pub(crate) fn abort(&mut self) {
        self.stop.set();
        self.jobs = None;
    }

    /// Waits until the thread has ended its sink, a little longer than a command may take to stop.
    pub(crate) async fn ended(mut self) {
        self.abort();
        let _ = tokio::time::timeout(limits::STOP_GRACE + limits::CONNECT_TIMEOUT, &mut self.ended).await;
    }
}

/// The sinks' thread.
struct Sinks {
    open: OpenSink,
    payload: PayloadKey,
    /// For the next bytes of the current stream, if they are encrypted.
    keystream: Option<Keystream>,
    pool: LeasePool,
    current: Option<Box<dyn Sink>>,
    stop: Stop,
}

impl Sinks {
    fn run(mut self, jobs: &crossbeam::Receiver<Batch>, tx: &mpsc::UnboundedSender<Sunk>) -> io::Result<()> {
        let result = self.work(jobs, tx);
        if let Some(sink) = self.current.take() {
            sink.abort();
        }
        result
    }

    fn work(
        &mut self,
        jobs: &crossbeam::Receiver<Batch>,
        tx: &mpsc::UnboundedSender<Sunk>,
    ) -> io::Result<()> {
        let mut blocks = Vec::with_capacity(BATCH);
        while let Ok(batch) = jobs.recv() {
            let Some((behind, _)) = batch.last() else { continue };
            let behind = *behind;
            let mut taken = None;
            for (upto, job) in batch {
                if !matches!(job, Job::Block(_)) {
                    self.write(&mut blocks)?;
                }
                match job {
                    Job::Block(block) => blocks.push(block),
                    Job::Begin(info) => {
                        self.keystream = self.payload.keystream(info.number, Part::Bytes);
                        self.current = Some((self.open)(&info)?);
                    }
                    Job::End => {
                        // To make it last may take long, and is told from a sink that takes nothing.
                        taken.map(|upto| tx.send(Sunk::Took(upto)));
                        self.finish()?;
                    }
                    Job::Close => return Ok(()),
                }
                taken = Some(upto);
            }
            self.write(&mut blocks)?;
            let _ = tx.send(Sunk::Took(behind));
        }
        Err(interrupted())
    }

    fn write(&mut self, blocks: &mut Vec<Bytes>) -> io::Result<()> {
        if self.stop.is_set() {
            return Err(interrupted());
        }
        if let (Some(sink), false) = (&mut self.current, blocks.is_empty()) {
            if let Some(keystream) = &mut self.keystream {
                let plain = opened(keystream, blocks, self.pool.lease());
                blocks.clear();
                blocks.push(plain);
            }
            sink.write(blocks, &self.stop)?;
        }
        blocks.clear();
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.current.take().map_or(Ok(()), |sink| sink.finish(&self.stop))
    }
}

fn interrupted() -> io::Error {
    io::Error::other("interrupted")
}

/// The bytes of these blocks, decrypted. The blocks are not changed: children may still get them.
fn opened(keystream: &mut Keystream, blocks: &[Bytes], mut lease: Lease) -> Bytes {
    let mut end = 0;
    for block in blocks {
        let begin = end;
        end += block.len();
        keystream.apply_to(block, &mut lease.bytes_mut()[begin..end]);
    }
    lease.freeze(end)
}

/// Blocks that go to a sink in one call at most: half a mebibyte.
const BATCH: usize = (512 << 10) / BLOCK_BYTES;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// A source or a sink with a fault of its own.
    struct Broken;

    impl Source for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            panic!("a fault, as the test wants it");
        }
    }

    impl Sink for Broken {
        fn write(&mut self, _: &[Bytes], _: &Stop) -> io::Result<()> {
            panic!("a fault, as the test wants it");
        }
        fn finish(self: Box<Self>, _: &Stop) -> io::Result<()> {
            Ok(())
        }
        fn abort(self: Box<Self>) {}
    }

    #[tokio::test]
    async fn a_source_that_panics_has_failed() {
        let stream = Stream { name: "x".into(), metadata: Vec::new(), source: Box::new(Broken) };
        let mut feed = Feed::start(vec![stream], None, PayloadKey::Plain, &Threads::default()).unwrap();
        assert!(matches!(poll_fn(|cx| feed.poll(cx)).await, Some(Fed::Begin(..))));
        assert!(matches!(poll_fn(|cx| feed.poll(cx)).await, Some(Fed::End(Err(_)))));
        assert!(poll_fn(|cx| feed.poll(cx)).await.is_none());
    }

    #[tokio::test]
    async fn a_sink_that_panics_has_failed() {
        let open: OpenSink = Box::new(|_| Ok(Box::new(Broken)));
        let mut drain = Drain::start(open, 1 << 20, PayloadKey::Plain, &Threads::default()).unwrap();
        let info = StreamInfo { number: 0, name: "x".into(), metadata: Vec::new(), size: None };
        drain.push(Position::START, Job::Begin(info));
        drain.push(Position::START, Job::Block(Bytes::from_static(b"x")));
        drain.push(Position::START, Job::End);
        loop {
            match poll_fn(|cx| drain.poll(cx)).await {
                Sunk::Took(_) => {}
                Sunk::Ended(result) => break assert!(result.is_err()),
            }
        }
    }
}
