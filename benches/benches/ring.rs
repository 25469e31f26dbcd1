//! The ring and the window beside it: what one block costs a relay in decisions.
#![allow(missing_docs)]

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ka_core::limits::BLOCK_BYTES;
use ka_core::proto::Window;
use ka_core::tape::ring::{Item, Ring};
use ka_core::time::Instant;
use ka_core::types::{NodeId, Offset, Watermarks};
use ka_core::wire::data::Grant;

const BLOCKS: u64 = 1024;

fn ring(c: &mut Criterion) {
    let block = Bytes::from(vec![0; BLOCK_BYTES]);
    let mut group = c.benchmark_group("block");
    group.throughput(Throughput::Elements(BLOCKS));
    group.bench_function("ring: push, look up, forget", |b| {
        b.iter(|| {
            let mut ring = Ring::new();
            for i in 0..BLOCKS {
                ring.push(Item::Block(block.clone(), [0; 32]));
                assert!(ring.from(i).next().is_some());
                ring.forget(ring.end());
            }
            ring.end()
        });
    });
    group.bench_function("window: receive, send, hear, grant", |b| {
        b.iter(|| {
            let (child, now) = (NodeId(2), Instant::ZERO);
            let grant = |at| Grant { watermarks: Watermarks::leaf(at), upto: Offset(u64::MAX) };
            let mut w = Window::new(16 << 20, true);
            w.set_children(now, &[child], false);
            w.attach(now, child, grant(w.low()));
            for _ in 0..BLOCKS {
                let upto = w.received().after(BLOCK_BYTES as u64);
                w.receive(now, upto, false);
                w.sent(child, upto);
                w.sink_took(now, upto);
                assert!(w.child_granted(now, child, grant(upto)));
                w.grant(false);
            }
            w.low()
        });
    });
    group.finish();
}

criterion_group!(benches, ring);
criterion_main!(benches);
