//! The two ends of the tape: the source before the root, and the sink behind every node.

use alloc::borrow::ToOwned;

use super::clock::Due;
use super::host::SinkState;
use super::tape::transfer;
use super::trace::note;
use super::world::World;
use crate::proto::node::Input;
use crate::types::Position;

impl World {
    // ---- the source ----

    /// Whether it can be read again.
    pub(super) fn reread(&self) -> bool {
        self.setup.config.reread && !self.source.unreadable
    }

    /// Reads on as far as the root allows.
    pub(super) fn read_source(&mut self) {
        while self.is_in(0) && !self.source.reading {
            let at = self.node(0).window().received();
            let behind = self.tape.behind(at);
            if at.item == self.tape.items() || behind.offset > self.source.upto {
                return;
            }
            match self.source.rate {
                None => self.receive(0, at),
                Some(rate) => {
                    self.source.reading = true;
                    self.clock.after(transfer(behind.offset - at.offset, rate), Due::SourceRead);
                }
            }
        }
    }

    pub(super) fn source_read(&mut self) {
        self.source.reading = false;
        if self.is_in(0) {
            self.receive(0, self.node(0).window().received());
            self.pump(0);
        }
    }

    /// A node has one item more, the one that begins at `at`.
    pub(super) fn receive(&mut self, h: u32, at: Position) {
        let close = self.tape.is_close(at);
        let behind = self.tape.behind(at);
        note!(self, h, "has item {} to {}", at.item, behind.offset);
        if close && self.source.fails {
            self.drive(h, Input::SourceFailed("read error".to_owned()));
        }
        self.drive(h, Input::Received(behind));
        let window = self.hosts[h as usize].node.as_ref().expect("it receives, so it is in").window();
        self.checker.received(h, at, self.tape, window, self.window_bytes(h));
        if close {
            self.drive(h, Input::Closed([1; 32]));
        } else {
            self.hosts[h as usize].last_byte = self.clock.now;
        }
    }

    // ---- the sinks ----

    /// Gives a sink whatever is there for it.
    pub(super) fn feed_sink(&mut self, h: u32) {
        while self.is_in(h) {
            let sink = self.hosts[h as usize].sink;
            if sink.state != SinkState::Ready || sink.taken.item >= self.node(h).window().received().item {
                return;
            }
            let behind = self.tape.behind(sink.taken);
            if sink.fails_at.is_some_and(|f| behind.offset.0 > f) {
                note!(self, h, "has a sink that fails");
                self.hosts[h as usize].sink.state = SinkState::Gone;
                self.drive(h, Input::SinkEnded(Err("no space left on device".to_owned())));
                return;
            }
            let bytes = behind.offset - sink.taken.offset;
            let takes = sink.rate.map(|r| transfer(bytes, r)).unwrap_or_default();
            let done = self.clock.now.max(sink.stalled_until) + takes;
            if done > self.clock.now {
                self.hosts[h as usize].sink.state = SinkState::Busy;
                self.clock.at(done, Due::SinkTook(h));
                return;
            }
            self.take(h);
        }
    }

    /// The sink has taken the next item.
    fn take(&mut self, h: u32) {
        let sink = &mut self.hosts[h as usize].sink;
        sink.taken = self.tape.behind(sink.taken);
        let (taken, ends_after) = (sink.taken, sink.ends_after);
        self.checker.sank(h, taken);
        if taken.item == self.tape.items() {
            sink.state = SinkState::Ending;
            self.clock.after(ends_after, Due::SinkEnded(h));
        }
        self.drive(h, Input::SinkTook(taken));
    }

    pub(super) fn sink_took(&mut self, h: u32) {
        if self.is_in(h) && self.hosts[h as usize].sink.state == SinkState::Busy {
            self.hosts[h as usize].sink.state = SinkState::Ready;
            self.take(h);
            self.feed_sink(h);
        }
    }

    pub(super) fn sink_ended(&mut self, h: u32) {
        if self.is_in(h) && self.hosts[h as usize].sink.state == SinkState::Ending {
            note!(self, h, "has a sink that ended well");
            self.checker.sink_ended(h);
            self.drive(h, Input::SinkEnded(Ok(())));
        }
    }
}
