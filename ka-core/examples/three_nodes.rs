//! A whole session in one process: one server, three nodes, one stream. Read it from top to bottom.
//!
//! `cargo run --release --example three_nodes`

use std::error::Error;
use std::time::Duration;

use ka_core::net::{ClientConfig, Control, Ports, ServerConfig, ServerEvent, ServerKey, Stream, join, serve};
use ka_core::proto::Event;
use ka_core::stream::{CommandSink, CommandSource, Sink};
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

    // What happens is told as it happens; how far each node is, several times a second.
    let show = |event| match event {
        ServerEvent::Session(Event::Progress { .. }) => {}
        event => println!("server: {event:?}"),
    };

    // A `Control` stops the session, or starts it early; its `Inbox` goes to the session.
    let (_control, inbox) = Control::new();
    let server = tokio::spawn(serve(config, vec![stream], inbox, show));

    // Three nodes. Each feeds what it gets to a command, and passes it on to the next. (`FileSink` writes a file.)
    let mut nodes = Vec::new();
    for _ in 0..3 {
        let config = ClientConfig {
            session: Some(session.clone()),
            key: Some(key.key().clone()),
            discover_timeout: Some(Duration::from_secs(10)),
            ports: ports.clone(),
            ..ClientConfig::default()
        };
        // Called when a stream begins, on the thread that will feed the sink.
        let open = |_: &_| {
            let sink = CommandSink::spawn("test $(tail -n 1) = 1000000");
            sink.map(|s| Box::new(s) as Box<dyn Sink>)
        };
        let (control, inbox) = Control::new();
        nodes.push((control, tokio::spawn(join(config, open, inbox, |_| ()))));
    }

    // A node says how it ended; OK means every byte arrived, was true, and was taken: the command ended well.
    for (_control, node) in nodes {
        let end = node.await??;
        println!("{}: {} after {} bytes", end.node, end.outcome, end.received);
        assert!(end.outcome.is_ok());
    }

    // The server's report has every node's receipt.
    let report = server.await??;
    assert!(report.is_ok());
    Ok(())
}
