//! A real session over loopback in one process: source, relays, sinks that drop what they get.
#![allow(missing_docs)]

use std::io;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ka_core::net::{ClientConfig, Control, Ports, ServerConfig, ServerKey, Stream, join, serve};
use ka_core::stream::{Sink, Source, Stop};
use ka_core::types::SessionName;

const BYTES: usize = 256 << 20;

struct Zeros(usize);

impl Source for Zeros {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = buf.len().min(self.0);
        self.0 -= n;
        Ok(n)
    }
}

struct Nowhere;

impl Sink for Nowhere {
    fn write(&mut self, _: &[Bytes], _: &Stop) -> io::Result<()> {
        Ok(())
    }
    fn finish(self: Box<Self>, _: &Stop) -> io::Result<()> {
        Ok(())
    }
    fn abort(self: Box<Self>) {}
}

async fn session(nodes: u32) {
    let name = SessionName::new(format!("bench-{}", std::process::id())).expect("a name");
    let ports = Ports { interfaces: vec!["lo".into()], ..Ports::default() };
    let window_bytes = Some(16 << 20);
    let key = ServerKey::generate().expect("random numbers");
    let config = ServerConfig {
        session: Some(name.clone()),
        nodes,
        key: Some(key.clone()),
        window_bytes,
        ports: ports.clone(),
        ..ServerConfig::default()
    };
    let stream = Stream { name: "zeros".into(), metadata: Vec::new(), source: Box::new(Zeros(BYTES)) };
    let (_control, inbox) = Control::new();
    let server = tokio::spawn(serve(config, vec![stream], inbox, |_| ()));
    let mut joined = Vec::new();
    for _ in 0..nodes {
        let config = ClientConfig {
            session: Some(name.clone()),
            key: Some(key.key().clone()),
            window_bytes,
            discover_timeout: Some(Duration::from_secs(10)),
            ports: ports.clone(),
            ..ClientConfig::default()
        };
        let (control, inbox) = Control::new();
        let node = join(config, |_| Ok(Box::new(Nowhere) as Box<dyn Sink>), inbox, |_| ());
        joined.push((control, tokio::spawn(node)));
    }
    for (_control, node) in joined {
        assert!(node.await.expect("no panic").expect("joined").outcome.is_ok());
    }
    assert!(server.await.expect("no panic").expect("served").is_ok());
}

fn chain(c: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut group = c.benchmark_group("chain over loopback");
    group.sample_size(10);
    for nodes in [1, 4] {
        group.throughput(Throughput::Bytes(BYTES as u64));
        group.bench_function(format!("{nodes} nodes"), |b| b.iter(|| runtime.block_on(session(nodes))));
    }
    group.finish();
}

criterion_group!(benches, chain);
criterion_main!(benches);
