//! A child's connection: what it says of itself comes in, the tape goes out.
//!
//! Absent: what it may be sent. That is the node's window's.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;

use super::frames::FromChild;
use super::place::{Place, Tape};
use crate::limits::{self, BLOCK_BYTES};
use crate::net::link::dial::Link;
use crate::net::link::frames::Words;
use crate::net::noise::tags::Tag;
use crate::net::noise::transport::CHANGED;
use crate::proto::Node;
use crate::proto::node::Input;
use crate::tape::ring::{Item, Ring};
use crate::types::{LinkId, Offset, Position, Watermarks};
use crate::wire::control::LinkFault;
use crate::wire::data::{GRANT_BYTES, Grant, HEADER_BYTES, Header, Kind};

/// When so little is left of what was had from the source again, more is asked for: a segment.
const AGAIN_BYTES: u64 = (limits::SEGMENT_BLOCKS * BLOCK_BYTES) as u64;

/// Items that go to a child's socket in one call at most.
const WRITE_ITEMS: usize = 32;

/// A child's connection.
pub(crate) struct Child {
    id: LinkId,
    stream: TcpStream,
    words: Words,
    out: Out,
    /// The items that come next, read from the source again because the ring has forgotten them; and whether more is
    /// asked for.
    again: Ring,
    asked: bool,
    /// The last watermarks that the child sent, of itself and those below it.
    watermarks: Watermarks,
    upto: Offset,
    /// The part of those that is known here, below the child's own place: from there the next places are looked for.
    known: Watermarks,
    /// The end of the tape here as the node was told it last, if the child is ahead of that.
    ahead: Option<Position>,
    /// Whether anything was written since [`live`](Self::live).
    wrote: bool,
    grants: FromChild,
}

/// The state of a child's connection.
struct Out {
    /// The bytes that go before the next item: the word that the child is accepted, or a sign of life.
    head: BytesMut,
    /// The next item to write.
    next: Position,
    /// Bytes of its frame that are written already.
    written: usize,
    /// The tags of the next items, as far as they were made.
    tags: VecDeque<Tag>,
}

impl Child {
    /// One whose claim was [believed](Tape::believe); the tape is here up to `end`.
    pub(crate) fn new(id: LinkId, link: Link, claim: Grant, end: Position) -> Self {
        let Grant { watermarks, upto } = claim;
        let Link { stream, mut words } = link;
        let head = BytesMut::from(&words.accept()[..]);
        Self {
            id,
            stream,
            words,
            out: Out { head, next: watermarks.held(), written: 0, tags: VecDeque::new() },
            again: Ring::new(),
            asked: false,
            watermarks,
            upto,
            known: Watermarks::all(Position::END),
            ahead: (watermarks.held().item > end.item).then_some(end),
            wrote: true,
            grants: FromChild::new(),
        }
    }

    /// Its link.
    pub(crate) fn id(&self) -> LinkId {
        self.id
    }

    /// The next item it is to be sent.
    pub(crate) fn next(&self) -> Position {
        self.out.next
    }

    /// Reads what it says, writes what it may have; what that means goes to `happened`.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        tape: Tape<'_>,
        node: &Node,
        happened: &mut VecDeque<Input>,
    ) -> Result<(), LinkFault> {
        self.catch_up(tape, happened)?;
        self.poll_read(cx, tape, happened)?;
        let before = self.out.next;
        let written = self.poll_write(cx, tape.ring, node);
        if self.out.next > before {
            happened.push_back(Input::Sent(self.id, self.out.next));
        }
        written.map_err(|e| broken(&e))
    }

    /// Moves the place of a child that is ahead as far as the tape is here. Once it has come to the place that the
    /// child claims, that must be one.
    fn catch_up(&mut self, tape: Tape<'_>, happened: &mut VecDeque<Input>) -> Result<(), LinkFault> {
        let (claimed, end) = (self.watermarks.held(), tape.ring.end());
        if self.ahead.is_none_or(|told| told == end) {
            return Ok(());
        }
        let there = match tape.place(Position::END, claimed) {
            Place::Ahead => end,
            Place::Held => claimed,
            Place::Forgotten | Place::Nowhere => return Err(cannot_be()),
        };
        self.ahead = (there != claimed).then_some(end);
        happened.push_back(Input::Sent(self.id, there));
        let grant = self.believe(tape, there)?;
        happened.push_back(Input::Granted(self.id, grant));
        Ok(())
    }

    /// The last grant of the child, as far as it can be known here; `held` is the child's own place.
    fn believe(&mut self, tape: Tape<'_>, held: Position) -> Result<Grant, LinkFault> {
        let mut watermarks = tape.watermarks_below(&self.known, &self.watermarks).ok_or_else(cannot_be)?;
        watermarks.0[0] = held;
        self.known = watermarks;
        Ok(Grant { watermarks, upto: self.upto })
    }

    /// Reads grants, until none is left.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        tape: Tape<'_>,
        happened: &mut VecDeque<Input>,
    ) -> Result<(), LinkFault> {
        loop {
            let Poll::Ready(read) = pin!(self.stream.read_buf(self.grants.room())).poll(cx) else {
                return Ok(());
            };
            match read {
                Ok(0) => return Err(LinkFault::Broken("it closed the connection".into())),
                Ok(_) => {}
                Err(e) => return Err(broken(&e)),
            }
            let mut latest = None;
            let body_bytes = self.words.body_bytes(GRANT_BYTES);
            let wrong = |_| LinkFault::Tainted("not a child's message".into());
            while let Some(body) = self.grants.next(body_bytes).map_err(wrong)? {
                // Each is opened, for its number counts.
                let said = self.words.hear(&body).ok_or_else(|| LinkFault::Broken(CHANGED.into()))?;
                latest = Some(Grant::decode(&said).map_err(wrong)?);
            }
            if let Some(grant) = latest {
                let (before, now) = (self.watermarks.held(), grant.watermarks.held());
                let held = match self.ahead {
                    // Nothing was sent to it, so it holds what it held.
                    Some(told) => (now == before).then_some(told),
                    // It holds what it held before, no more than it was sent, and ends where an item does.
                    None => {
                        let known = matches!(tape.place(before, now), Place::Held | Place::Forgotten);
                        (known && before <= now && now <= self.out.next).then_some(now)
                    }
                };
                let held = held.ok_or_else(cannot_be)?;
                (self.watermarks, self.upto) = (grant.watermarks, grant.upto);
                let grant = self.believe(tape, held)?;
                happened.push_back(Input::Granted(self.id, grant));
            }
        }
    }

    /// Writes items until the socket, the credit or the ring has no more.
    fn poll_write(&mut self, cx: &mut Context<'_>, ring: &Ring, node: &Node) -> io::Result<()> {
        while !self.out.head.is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.out.head) {
                Poll::Ready(n) => self.out.head.advance(n?),
                Poll::Pending => return Ok(()),
            }
            self.wrote = true;
        }
        if self.ahead.is_some() {
            return Ok(());
        }
        let Some((_, upto)) = node.sendable(self.id) else { return Ok(()) };
        loop {
            let ring = if self.out.next.item < ring.first().item { &self.again } else { ring };
            let mut items: [Option<&Item>; WRITE_ITEMS] = [None; WRITE_ITEMS];
            let mut headers = [[0; HEADER_BYTES]; WRITE_ITEMS];
            let mut behind = self.out.next;
            let mut count = 0;
            for (item, (slot, header)) in
                ring.from(self.out.next.item).zip(items.iter_mut().zip(headers.iter_mut()))
            {
                behind = behind.after(item.payload());
                if behind.offset > upto {
                    break;
                }
                let of_frame = header_of(item, &self.words);
                if self.out.tags.len() == count {
                    self.out.tags.extend(self.words.tag(of_frame, &item.hash()));
                }
                *header = of_frame.encode();
                *slot = Some(item);
                count += 1;
            }
            if count == 0 {
                return Ok(());
            }
            let mut slices = [IoSlice::new(&[]); 3 * WRITE_ITEMS];
            let mut tags = self.out.tags.iter();
            let frames = headers.iter().zip(items.iter().flatten());
            for ((header, item), parts) in frames.zip(slices.chunks_exact_mut(3)) {
                (parts[0], parts[1]) = (IoSlice::new(header), IoSlice::new(item.body()));
                parts[2] = IoSlice::new(tags.next().map_or(&[], |tag| tag));
            }
            let mut slices = &mut slices[..3 * count];
            IoSlice::advance_slices(&mut slices, self.out.written);
            match Pin::new(&mut self.stream).poll_write_vectored(cx, slices) {
                Poll::Ready(n) => self.out.advance(n?, self.words.body_bytes(0), items.iter().flatten()),
                Poll::Pending => return Ok(()),
            }
            self.wrote = true;
        }
    }

    /// The item that is now asked for, if the ring has forgotten it and little is left of what came before.
    pub(crate) fn wants_again(&mut self, ring: &Ring) -> Option<u64> {
        let next = self.out.next;
        if next.item >= ring.first().item {
            self.again = Ring::new();
            return None;
        }
        self.again.forget(next);
        let came = self.again.end().item.max(next.item);
        let left = self.again.end().offset - next.offset;
        let wants = !self.asked && left < AGAIN_BYTES && came < ring.first().item;
        self.asked |= wants;
        wants.then_some(came)
    }

    /// Takes a part of the tape that was asked for.
    pub(crate) fn take_again(&mut self, part: &Ring) {
        self.asked = false;
        if self.again.end() != part.first() {
            self.again = Ring::from_place(part.first());
        }
        part.from(part.first().item).for_each(|item| self.again.push(item.clone()));
    }

    /// Says that this node lives, if nothing else was said since the last time.
    pub(crate) fn live(&mut self) {
        if !std::mem::take(&mut self.wrote) && self.out.written == 0 && self.out.head.is_empty() {
            self.out.head.extend_from_slice(&self.words.say(Kind::Beat, &[]));
        }
    }
}

fn cannot_be() -> LinkFault {
    LinkFault::Tainted("a grant that cannot be".into())
}

impl Out {
    /// So many more bytes of these items are written, each with a tag of so many bytes.
    fn advance<'a>(&mut self, bytes: usize, tag_bytes: usize, items: impl Iterator<Item = &'a &'a Item>) {
        self.written += bytes;
        for item in items {
            let frame = HEADER_BYTES + item.body().len() + tag_bytes;
            if self.written < frame {
                break;
            }
            self.written -= frame;
            self.tags.pop_front();
            self.next = self.next.after(item.payload());
        }
    }
}

fn header_of(item: &Item, words: &Words) -> Header {
    let kind = match item {
        Item::Statement(_) => Kind::Statement,
        Item::Block(..) => Kind::Block,
    };
    Header { kind, len: words.body_bytes(item.body().len()) }
}

pub(crate) fn broken(e: &io::Error) -> LinkFault {
    LinkFault::Broken(e.to_string())
}
