//! The simulator: a healthy chain of a thousand nodes.
#![allow(missing_docs)]

use criterion::{Criterion, criterion_group, criterion_main};
use ka_core::sim::World;

fn scale(c: &mut Criterion) {
    let mut group = c.benchmark_group("simulated chain");
    group.sample_size(10);
    group.bench_function("1,000 nodes, 64 MiB", |b| {
        b.iter(|| {
            let world = World::chain(1000).stream(64 << 20).block(64 << 10).run();
            assert!(world.report().is_ok());
            world.steps()
        });
    });
    group.finish();
}

criterion_group!(benches, scale);
criterion_main!(benches);
