//! Who is whose parent, for a whole session.
#![allow(missing_docs)]

use criterion::{Criterion, criterion_group, criterion_main};
use ka_core::proto::topology::{children, parent};

fn topology(c: &mut Criterion) {
    for fan_out in [1, 4] {
        c.bench_function(&format!("10,000 members, fan-out {fan_out}"), |b| {
            b.iter(|| {
                (0..10_000)
                    .map(|rank| parent(rank, fan_out).unwrap_or(0) + children(rank, fan_out, 10_000).count())
                    .sum::<usize>()
            });
        });
    }
}

criterion_group!(benches, topology);
criterion_main!(benches);
