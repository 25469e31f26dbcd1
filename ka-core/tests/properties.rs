//! What holds for any input: the parts of the core against models that are too simple to be wrong.

#![cfg(feature = "sim")]

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use ka_core::limits::{self, BLOCK_BYTES};
use ka_core::proto::pace::Pace;
use ka_core::proto::{Window, topology};
use ka_core::ring::{Item, Ring};
use ka_core::time::Instant;
use ka_core::types::{NodeId, Offset, Position};
use ka_core::wire::data::Grant;
use proptest::collection::vec;
use proptest::prelude::*;

// ---- the ring ----

#[derive(Clone, Debug)]
enum RingOp {
    Push(usize),
    Statement,
    Forget(u64),
}

fn ring_op() -> impl Strategy<Value = RingOp> {
    prop_oneof![
        3 => (1..100_usize).prop_map(RingOp::Push),
        1 => Just(RingOp::Statement),
        1 => (0..60_u64).prop_map(RingOp::Forget),
    ]
}

proptest! {
    /// Against a queue of numbered items.
    #[test]
    fn a_ring_is_a_queue_with_numbers(ops in vec(ring_op(), 0..100)) {
        let mut ring = Ring::new();
        let mut model: VecDeque<(u64, Item)> = VecDeque::new();
        let (mut next, mut bytes, mut forgotten) = (0_u64, 0_u64, 0_u64);
        for op in ops {
            match op {
                RingOp::Push(len) => {
                    let item = Item::Block(Bytes::from(vec![next as u8; len]));
                    ring.push(item.clone());
                    model.push_back((next, item));
                    (next, bytes) = (next + 1, bytes + len as u64);
                }
                RingOp::Statement => {
                    ring.push(Item::Statement(Bytes::from_static(b"x")));
                    model.push_back((next, Item::Statement(Bytes::from_static(b"x"))));
                    next += 1;
                }
                RingOp::Forget(item) => {
                    ring.forget(Position { item, offset: Offset(0) });
                    while model.front().is_some_and(|(n, _)| *n < item) {
                        forgotten += model.pop_front().unwrap().1.payload();
                    }
                }
            }
            let first = model.front().map_or(next, |(n, _)| *n);
            prop_assert_eq!(ring.first(), Position { item: first, offset: Offset(forgotten) });
            prop_assert_eq!(ring.end(), Position { item: next, offset: Offset(bytes) });
            for from in first.saturating_sub(1)..=next + 1 {
                let expected: Vec<_> =
                    model.iter().filter(|(n, _)| first <= from && *n >= from).map(|(_, i)| i).collect();
                prop_assert_eq!(ring.from(from).collect::<Vec<_>>(), expected, "from {}", from);
            }
        }
    }
}

// ---- the topology ----

proptest! {
    /// Every rank but the root has one parent above it, parents and children agree, and nobody has too many.
    #[test]
    fn every_plan_is_a_tree(members in 1..200_usize, fan_out in 1..9_usize) {
        for rank in 0..members {
            let children: Vec<_> = topology::children(rank, fan_out, members).collect();
            prop_assert!(children.len() <= fan_out);
            prop_assert!(children.iter().all(|c| topology::parent(*c, fan_out) == Some(rank)));
            match topology::parent(rank, fan_out) {
                None => prop_assert_eq!(rank, 0),
                Some(parent) => {
                    prop_assert!(parent < rank, "a parent stands above, so there is no cycle");
                    prop_assert!(topology::children(parent, fan_out, members).any(|c| c == rank));
                }
            }
        }
    }
}

// ---- the window ----

const SIZE: u64 = limits::WINDOW_BYTES_MIN;
const BLOCK: u64 = BLOCK_BYTES as u64;

/// A node with a sink and some children, each a plain number of items that it has.
#[derive(Debug)]
struct Model {
    window: Window,
    /// Items received, sunk, and per child sent and held.
    received: u64,
    sunk: u64,
    children: Vec<(u64, u64)>,
    /// How far the parent was told to send.
    granted: Offset,
}

fn at(item: u64) -> Position {
    Position { item, offset: Offset(item * BLOCK) }
}

impl Model {
    fn new(children: usize) -> Self {
        let mut window = Window::new(SIZE, true);
        window.set_children(&(0..children).map(|c| NodeId(c as u32 + 1)).collect::<Vec<_>>());
        for c in 0..children {
            window.attach(NodeId(c as u32 + 1), Position::START, Offset(u64::MAX));
        }
        let mut model =
            Self { window, received: 0, sunk: 0, children: vec![(0, 0); children], granted: Offset::ZERO };
        model.grant();
        model
    }

    /// The parent sends a block, if it may.
    fn receive(&mut self) -> bool {
        let may = at(self.received + 1).offset <= self.granted;
        if may {
            self.received += 1;
            self.window.receive(at(self.received), false);
            self.grant();
        }
        may
    }

    fn sink(&mut self) {
        self.sunk = (self.sunk + 1).min(self.received);
        self.window.sink_took(at(self.sunk));
        self.grant();
    }

    fn send(&mut self, c: usize) {
        let id = NodeId(c as u32 + 1);
        assert_eq!(self.window.sendable(id).unwrap().0, at(self.children[c].0));
        self.children[c].0 = (self.children[c].0 + 1).min(self.received);
        self.window.sent(id, at(self.children[c].0));
    }

    fn hold(&mut self, c: usize) {
        let (sent, held) = &mut self.children[c];
        *held = (*held + 1).min(*sent);
        let grant = Grant { held: at(*held), upto: Offset(u64::MAX) };
        assert!(self.window.child_granted(NodeId(c as u32 + 1), grant));
        self.grant();
    }

    fn grant(&mut self) {
        if let Some(grant) = self.window.grant() {
            assert!(grant.upto >= self.granted, "a grant never goes down");
            self.granted = grant.upto;
        }
    }

    fn check(&self) {
        let slowest = self.children.iter().map(|c| c.1).chain([self.sunk]).min().unwrap();
        assert_eq!(self.window.low(), at(slowest), "what every consumer has is forgotten, and no more");
        assert_eq!(self.window.received(), at(self.received));
        assert!(self.granted - self.window.low().offset <= SIZE, "no more is granted than there is room for");
        let counters = self.window.counters();
        assert_eq!(counters.evicted, slowest * BLOCK);
        assert!(counters.held_max <= SIZE);
    }
}

proptest! {
    /// Any order of receiving, sinking, sending and confirming; then everyone takes all there is.
    #[test]
    fn a_window_keeps_what_is_needed_and_never_locks_up(
        children in 0..4_usize,
        ops in vec((0..4_u8, 0..4_usize), 0..600),
    ) {
        let mut model = Model::new(children);
        for (op, c) in ops {
            match op {
                1 => model.sink(),
                2 if c < children => model.send(c),
                3 if c < children => model.hold(c),
                _ => { model.receive(); }
            }
            model.check();
        }
        while model.sunk < model.received {
            model.sink();
        }
        for c in 0..children {
            while model.children[c].1 < model.received {
                model.send(c);
                model.hold(c);
            }
        }
        model.check();
        prop_assert!(model.receive(), "everyone took everything, and yet nothing may come");
    }

    /// A child that says it holds more than it was sent is not believed.
    #[test]
    fn no_child_holds_what_it_was_not_sent(sent in 0..=16_u64, held in 0..40_u64) {
        let mut model = Model::new(1);
        (0..sent).for_each(|_| { model.receive(); model.send(0); });
        let grant = Grant { held: at(held), upto: Offset(0) };
        prop_assert_eq!(model.window.child_granted(NodeId(1), grant), held <= sent);
    }
}

// ---- the rate limit ----

proptest! {
    /// Over any stretch of time no more passes than the rate and one burst allow, whatever the steps.
    #[test]
    fn a_pace_is_never_exceeded(
        rate in 1_000..2_000_000_000_u64,
        steps in vec((0..50_000_u64, 0..=100_u64), 1..200),
    ) {
        let mut pace = Pace::new(rate, Instant::ZERO, Offset::ZERO);
        let burst = (rate / 50).max(2 * BLOCK) + BLOCK;
        let (mut now, mut sent) = (Instant::ZERO, Offset::ZERO);
        for (micros, percent) in steps {
            now = now + Duration::from_micros(micros);
            let ceiling = pace.ceiling(now, sent);
            let most = (u128::from(rate) * u128::from(now.0) / 1_000_000_000) as u64 + burst;
            prop_assert!(ceiling.0 <= most, "{} after {}, but {} at most", ceiling, now, most);
            sent += (ceiling - sent) * percent / 100;
        }
    }

    /// Who sends all it may gets the rate, too.
    #[test]
    fn a_pace_is_reached(rate in 100_000..2_000_000_000_u64, step_us in 500..10_000_u64) {
        let mut pace = Pace::new(rate, Instant::ZERO, Offset::ZERO);
        let mut sent = Offset::ZERO;
        for i in 1..=1_000_000 / step_us {
            sent = pace.ceiling(Instant(i * step_us * 1000), sent);
        }
        let least = rate as f64 * (1.0 - 0.02);
        prop_assert!(sent.0 as f64 >= least, "{} of {}", sent, rate);
    }
}
