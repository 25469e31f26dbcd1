//! The data plane of one node: the tape comes in, is checked, and goes on.
//!
//! ```text
//!   parent socket ─read─▶ frames ─check─▶ ring ─write─▶ child sockets
//!      or source  ─seal─────────────────▶  └───jobs───▶ sink's thread
//! ```
//!
//! One [`poll`](Relay::poll) does everything that can be done without waiting: it is called by the driver's task
//! only, and reads, checks and forwards a block in one go. What it did it says as [`Input`]s for the node; what it
//! may do it asks the node's window. It decides nothing.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;

use super::child::Child;
use super::child::broken;
use super::ends::{Drain, Feed, Job, Sunk};
use super::frames::FromParent;
use super::low_water::set_receive_low_water;
use super::place::Tape;
use super::pool::ReadPool;
use super::reread::Again;
use super::root::Root;
use crate::limits;
use crate::net::host::threads::Threads;
use crate::net::link::dial::Link;
use crate::net::link::frames::Words;
use crate::net::noise::transport::CHANGED;
use crate::proto::Node;
use crate::proto::node::Input;
use crate::tape::chain::{Checker, Sealer, Statement, StreamEnd, StreamInfo};
use crate::tape::index::Index;
use crate::tape::ring::{Item, Ring};
use crate::types::{LinkId, Position, printable};
use crate::wire::Malformed;
use crate::wire::control::LinkFault;
use crate::wire::data::{Grant, Kind};

/// The data plane.
pub(crate) struct Relay {
    ring: Ring,
    origin: Origin,
    children: Vec<Child>,
    drain: Option<Drain>,
    /// The events for the node.
    happened: VecDeque<Input>,
    /// The parent has sent something, and the node was not told yet.
    heard: Option<LinkId>,
    /// Streams that began, for the application.
    begun: Vec<StreamInfo>,
}

/// The origin of the tape.
enum Origin {
    /// The root's own sources.
    Source(Box<Root>),
    /// A parent, by and by several; what was checked stays checked.
    Parent { checker: Box<Checker>, link: Option<Box<ParentLink>>, pool: ReadPool },
}

impl Origin {
    fn index(&self) -> Option<&Index> {
        match self {
            Self::Source(root) => root.again().map(Again::index),
            Self::Parent { .. } => None,
        }
    }
}

impl Relay {
    /// The root's: seals what comes from the sources.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn root(sealer: Sealer, feed: Feed, threads: &Threads) -> io::Result<Self> {
        Ok(Self::new(Origin::Source(Box::new(Root::new(sealer, feed, threads)?)), None))
    }

    /// A node's: checks what comes from the parent, and feeds the sinks.
    pub(crate) fn node(checker: Checker, drain: Drain) -> Self {
        let origin = Origin::Parent { checker: Box::new(checker), link: None, pool: ReadPool::default() };
        Self::new(origin, Some(drain))
    }

    fn new(origin: Origin, drain: Option<Drain>) -> Self {
        Self {
            ring: Ring::new(),
            origin,
            children: Vec::new(),
            drain,
            happened: VecDeque::new(),
            heard: None,
            begun: Vec::new(),
        }
    }

    /// The link to the parent is up.
    pub(crate) fn set_parent(&mut self, id: LinkId, parent: Link) {
        if let Origin::Parent { link, .. } = &mut self.origin {
            let frames = FromParent::new(parent.words.are_sealed());
            *link = Some(Box::new(ParentLink {
                id,
                stream: parent.stream,
                words: parent.words,
                frames,
                grants: BytesMut::new(),
                wakes_for: 1,
                heard: true,
            }));
        }
    }

    /// A child is accepted, whose claim was [believed](Self::believe) just now.
    pub(crate) fn add_child(&mut self, id: LinkId, link: Link, claim: Grant) {
        self.children.push(Child::new(id, link, claim, self.ring.end()));
    }

    /// The credible part of the claim of a child that wants to attach; `None` if its place is none of this tape.
    pub(crate) fn believe(&self, claim: Grant) -> Option<Grant> {
        self.tape().believe(claim)
    }

    fn tape(&self) -> Tape<'_> {
        Tape { ring: &self.ring, index: self.origin.index() }
    }

    /// Closes a link, whoever is at its other end.
    pub(crate) fn drop_link(&mut self, id: LinkId) {
        self.children.retain(|c| c.id() != id);
        if let Origin::Parent { link, .. } = &mut self.origin {
            link.take_if(|l| l.id == id);
        }
    }

    /// Tells the parent how far this node is. (The source is asked for more as the window grows, and needs no telling.)
    pub(crate) fn grant(&mut self, grant: Grant) {
        if let Origin::Parent { link: Some(link), .. } = &mut self.origin {
            let said = link.words.say(Kind::Grant, &grant.encode());
            link.grants.extend_from_slice(&said);
        }
    }

    /// Lets idle children know that this node lives, and hears of less than a whole frame from a silent parent.
    pub(crate) fn live(&mut self) {
        self.children.iter_mut().for_each(Child::live);
        if let Origin::Parent { link: Some(link), .. } = &mut self.origin {
            link.live();
        }
    }

    /// Drops what nobody needs any more.
    pub(crate) fn forget(&mut self, upto: Position) {
        self.ring.forget(upto);
    }

    /// The sink's stream will not be completed.
    pub(crate) fn abort_sink(&mut self) {
        if let Some(drain) = &mut self.drain {
            drain.abort();
        }
    }

    /// Takes the next event for the node.
    pub(crate) fn happened(&mut self) -> Option<Input> {
        self.happened.pop_front()
    }

    /// A stream that began.
    pub(crate) fn begun(&mut self) -> Option<StreamInfo> {
        // In the order in which they came.
        (!self.begun.is_empty()).then(|| self.begun.remove(0))
    }

    /// Ends the threads at the ends, once the node is finished.
    ///
    /// # Errors
    /// What went wrong with a spool that was to be kept.
    pub(crate) async fn end(self) -> Result<(), String> {
        if let Some(drain) = self.drain {
            drain.ended().await;
        }
        match self.origin {
            Origin::Source(root) => root.stop().await,
            Origin::Parent { .. } => Ok(()),
        }
    }

    /// Moves what can be moved; ready when something happened.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, node: &Node) -> Poll<()> {
        // Reading on while a read brings something: after the last one that did not, the socket will wake us.
        loop {
            let read = self.poll_origin(cx, node);
            self.poll_again(cx);
            self.poll_children(cx, node);
            self.poll_sink(cx);
            if !self.happened.is_empty() || read.is_pending() {
                self.happened.extend(self.heard.take().map(Input::Heard));
                return if self.happened.is_empty() { Poll::Pending } else { Poll::Ready(()) };
            }
        }
    }

    fn poll_origin(&mut self, cx: &mut Context<'_>, node: &Node) -> Poll<()> {
        match &mut self.origin {
            Origin::Source(root) => {
                // A child that has been sent everything would have to wait: what is read is sealed for it now.
                let starving = self.children.iter().any(|c| c.next() >= self.ring.end());
                let sealed = ready!(root.poll(cx, node.window(), starving, self.ring.end()));
                sealed.items.into_iter().for_each(|item| self.ring.push(item));
                self.begun.extend(sealed.begun);
                self.happened.extend(sealed.reread_failed.map(Input::RereadFailed));
                self.happened.push_back(Input::Received(self.ring.end()));
                self.happened.extend(sealed.failed.map(Input::SourceFailed));
                self.happened.extend(sealed.closed.map(Input::Closed));
                Poll::Ready(())
            }
            Origin::Parent { checker, link: slot, pool } => {
                let Some(link) = slot else { return Poll::Pending };
                let before = self.ring.end();
                let result = ready!(link.poll(cx, checker, pool)).and_then(|()| {
                    while let Some((kind, body)) = link.frame()? {
                        if kind == Kind::Beat {
                            link.beat(&body)?;
                            continue;
                        }
                        let (item, statement) = link.item(checker, kind, body)?;
                        take(&mut self.ring, self.drain.as_mut(), &mut self.begun, item, statement.as_ref());
                        match statement {
                            Some(Statement::End(StreamEnd { failure: Some(why), .. })) => self
                                .happened
                                .push_back(Input::SourceFailed(printable(&why, limits::TEXT_BYTES))),
                            Some(Statement::Close) => {
                                self.happened.push_back(Input::Received(self.ring.end()));
                                self.happened.push_back(Input::Closed(checker.chain()));
                            }
                            _ => {}
                        }
                    }
                    // A parent that only says that it lives is heard the next time, too.
                    if self.ring.end() > before || !link.frames.is_empty() {
                        link.wake_for(checker);
                    }
                    Ok(())
                });
                if self.ring.end() == before {
                    self.heard = result.is_ok().then_some(link.id);
                } else {
                    self.heard = None;
                    if !checker.closed() {
                        self.happened.push_back(Input::Received(self.ring.end()));
                    }
                }
                if let Err(fault) = result {
                    self.happened.push_back(Input::LinkLost(link.id, fault));
                    *slot = None;
                }
                Poll::Ready(())
            }
        }
    }

    /// Gets what children lack that the window has forgotten, from the sources once more.
    fn poll_again(&mut self, cx: &mut Context<'_>) {
        let Origin::Source(root) = &mut self.origin else { return };
        let slot = root.again_mut();
        let Some(again) = slot else { return };
        while let Poll::Ready(part) = again.poll(cx) {
            match part {
                Ok((link, part)) => {
                    self.children.iter_mut().filter(|c| c.id() == link).for_each(|c| c.take_again(&part));
                }
                Err(why) => {
                    self.happened.push_back(Input::RereadFailed(why));
                    *slot = None;
                    return;
                }
            }
        }
        for child in &mut self.children {
            if let Some(item) = child.wants_again(&self.ring) {
                again.ask(child.id(), item);
            }
        }
    }

    fn poll_children(&mut self, cx: &mut Context<'_>, node: &Node) {
        let (tape, happened) = (Tape { ring: &self.ring, index: self.origin.index() }, &mut self.happened);
        self.children.retain_mut(|child| {
            let result = child.poll(cx, tape, node, happened);
            if let Err(fault) = result {
                happened.push_back(Input::LinkLost(child.id(), fault));
                return false;
            }
            true
        });
    }

    fn poll_sink(&mut self, cx: &mut Context<'_>) {
        let Some(drain) = &mut self.drain else { return };
        while let Poll::Ready(sunk) = drain.poll(cx) {
            self.happened.push_back(match sunk {
                Sunk::Took(upto) => Input::SinkTook(upto),
                Sunk::Ended(result) => Input::SinkEnded(result),
            });
        }
    }
}

/// Puts a checked item into the ring, and what it means to a sink before its thread.
fn take(
    ring: &mut Ring,
    drain: Option<&mut Drain>,
    begun: &mut Vec<StreamInfo>,
    item: Item,
    statement: Option<&Statement>,
) {
    let job = match (&item, statement) {
        (Item::Block(block, _), _) => Some(Job::Block(block.clone())),
        (_, Some(Statement::Begin(info))) => {
            begun.push(info.clone());
            Some(Job::Begin(info.clone()))
        }
        (_, Some(Statement::End(StreamEnd { failure: None, .. }))) => Some(Job::End),
        (_, Some(Statement::Close)) => Some(Job::Close),
        _ => None,
    };
    ring.push(item);
    if let (Some(drain), Some(job)) = (drain, job) {
        drain.push(ring.end(), job);
    }
}

// ---- the parent ----

struct ParentLink {
    id: LinkId,
    stream: TcpStream,
    words: Words,
    frames: FromParent,
    /// Grants that wait for the socket.
    grants: BytesMut,
    /// Bytes that must be there before the system wakes us.
    wakes_for: usize,
    /// Whether anything came since [`live`](Self::live).
    heard: bool,
}

impl ParentLink {
    /// Sends what is to be told, reads what is there; ready when something came or the link is lost.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        checker: &Checker,
        pool: &mut ReadPool,
    ) -> Poll<Result<(), LinkFault>> {
        while !self.grants.is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.grants) {
                Poll::Ready(Ok(n)) => self.grants.advance(n),
                Poll::Ready(Err(e)) => return Poll::Ready(Err(broken(&e))),
                Poll::Pending => break,
            }
        }
        let (buffer, most) = self.frames.room(checker, pool);
        let read = pin!(self.stream.read_buf(&mut buffer.limit(most))).poll(cx);
        Poll::Ready(match ready!(read) {
            Ok(0) => Err(LinkFault::Broken("it closed the connection before the end".into())),
            Ok(_) => {
                self.heard = true;
                Ok(())
            }
            Err(e) => Err(broken(&e)),
        })
    }

    /// Has the system wake us only when the next frame is whole: a relay can do nothing with less, and on a slow
    /// link each packet would wake it.
    fn wake_for(&mut self, checker: &Checker) {
        self.set_wakes_for(self.frames.rest(checker));
    }

    /// If nothing came since the last time, lets any byte wake us: part of a frame is a sign of life, too, and on a
    /// slow link it may be long before the rest comes. Bytes that are there already wake us at once.
    fn live(&mut self) {
        if !std::mem::take(&mut self.heard) {
            self.set_wakes_for(1);
        }
    }

    fn set_wakes_for(&mut self, bytes: usize) {
        if bytes != self.wakes_for && set_receive_low_water(&self.stream, bytes).is_ok() {
            self.wakes_for = bytes;
        }
    }

    /// The next whole frame.
    fn frame(&mut self) -> Result<Option<(Kind, Bytes)>, LinkFault> {
        self.frames.next().map_err(|e| self.senseless(e))
    }

    /// Checks a frame: the tape's next item, or a reason to drop the link.
    fn item(
        &mut self,
        checker: &mut Checker,
        kind: Kind,
        body: Bytes,
    ) -> Result<(Item, Option<Statement>), LinkFault> {
        let checked = match kind {
            Kind::Block => {
                let (body, hash) = self.words.item(kind, body).ok_or_else(changed)?;
                checker.hashed(body.len(), &hash).map(|()| (Item::Block(body, hash), None))
            }
            Kind::Statement => {
                let (body, _) = self.words.item(kind, body).ok_or_else(changed)?;
                checker.statement(&body).map(|statement| (Item::Statement(body), Some(statement)))
            }
            Kind::Attach | Kind::Grant | Kind::Refuse | Kind::Beat => {
                return Err(self.senseless("a message that has no place in the tape"));
            }
        };
        checked.map_err(|tainted| LinkFault::Tainted(tainted.to_string()))
    }

    /// The fault of an item that no parent says here. That is held against it only if nothing can show who has sent it.
    fn senseless(&self, why: impl fmt::Display) -> LinkFault {
        if self.words.are_sealed() { changed() } else { LinkFault::Tainted(why.to_string()) }
    }

    /// Takes a sign of life.
    fn beat(&mut self, body: &[u8]) -> Result<(), LinkFault> {
        let said = self.words.hear(body).ok_or_else(changed)?;
        if said.is_empty() { Ok(()) } else { Err(LinkFault::Tainted(Malformed::TooLong.to_string())) }
    }
}

/// The fault of a link on which somebody has changed an item: no word against the parent.
fn changed() -> LinkFault {
    LinkFault::Broken(CHANGED.into())
}
