//! What holds for any input: the parts of the core against models that are too simple to be wrong.

#![cfg(feature = "sim")]

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use ka_core::crypto::payload::PayloadKey;
use ka_core::limits::{self, BLOCK_BYTES};
use ka_core::proto::rate_limit::RateLimit;
use ka_core::proto::{Window, topology};
use ka_core::tape::chain::{Sealer, Segment, Statement, StreamEnd, StreamInfo};
use ka_core::tape::index::{Blocks, Index, Part};
use ka_core::tape::ring::{Item, Ring};
use ka_core::time::Instant;
use ka_core::types::{NodeId, Offset, Position, SessionId, Watermarks, is_hidden, printable};
use ka_core::wire::data::Grant;
use proptest::collection::vec;
use proptest::prelude::*;

// ---- the index ----

/// Segments of a stream: full blocks, and the bytes of the last one.
fn segments() -> impl Strategy<Value = Vec<(usize, u32)>> {
    vec((0..limits::SEGMENT_BLOCKS, 1..=BLOCK_BYTES as u32), 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Against a walk over everything that was sealed.
    #[test]
    fn an_index_knows_every_place_and_what_leads_there(streams in vec(segments(), 1..4)) {
        let mut sealer = Sealer::new(SessionId([3; 16]), [4; 32], PayloadKey::Plain);
        let mut index = Index::default();
        let mut items: Vec<(u64, Part)> = Vec::new();
        let mut at = Position::START;
        let mut state = |statement: &Statement, part: Option<(u32, u64, &[u64])>| {
            let before = sealer.chain();
            let sealed = sealer.seal(statement);
            let chain = (before, sealer.chain());
            index.note(statement, &sealed, chain);
            let begin = at;
            let (part, blocks) = match part {
                None => (Part::Statement(begin, sealed), &[][..]),
                Some((stream, offset, blocks)) => {
                    let bytes = blocks.iter().sum();
                    (Part::Blocks(Blocks { at: begin, stream, offset, bytes, chain }), blocks)
                }
            };
            for payload in core::iter::once(&0).chain(blocks) {
                items.push((*payload, part.clone()));
                at = at.after(*payload);
            }
        };
        for (number, segments) in (0..).zip(&streams) {
            let info = StreamInfo { number, name: String::new(), metadata: Vec::new(), size: None };
            state(&Statement::Begin(info), None);
            let mut offset = 0;
            for (full, last_bytes) in segments {
                let mut blocks = vec![BLOCK_BYTES as u64; *full];
                blocks.push(u64::from(*last_bytes));
                let hashes = vec![[0; 32]; blocks.len()];
                let segment = Segment { last_bytes: *last_bytes, hashes };
                state(&Statement::Segment(segment), Some((number, offset, &blocks)));
                offset += blocks.iter().sum::<u64>();
            }
            state(&Statement::End(StreamEnd { length: offset, failure: None }), None);
        }
        let mut place = Position::START;
        for (payload, part) in &items {
            prop_assert_eq!(index.place(place.item), Some(place));
            prop_assert_eq!(index.part(place.item), Some(part.clone()));
            place = place.after(*payload);
        }
        prop_assert_eq!(index.place(place.item), Some(place));
        prop_assert_eq!(index.part(place.item), None);
        prop_assert_eq!(index.place(place.item + 1), None);
    }
}

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
                    let item = Item::Block(Bytes::from(vec![next as u8; len]), [0; 32]);
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
    now: Instant,
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

fn leaf(held: u64) -> Grant {
    Grant { watermarks: Watermarks::leaf(at(held)), upto: Offset(u64::MAX) }
}

impl Model {
    fn new(children: usize) -> Self {
        let now = Instant::ZERO;
        let mut window = Window::new(SIZE, true);
        let ids: Vec<_> = (0..children).map(|c| NodeId(c as u32 + 1)).collect();
        window.set_children(now, &ids, false);
        ids.into_iter().for_each(|id| window.attach(now, id, leaf(0)));
        let children = vec![(0, 0); children];
        let mut model = Self { now, window, received: 0, sunk: 0, children, granted: Offset::ZERO };
        model.grant();
        model
    }

    /// The parent sends a block, if it may.
    fn receive(&mut self) -> bool {
        let may = at(self.received + 1).offset <= self.granted;
        if may {
            self.received += 1;
            self.window.receive(self.now, at(self.received), false);
            self.grant();
        }
        may
    }

    fn sink(&mut self) {
        self.sunk = (self.sunk + 1).min(self.received);
        self.window.sink_took(self.now, at(self.sunk));
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
        assert!(self.window.child_granted(self.now, NodeId(c as u32 + 1), leaf(*held)));
        self.grant();
    }

    fn wait(&mut self) {
        self.now = self.now + limits::STALL_AFTER;
        self.window.open(self.now);
        self.grant();
    }

    fn grant(&mut self) {
        if let Some(grant) = self.window.grant(false) {
            assert!(grant.upto >= self.granted, "a grant never goes down");
            self.granted = grant.upto;
        }
    }

    fn check(&self) {
        let slowest = self.children.iter().map(|c| c.1).chain([self.sunk]).min().unwrap();
        let kept = self.window.kept();
        assert_eq!(
            self.window.low(),
            at(slowest),
            "what every consumer has is needed by nobody, and no more"
        );
        assert!(kept <= at(slowest), "what is needed is kept");
        assert_eq!(self.window.received(), at(self.received));
        assert!(
            self.window.received().offset - kept.offset <= SIZE,
            "no more is held than there is room for"
        );
        let counters = self.window.counters();
        assert_eq!(counters.evicted, kept.offset.0);
        assert!(counters.held_max <= SIZE);
    }
}

proptest! {
    /// Any order of receiving, sinking, sending, confirming and waiting; then everyone takes all there is.
    #[test]
    fn a_window_keeps_what_is_needed_and_never_locks_up(
        children in 0..4_usize,
        ops in vec((0..5_u8, 0..4_usize), 0..600),
    ) {
        let mut model = Model::new(children);
        for (op, c) in ops {
            match op {
                1 => model.sink(),
                2 if c < children => model.send(c),
                3 if c < children => model.hold(c),
                4 => model.wait(),
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
    fn no_child_holds_what_it_was_not_sent(sent in 0..=8_u64, held in 0..40_u64) {
        let mut model = Model::new(1);
        (0..sent).for_each(|_| { assert!(model.receive()); model.send(0); });
        let grant = Grant { upto: Offset(0), ..leaf(held) };
        prop_assert_eq!(model.window.child_granted(model.now, NodeId(1), grant), held <= sent);
    }
}

/// What happens to a window whose children come, go and break.
#[derive(Clone, Debug)]
enum WindowOp {
    Receive(u64),
    Sink(u64),
    /// The children that the view names, and whether it says to keep.
    View(Vec<u32>, bool),
    /// A child dials; its place and those of the levels below it, as parts of what is held.
    Attach(u32, [u8; 4]),
    Send(u32, u64),
    Grant(u32, [u8; 4]),
    Lose(u32),
    /// So many items more are stable.
    Stable(u64),
    /// Milliseconds.
    Wait(u64),
    /// Everything is told, whether it is worth it or not.
    Tell,
}

fn window_op() -> impl Strategy<Value = WindowOp> {
    use WindowOp as W;
    let child = || 1..4_u32;
    prop_oneof![
        6 => (1..9_u64).prop_map(W::Receive),
        3 => (1..9_u64).prop_map(W::Sink),
        1 => (prop::sample::subsequence(vec![1, 2, 3], 0..=3), any::<bool>()).prop_map(|(c, k)| W::View(c, k)),
        2 => (child(), any::<[u8; 4]>()).prop_map(|(c, f)| W::Attach(c, f)),
        4 => (child(), 1..9_u64).prop_map(|(c, n)| W::Send(c, n)),
        4 => (child(), any::<[u8; 4]>()).prop_map(|(c, f)| W::Grant(c, f)),
        1 => child().prop_map(W::Lose),
        4 => (1..9_u64).prop_map(W::Stable),
        1 => (1..200_u64).prop_map(W::Wait),
        1 => Just(W::Tell),
    ]
}

/// A named child: how far it was sent, if it is linked, and what it and those below it hold.
#[derive(Debug)]
struct Named {
    sent: Option<u64>,
    watermarks: [u64; 4],
}

/// A place between what can be served and what is here: no other reaches a window.
fn place(window: &Window, part: u8) -> u64 {
    let (from, end) = (window.from().0.div_ceil(BLOCK), window.received().item);
    from + (end - from) * u64::from(part) / 255
}

proptest! {
    /// Whatever children come, go, break and say: what a named one lacks is held, and what those below it lack by their own
    /// word, and nothing for what it only says of them; and what is granted has its room.
    #[test]
    fn a_window_forgets_nothing_that_a_named_child_lacks(ops in vec(window_op(), 0..400)) {
        let mut window = Window::new(SIZE, true);
        let mut now = Instant::ZERO;
        let (mut received, mut sunk, mut stable) = (0, 0, 0);
        window.set_stable(now, stable);
        // Before a view everything is held; what is stable counts as far as it came at one time.
        let (mut viewed, mut ends) = (false, vec![0]);
        let mut named: BTreeMap<u32, Named> = BTreeMap::new();
        let watermarks = |at_: [u64; 4]| Grant { watermarks: Watermarks(at_.map(at)), upto: Offset(u64::MAX) };
        let _ = window.grant(true);
        for op in ops {
            match op.clone() {
                WindowOp::Receive(n) => {
                    received = (received + n).min(window.granted().0 / BLOCK).max(received);
                    window.receive(now, at(received), false);
                    ends.push(received);
                }
                WindowOp::Sink(n) => {
                    sunk = (sunk + n).min(received);
                    window.sink_took(now, at(sunk));
                }
                WindowOp::View(children, keep) => {
                    let low = window.low().item;
                    window.set_children(now, &children.iter().map(|c| NodeId(*c)).collect::<Vec<_>>(), keep);
                    viewed = true;
                    named.retain(|c, _| children.contains(c));
                    for c in children {
                        named.entry(c).or_insert(Named { sent: None, watermarks: [low; 4] });
                    }
                }
                WindowOp::Attach(c, parts) => if let Some(child) = named.get_mut(&c) {
                    let said = parts.map(|part| place(&window, part));
                    window.attach(now, NodeId(c), watermarks(said));
                    *child = Named { sent: Some(said[0]), watermarks: said };
                },
                WindowOp::Send(c, n) => if let Some(Named { sent: Some(sent), .. }) = named.get_mut(&c) {
                    *sent = (*sent + n).min(received);
                    window.sent(NodeId(c), at(*sent));
                },
                WindowOp::Grant(c, parts) => {
                    if let Some(Named { sent: Some(sent), watermarks: old }) = named.get_mut(&c) {
                        let mut said = parts.map(|part| place(&window, part));
                        said[0] = said[0].clamp(old[0], *sent);
                        prop_assert!(window.child_granted(now, NodeId(c), watermarks(said)));
                        *old = said;
                    }
                }
                WindowOp::Lose(c) => if let Some(child) = named.get_mut(&c) {
                    window.child_lost(NodeId(c));
                    child.sent = None;
                },
                WindowOp::Stable(n) => {
                    stable = (stable + n).min(received);
                    window.set_stable(now, stable);
                }
                WindowOp::Wait(ms) => {
                    now = now + Duration::from_millis(ms);
                    window.open(now);
                }
                WindowOp::Tell => { let _ = window.grant(true); }
            }
            let _ = window.grant(false);
            let kept = window.kept();
            for (c, child) in &named {
                let held = at(child.watermarks[0]);
                prop_assert!(kept <= held, "after {op:?}: {kept:?} is kept, but child {c} has {child:?}");
            }
            prop_assert!(kept.item <= stable, "after {op:?}: {kept:?} is kept, but {stable} are stable");
            let by_own_word = ends.iter().copied().filter(|end| *end <= stable).max().unwrap_or(0).min(sunk);
            let least = named.values().map(|child| child.watermarks[0]).fold(by_own_word, u64::min);
            let known = viewed && named.values().all(|child| child.sent.is_some());
            prop_assert!(!known || window.low() >= at(least), "after {op:?}: {:?}, not {least}", window.low());
            prop_assert!(kept <= at(sunk), "after {op:?}: {kept:?} is kept, but the sink has {sunk}");
            let held = window.received().offset - kept.offset;
            prop_assert!(held <= SIZE, "after {op:?}: {held} bytes of {SIZE}, from {kept:?}");
        }
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
        let mut pace = RateLimit::new(rate, Instant::ZERO, Offset::ZERO);
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
        let mut pace = RateLimit::new(rate, Instant::ZERO, Offset::ZERO);
        let mut sent = Offset::ZERO;
        for i in 1..=1_000_000 / step_us {
            sent = pace.ceiling(Instant(i * step_us * 1000), sent);
        }
        let least = rate as f64 * (1.0 - 0.02);
        prop_assert!(sent.0 as f64 >= least, "{} of {}", sent, rate);
    }
}

// ---- text of peers ----

/// Characters that somebody who wants to deceive would take, among any others.
fn text() -> impl Strategy<Value = String> {
    let odd = (0..=0x7F_u32).prop_map(|n| char::from_u32(0x2000 + n).unwrap_or(' '));
    vec(prop_oneof![odd, any::<char>(), "[a-z]".prop_map(|s| s.chars().next().unwrap_or('a'))], 0..40)
        .prop_map(|chars| chars.into_iter().collect())
}

proptest! {
    /// What is shown hides nothing, keeps its bound, and is the text itself where that hides nothing and fits.
    #[test]
    fn shown_text_hides_nothing(text in text(), max in 0..300_usize) {
        let shown = printable(&text, max);
        prop_assert!(shown.len() <= max && !shown.chars().any(is_hidden), "{shown:?}");
        prop_assert_eq!(&printable(&shown, max), &shown);
        if text.len() <= max && !text.chars().any(is_hidden) {
            prop_assert_eq!(shown, text);
        }
    }
}
