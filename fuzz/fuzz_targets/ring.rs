//! The ring, the index, and what children claim of places: any order of items, evictions and claims, beside a list of all
//! items that were ever there.
#![no_main]

use bytes::Bytes;
use ka_core::limits::BLOCK_BYTES;
use ka_core::tape::chain::{Segment, Statement, StreamInfo};
use ka_core::tape::index::{Index, Part};
use ka_core::tape::ring::{Item, Ring};
use ka_core::types::{Offset, Position, Watermarks};
use ka_core::wire::data::Grant;
use ka_core::{tape, types, wire};
use libfuzzer_sys::fuzz_target;

// A private file that needs only those three.
#[path = "../../ka-core/src/net/data/place.rs"]
mod place;

use place::{Place, Tape};

/// The bytes that blocks are cut from.
static BYTES: [u8; 2 * BLOCK_BYTES] = [7; 2 * BLOCK_BYTES];

/// The list beside the ring.
struct Model {
    /// Every item that was pushed.
    items: Vec<Item>,
    /// The place of each, and of the end.
    places: Vec<Position>,
    /// The first that is held.
    first: usize,
    ring: Ring,
    index: Index,
    streams: u32,
    /// The watermarks of a child that were believed last.
    known: Watermarks,
}

impl Model {
    fn new() -> Self {
        Self {
            items: Vec::new(),
            places: vec![Position::START],
            first: 0,
            ring: Ring::new(),
            index: Index::default(),
            streams: 0,
            known: Watermarks::all(Position::END),
        }
    }

    fn end(&self) -> Position {
        self.places[self.items.len()]
    }

    fn push(&mut self, item: Item) {
        self.places.push(self.end().after(item.payload()));
        self.items.push(item.clone());
        self.ring.push(item);
    }

    fn state(&mut self, statement: &Statement) {
        // Each has bytes of its own, so that another one in its place is seen.
        let sealed = Bytes::from(self.items.len().to_le_bytes().to_vec());
        self.index.note(statement, &sealed, ([0; 32], [0; 32]));
        self.push(Item::Statement(sealed));
    }

    fn begin(&mut self) {
        let info = StreamInfo { number: self.streams, name: String::new(), metadata: Vec::new(), size: None };
        self.streams += 1;
        self.state(&Statement::Begin(info));
    }

    fn segment(&mut self, blocks: usize, last: usize) {
        let segment = Segment { last_bytes: last as u32, hashes: vec![[0; 32]; blocks] };
        self.state(&Statement::Segment(segment));
        for n in 1..=blocks {
            let (at, bytes) = (self.items.len() % BLOCK_BYTES, if n == blocks { last } else { BLOCK_BYTES });
            self.push(Item::Block(Bytes::from_static(&BYTES[at..at + bytes]), [0; 32]));
        }
    }

    fn forget(&mut self, upto: Position) {
        self.ring.forget(upto);
        let upto = usize::try_from(upto.item).unwrap_or(usize::MAX).min(self.items.len());
        self.first = self.first.max(upto);
    }

    /// A place as a claim has it, true or not.
    fn claim(&self, [how, at, by]: [u8; 3]) -> Position {
        let item = usize::from(at) * self.items.len() / 255;
        let place = self.places[item];
        match how % 8 {
            0..4 => place,
            4 => Position { offset: place.offset + u64::from(by), ..place },
            5 => Position { item: place.item + u64::from(by), ..self.end() },
            6 => Position { item: u64::MAX - u64::from(at), offset: Offset(u64::MAX - u64::from(by)) },
            _ => Position::END,
        }
    }

    fn check(&self) {
        let (first, end) = (self.places[self.first], self.end());
        assert_eq!((self.ring.first(), self.ring.end()), (first, end));
        let held = &self.items[self.first..];
        let all: Vec<&Item> = self.ring.from(first.item).collect();
        assert!(all.len() == held.len() && all.iter().zip(held).all(|(a, b)| same(a, b)));
    }

    /// The bytes that are read from a place.
    fn read(&self, at: Position) {
        let item = usize::try_from(at.item).unwrap_or(usize::MAX);
        let held = if (self.first..=self.items.len()).contains(&item) { &self.items[item..] } else { &[] };
        let all: Vec<&Item> = self.ring.from(at.item).take(3).collect();
        assert!(all.len() == held.len().min(3) && all.iter().zip(held).all(|(a, b)| same(a, b)));
        let place = self.places.get(item).copied();
        assert_eq!(self.index.place(at.item), place);
        let part = self.index.part(at.item);
        assert_eq!(part.is_some(), item < self.items.len());
        match part {
            Some(Part::Statement(from, sealed)) => {
                assert_eq!(Some(from), place);
                assert!(same(&Item::Statement(sealed), &self.items[item]));
            }
            Some(Part::Blocks(blocks)) => {
                let place = place.expect("it is there");
                assert!(blocks.at.item <= at.item && blocks.at.offset <= place.offset);
                assert!(place.offset <= blocks.at.offset + blocks.bytes);
            }
            None => {}
        }
    }

    /// What is believed of a child's word, with the index or without.
    fn believe(&mut self, claim: Grant, indexed: bool) {
        let tape = Tape { ring: &self.ring, index: indexed.then_some(&self.index) };
        let true_place =
            |at: Position| usize::try_from(at.item).ok().and_then(|item| self.places.get(item)) == Some(&at);
        for at in claim.watermarks.0 {
            let place = tape.place(self.known.held(), at);
            match place {
                Place::Held => assert!(true_place(at) && at.item >= self.places[self.first].item),
                Place::Ahead => assert!(at.item > self.end().item && at.offset >= self.end().offset),
                Place::Forgotten => assert!(at.item < self.places[self.first].item),
                Place::Nowhere => assert!(!true_place(at)),
            }
            // Where the search begins changes nothing.
            let again = tape.place(Position::END, at);
            assert_eq!(std::mem::discriminant(&place), std::mem::discriminant(&again));
        }
        let held = |at: Position| at == Position::END || (true_place(at) && at >= self.places[self.first]);
        if let Some(Grant { watermarks, upto }) = tape.believe(claim) {
            assert!(upto == claim.upto && watermarks.held() <= self.end());
            assert!(!indexed || true_place(watermarks.held()));
            assert!(watermarks.0[1..].iter().all(|at| held(*at)));
        }
        if let Some(below) = tape.watermarks_below(&self.known, &claim.watermarks) {
            assert!(below.0[1..].iter().all(|at| held(*at)));
            self.known = below;
            self.known.0[0] = self.end();
        }
    }
}

/// Whether it is the very same item, not only one like it.
fn same(a: &Item, b: &Item) -> bool {
    a.body().as_ptr() == b.body().as_ptr() && a == b
}

fuzz_target!(|bytes: &[u8]| {
    let mut model = Model::new();
    model.begin();
    for step in bytes.chunks_exact(6) {
        let &[what, a, b, c, d, e] = step else { continue };
        match what % 8 {
            0 => model.begin(),
            1 | 2 => model.segment(usize::from(a % 8) + 1, usize::from(b) * 257 + 1),
            3 => model.forget(model.claim([a, b, c])),
            4 => model.read(model.claim([a, b, c])),
            5 => {
                let (from, to) = (model.claim([0, a, b]), model.claim([c, d, e]).item);
                let walked = model.ring.walk(from, to);
                let held = from.item >= model.ring.first().item && from.item <= to && to <= model.end().item;
                assert_eq!(walked, held.then(|| model.places[to as usize]));
            }
            _ => {
                let levels = [[a, b, c], [b, c, d], [c, d, e], [d, e, a]].map(|level| model.claim(level));
                let claim = Grant { watermarks: Watermarks(levels), upto: model.claim([e, a, b]).offset };
                model.believe(claim, what & 8 == 0);
            }
        }
    }
    model.check();
});
