//! Sealing and checking: what a segment and a block cost besides being moved.
#![allow(missing_docs)]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ka_core::crypto::payload::PayloadKey;
use ka_core::limits::{BLOCK_BYTES, SEGMENT_BLOCKS};
use ka_core::tape::chain::{Checker, Sealer, Segment, Statement, StreamInfo, hash};
use ka_core::types::{Offset, SessionId};
use ka_core::wire::codec::{decode_control, encode_control};
use ka_core::wire::control::{Progress, ToCoordinator};

fn codec(c: &mut Criterion) {
    let message = ToCoordinator::Progress(Progress { received: Offset(1 << 40), ..Progress::default() });
    c.bench_function("control message there and back", |b| {
        b.iter(|| decode_control::<ToCoordinator>(&encode_control(&message).unwrap()).unwrap());
    });

    let session = SessionId([1; 16]);
    let block = vec![7; BLOCK_BYTES];
    let segment = Statement::Segment(Segment {
        last_bytes: BLOCK_BYTES as u32,
        hashes: vec![hash(&block); SEGMENT_BLOCKS],
    });
    let begin = Statement::Begin(StreamInfo { number: 0, name: "s".into(), metadata: vec![], size: None });
    c.bench_function("segment: seal", |b| {
        let mut sealer = Sealer::new(session, [2; 32], PayloadKey::Plain);
        b.iter(|| sealer.seal(&segment));
    });
    let mut group = c.benchmark_group("checker");
    group.throughput(Throughput::Bytes((BLOCK_BYTES * SEGMENT_BLOCKS) as u64));
    group.bench_function("segment and its blocks", |b| {
        let mut sealer = Sealer::new(session, [2; 32], PayloadKey::Plain);
        let (first, second) = (sealer.seal(&begin), sealer.seal(&segment));
        b.iter_batched_ref(
            || Checker::new(session, &sealer.public_key(), PayloadKey::Plain).unwrap(),
            |checker| {
                checker.statement(&first).unwrap();
                checker.statement(&second).unwrap();
                (0..SEGMENT_BLOCKS).for_each(|_| checker.block(&block).unwrap());
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, codec);
criterion_main!(benches);
