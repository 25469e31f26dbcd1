//! Frames as the loops of parents, children and control connections read them: the pieces in which a stream comes change
//! nothing, and nobody makes them keep more than a buffer.
//!
//! The first byte says whether the rest changes a true tape or is the stream itself; the second one begins the list of
//! pieces, which ends with a zero. What a parent says comes with tags and without.
#![no_main]

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::OnceLock;
use std::task::{Context, Poll, Waker};

use bytes::{BufMut, Bytes};
use ka_core::crypto::payload::PayloadKey;
use ka_core::limits::{BLOCK_BYTES, CONTROL_BYTES};
use ka_core::tape::chain::{Checker, Sealer, Segment, Statement, StreamEnd, StreamInfo, hash};
use ka_core::types::SessionId;
use ka_core::wire::TAG_BYTES;
use ka_core::wire::data::{GRANT_BYTES, Grant, HEADER_BYTES, Header, Kind};
use ka_core::{limits, tape, wire};
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncRead, ReadBuf};

// Private files that need only those three.
#[path = "../../ka-core/src/net/control/frames.rs"]
mod control;
#[path = "../../ka-core/src/net/data/frames.rs"]
mod frames;
#[allow(dead_code, reason = "sources have buffers of their own")]
#[path = "../../ka-core/src/net/data/pool.rs"]
mod pool;

use frames::{FromChild, FromParent};
use pool::{BUFFER_BYTES, ReadPool};

const SESSION: SessionId = SessionId([3; 16]);

/// A tape of one short stream, and the key that checks it.
struct True {
    key: [u8; 32],
    stream: Vec<u8>,
    tags: bool,
}

static TAPES: [OnceLock<True>; 2] = [const { OnceLock::new() }; 2];

fn true_tape(tags: bool) -> True {
    let mut sealer = Sealer::new(SESSION, [9; 32], PayloadKey::Plain);
    let mut stream = Vec::new();
    let mut frame = |kind, body: &[u8]| {
        let tag = if tags && kind != Kind::Beat { &[0; TAG_BYTES][..] } else { &[] };
        stream.extend(Header { kind, len: body.len() + tag.len() }.encode());
        stream.extend([body, tag].concat());
    };
    let info = StreamInfo { number: 0, name: "x".into(), metadata: Vec::new(), size: None };
    frame(Kind::Statement, &sealer.seal(&Statement::Begin(info)));
    let blocks = [vec![1; BLOCK_BYTES], vec![2; 100]];
    let hashes = blocks.iter().map(|block| hash(block)).collect();
    frame(Kind::Statement, &sealer.seal(&Statement::Segment(Segment { last_bytes: 100, hashes })));
    frame(Kind::Beat, &[]);
    blocks.iter().for_each(|block| frame(Kind::Block, block));
    let end = StreamEnd { length: BLOCK_BYTES as u64 + 100, failure: None };
    frame(Kind::Statement, &sealer.seal(&Statement::End(end)));
    frame(Kind::Statement, &sealer.seal(&Statement::Close));
    True { key: sealer.public_key(), stream, tags }
}

/// A stream that comes in pieces: `cuts` says in which, over and over.
#[derive(Clone)]
struct Pieces<'a> {
    rest: &'a [u8],
    cuts: std::iter::Cycle<std::slice::Iter<'a, u8>>,
    waits: bool,
}

impl<'a> Pieces<'a> {
    fn new(rest: &'a [u8], cuts: &'a [u8]) -> Self {
        Self { rest, cuts: cuts.iter().cycle(), waits: false }
    }

    fn next(&mut self, most: usize) -> &'a [u8] {
        // Small and large ones; without cuts, all at once.
        let cut = self.cuts.next().map_or(usize::MAX, |n| usize::from(*n).pow(2));
        let (now, later) = self.rest.split_at(cut.max(1).min(most).min(self.rest.len()));
        self.rest = later;
        now
    }
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.waits = !self.waits;
        if self.waits {
            return Poll::Pending;
        }
        let piece = self.next(buf.remaining());
        buf.put_slice(piece);
        Poll::Ready(Ok(()))
    }
}

/// The words that a node takes from its parent: the frames, how far it came, and why it went no further.
fn from_parent(mut pieces: Pieces<'_>, tape: &True) -> (Vec<(Kind, Bytes)>, u64, Option<String>) {
    let mut checker = Checker::new(SESSION, &tape.key, PayloadKey::Plain).expect("a key");
    let (mut from, mut pool, mut taken) = (FromParent::new(tape.tags), ReadPool::default(), Vec::new());
    let mut why = None;
    while why.is_none() {
        let (buffer, most) = from.room(&checker, &mut pool);
        let capacity = buffer.capacity();
        assert!(most > 0 && buffer.len() + most <= capacity && capacity <= BUFFER_BYTES);
        let piece = pieces.next(most);
        if piece.is_empty() {
            break;
        }
        buffer.put_slice(piece);
        assert_eq!(buffer.capacity(), capacity, "what was read had room");
        why = take_frames(&mut from, tape.tags, &mut checker, &mut taken).err();
        assert!(
            (1..=HEADER_BYTES + limits::SEALED_STATEMENT_BYTES + TAG_BYTES).contains(&from.rest(&checker))
        );
        assert!(why.is_some() || from.is_empty() || from.rest(&checker) >= 1);
    }
    (taken, checker.position().item, why)
}

fn take_frames(
    from: &mut FromParent,
    tags: bool,
    checker: &mut Checker,
    taken: &mut Vec<(Kind, Bytes)>,
) -> Result<(), String> {
    while let Some((kind, mut body)) = from.next().map_err(|e| e.to_string())? {
        taken.push((kind, body.clone()));
        if tags && matches!(kind, Kind::Block | Kind::Statement) {
            body.truncate(body.len().checked_sub(TAG_BYTES).ok_or("no tag")?);
        }
        match kind {
            Kind::Block => checker.block(&body).map_err(|e| e.to_string())?,
            Kind::Statement => drop(checker.statement(&body).map_err(|e| e.to_string())?),
            Kind::Beat => {}
            _ => return Err("no place in the tape".into()),
        }
    }
    Ok(())
}

/// The words that a parent takes from a child.
fn from_child(mut pieces: Pieces<'_>) -> (Vec<Grant>, Option<String>) {
    let (mut from, mut taken) = (FromChild::new(), Vec::new());
    loop {
        let buffer = from.room();
        assert!(buffer.capacity() > buffer.len() && buffer.capacity() <= 3 * 4096);
        let piece = pieces.next(buffer.capacity() - buffer.len());
        if piece.is_empty() {
            return (taken, None);
        }
        buffer.put_slice(piece);
        loop {
            match from.next(GRANT_BYTES) {
                Ok(Some(body)) => taken.push(Grant::decode(&body).expect("it has the length of one")),
                Ok(None) => break,
                Err(why) => return (taken, Some(why.to_string())),
            }
        }
    }
}

/// The words that either end of a control connection takes from the other one.
fn from_peer(mut pieces: Pieces<'_>) -> (Vec<Vec<u8>>, Option<String>) {
    let mut taken = Vec::new();
    loop {
        match at_once(control::read(&mut pieces)) {
            Ok(Some(message)) => {
                assert!(message.len() <= CONTROL_BYTES + TAG_BYTES);
                taken.push(message);
            }
            Ok(None) => return (taken, None),
            Err(why) => return (taken, Some(why)),
        }
    }
}

/// The result of a future that never waits for anybody.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(result) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return result;
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((how, rest)) = bytes.split_first() else { return };
    let cut = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
    let (cuts, rest) = (&rest[..cut], rest.get(cut + 1..).unwrap_or_default());
    let tags = how & 4 != 0;
    let tape = TAPES[usize::from(tags)].get_or_init(|| true_tape(tags));
    if how % 4 == 0 {
        // A place, and what is changed there; or where the stream ends.
        let mut stream = tape.stream.clone();
        for change in rest.chunks_exact(4) {
            let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % stream.len().max(1);
            match change[2] {
                0 => stream.truncate(at),
                // What is beyond the long block, from the end.
                1 => stream
                    .iter_mut()
                    .rev()
                    .take(at % 512 + 1)
                    .last()
                    .into_iter()
                    .for_each(|byte| *byte ^= change[3]),
                _ => stream.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= change[3]),
            }
        }
        let (taken, item, why) = from_parent(Pieces::new(&stream, cuts), tape);
        assert!(stream != tape.stream || (item == 6 && why.is_none()), "{item} {why:?}");
        assert_eq!((taken, item, why), from_parent(Pieces::new(&stream, &[]), tape));
        return;
    }
    let (in_pieces, whole) = (Pieces::new(rest, cuts), Pieces::new(rest, &[]));
    match how % 4 {
        1 => assert_eq!(from_parent(in_pieces, tape), from_parent(whole, tape)),
        2 => assert_eq!(from_child(in_pieces), from_child(whole)),
        _ => assert_eq!(from_peer(in_pieces), from_peer(whole)),
    }
});
