//! A whole session in one process: one server, three nodes, one stream. Read it from top to bottom.
//!
//! `cargo run --release --example three_nodes`

use std::error::Error;
use std::time::Duration;

use ka_core::net::{ClientConfig, Control, Ports, ServerConfig, ServerKey, Stream, join, serve};
use ka_core::stream::{CommandSource, FileSink, Sink};
use ka_core::types::SessionName;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Nodes find the server by this name. Here they share its host, so loopback is enough to ask on.
    let session = SessionName::new(format!("example-{}", std::process::id()))?;
    let ports = Ports { interfaces: vec!["lo".into()], ..Ports::default() };

    // Nodes get in by this key, and know the server by it. It is made for this session.
    let key = ServerKey::generate()?;

    // The server: the session starts when three nodes are in, and the tape is what a command prints.
    let config = ServerConfig {
        session: Some(session.clone()),
        nodes: 3,
        key: Some(key.clone()),
        ports: ports.clone(),
        ..ServerConfig::default()
    };
    let source = CommandSource::spawn("seq 1 1000000")?;
    let stream = Stream { name: "numbers".into(), metadata: Vec::new(), source: Box::new(source) };

    // A `Control` stops the session, or starts it early; its `Inbox` goes to the session.
    let (_control, inbox) = Control::new();
    let server = tokio::spawn(serve(config, vec![stream], inbox, |event| println!("server: {event:?}")));

    // Three nodes. Each writes what it gets to a file of its own, and passes it on to the next.
    let dir = std::env::temp_dir();
    let mut nodes = Vec::new();
    for i in 1..=3 {
        let config = ClientConfig {
            session: Some(session.clone()),
            key: Some(key.key().clone()),
            discover_timeout: Some(Duration::from_secs(10)),
            ports: ports.clone(),
            ..ClientConfig::default()
        };
        let path = dir.join(format!("{session}-{i}"));
        let target = path.clone();
        // Called when a stream begins, on the thread that will feed the sink.
        let open = move |_: &_| {
            FileSink::open(&target).map(|s| Box::new(s) as Box<dyn Sink>).map_err(|e| e.to_string())
        };
        let (control, inbox) = Control::new();
        nodes.push((path, control, tokio::spawn(join(config, open, inbox, |_| ()))));
    }

    // A node says how it ended; OK means every byte arrived, was true, and is on disk.
    for (path, _control, node) in nodes {
        let end = node.await??;
        println!("{}: {} after {} bytes", end.node, end.outcome, end.received);
        assert!(std::fs::read_to_string(&path)?.ends_with("\n999999\n1000000\n"));
        std::fs::remove_file(path)?;
    }

    // The server's report has every node's receipt.
    let report = server.await??;
    assert!(report.is_ok());
    Ok(())
}
