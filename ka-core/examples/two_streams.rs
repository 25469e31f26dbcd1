//! What another cloning tool would do: two streams in one session, metadata that says what each is for, its own
//! sources and sinks, its own rule about who may join, and a cancel that leaves nobody with half a stream.
//!
//! `cargo run --release --example two_streams`

use std::error::Error;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use ka_core::net::{
    Admit, ClientConfig, ClientEvent, Control, Denied, JoinError, NodeEnd, Ports, ServerConfig, ServerKey,
    Stream, join, serve,
};
use ka_core::proto::Report;
use ka_core::stream::{Sink, Source, Stop};
use ka_core::types::SessionName;

/// A source of our own: so many bytes, or bytes without end.
struct Zeros(Option<usize>);

impl Source for Zeros {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.0.map_or(buf.len(), |left| left.min(buf.len()));
        buf[..n].fill(0);
        self.0 = self.0.map(|left| left - n);
        Ok(n)
    }
}

/// A sink of our own: notes what it got, and whether that was all.
struct Note {
    purpose: String,
    bytes: usize,
    notes: Arc<Mutex<Vec<String>>>,
}

impl Sink for Note {
    fn write(&mut self, blocks: &[Bytes], _: &Stop) -> io::Result<()> {
        self.bytes += blocks.iter().map(Bytes::len).sum::<usize>();
        Ok(())
    }
    fn finish(self: Box<Self>, _: &Stop) -> io::Result<()> {
        self.notes.lock().unwrap().push(format!("{}: {} bytes, complete", self.purpose, self.bytes));
        Ok(())
    }
    fn abort(self: Box<Self>) {
        self.notes.lock().unwrap().push(format!("{}: aborted", self.purpose));
    }
}

/// One server and one node that is called `label`; the node cancels as soon as `cancel` bytes are there.
async fn session(
    name: &str,
    streams: Vec<(&str, &str, Zeros)>,
    label: &str,
    cancel: Option<u64>,
) -> Result<(Option<Report>, Result<NodeEnd, JoinError>, Vec<String>), Box<dyn Error>> {
    let name = SessionName::new(format!("{name}-{}", std::process::id()))?;
    let ports = Ports { interfaces: vec!["lo".into()], ..Ports::default() };
    let rule = |who: &ka_core::net::Candidate| {
        if who.label.starts_with("lab-") {
            Ok(())
        } else {
            Err(Denied { code: 1, text: format!("`{}` is not of this lab", who.label) })
        }
    };
    let key = ServerKey::generate().expect("random numbers");
    let config = ServerConfig {
        session: Some(name.clone()),
        key: Some(key.clone()),
        ports: ports.clone(),
        admit: Some(Admit(Box::new(rule))),
        ..ServerConfig::default()
    };
    let streams = streams
        .into_iter()
        .map(|(name, purpose, source)| Stream {
            name: name.into(),
            metadata: purpose.into(),
            source: Box::new(source),
        })
        .collect();
    let (server_control, inbox) = Control::new();
    let server = tokio::spawn(serve(config, streams, inbox, |_| ()));

    let config = ClientConfig {
        session: Some(name),
        key: Some(key.key().clone()),
        discover_timeout: Some(Duration::from_secs(10)),
        label: label.into(),
        ports,
        ..ClientConfig::default()
    };
    let notes: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = notes.clone();
    let open = move |info: &ka_core::tape::chain::StreamInfo| {
        let purpose = String::from_utf8_lossy(&info.metadata).into_owned();
        Ok(Box::new(Note { purpose, bytes: 0, notes: kept.clone() }) as Box<dyn Sink>)
    };
    let (control, inbox) = Control::new();
    let end = join(config, open, inbox, |event| {
        if let (ClientEvent::Progress(p), Some(at)) = (event, cancel)
            && p.received.0 >= at
        {
            control.stop("the example");
        }
    })
    .await;
    if end.is_err() {
        // Nobody will come: the server need not wait.
        server_control.stop("the example");
    }
    let notes = std::mem::take(&mut *notes.lock().unwrap());
    Ok((server.await?.ok(), end, notes))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let streams =
        vec![("plan", "what to do", Zeros(Some(100))), ("root", "the disk", Zeros(Some(5_000_000)))];
    let (report, end, notes) = session("two", streams, "lab-1", None).await?;
    println!("{notes:?}");
    assert!(report.unwrap().is_ok() && end?.outcome.is_ok());
    assert_eq!(notes, ["what to do: 100 bytes, complete", "the disk: 5000000 bytes, complete"]);

    let (_, end, _) = session("rule", vec![("x", "", Zeros(Some(1)))], "stranger", None).await?;
    println!("{}", end.unwrap_err());

    let (report, end, notes) =
        session("cancel", vec![("x", "endless", Zeros(None))], "lab-2", Some(1 << 20)).await?;
    println!("{}, {notes:?}", end?.outcome);
    assert!(!report.unwrap().is_ok());
    assert_eq!(notes, ["endless: aborted"]);
    Ok(())
}
