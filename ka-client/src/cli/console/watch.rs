//! A node's run in a session, as its program shows it: signals, the live view, JSON events, the report, the exit status.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use ka_core::console::clock::Time;
use ka_core::console::exit::Exit;
use ka_core::console::json::{Counters, Ending, VERSION, seconds};
use ka_core::console::report::ReportFile;
use ka_core::console::reporter::Reporter;
use ka_core::console::run::{self, Moment};
use ka_core::crypto::session_key::Key;
use ka_core::limits;
use ka_core::net::discovery::AskError;
use ka_core::net::{ClientConfig, ClientEvent, Control, Inbox, JoinError, NodeEnd};
use ka_core::types::SessionName;
use ka_core::wire::control::Outcome;
use ka_desc::error::Error;

use super::json::{Event, Report};
use super::view::{Target, View};
use crate::receive::Progress;

/// A session to receive.
#[derive(Clone, Debug)]
pub struct Config {
    /// The session, its key, and how this host is called.
    pub client: ClientConfig,
    /// The session that is joined, in words.
    pub title: String,
    /// The file to which the outcome is written, as JSON.
    pub report: Option<PathBuf>,
}

/// The outcome of this node.
pub struct Received {
    /// The exit status.
    pub exit: Exit,
    /// The session is one that this host has been through.
    pub already: bool,
}

/// Takes in what happens in the session, and shows it.
#[derive(Clone)]
pub struct Told(Arc<Mutex<Watch>>);

impl Told {
    /// Something happened.
    pub fn take(&self, progress: &Progress<'_>) {
        let mut watch = lock(&self.0);
        match progress {
            Progress::Session(event) => watch.take(event),
            Progress::Remark(text) => watch.tell.say((*text).to_owned()),
        }
    }
}

/// Receives a session at the console. `begin` makes ready, while what cannot work costs nothing, and returns the
/// session's future; it gets the session to join, its control, and what is to be told of its progress.
pub async fn receive<S>(
    config: Config,
    tell: &Reporter,
    begin: impl FnOnce(ClientConfig, (Control, Inbox), Told) -> Result<S, Error>,
) -> Received
where
    S: Future<Output = Result<NodeEnd, Error>>,
{
    let watch = Arc::new(Mutex::new(Watch::new(tell.clone(), &config)));
    let Config { client, report, .. } = config;
    let label = client.label.clone();
    let (control, inbox) = Control::new();
    // From here on there are files that must not be left behind.
    let ready = run::Signals::hear().map_err(Error::from).and_then(|signals| {
        let file = report.as_deref().map(ReportFile::open).transpose()?;
        Ok((signals, file, begin(client, (control.clone(), inbox), Told(Arc::clone(&watch)))?))
    });
    let (signals, file, session) = match ready {
        Ok(ready) => ready,
        Err(e) => {
            tell.fail(&e.to_string(), Exit::NoStart);
            return Received { exit: Exit::NoStart, already: false };
        }
    };
    let end = run::supervise(signals, session, |moment| match moment {
        Moment::Tick => lock(&watch).tick(),
        Moment::Stop(who) => {
            lock(&watch).tell.say(format!("{who}: stopping; once more to leave at once"));
            control.stop(format!("{who} on {label}"));
        }
        Moment::Leave => lock(&watch).leave(),
    });
    let end = end.await;
    let already = matches!(&end, Some(Err(error)) if matches!(error.cause(), Some(JoinError::Done(_))));
    let end = match end {
        Some(Ok(end)) => Ok(end.into()),
        Some(Err(error)) => Err((error.cause().map_or(Exit::NoStart, exit_of), error.to_string())),
        None => lock(&watch).left(),
    };
    Received { exit: lock(&watch).last_words(&label, end, file), already }
}

/// The end of a session for this host: as a node, or without having been one, and why.
type End = Result<Ended, (Exit, String)>;

#[derive(Debug)]
struct Ended {
    outcome: Outcome,
    received: u64,
    counters: Counters,
}

impl From<NodeEnd> for Ended {
    fn from(end: NodeEnd) -> Self {
        Self { outcome: end.outcome, received: end.received.0, counters: end.counters.into() }
    }
}

/// The exit status of a node that never was one.
pub fn exit_of(error: &JoinError) -> Exit {
    match error {
        JoinError::Config(_) => Exit::Usage,
        JoinError::NotFound(AskError::Io(_)) | JoinError::Port(..) => Exit::NoStart,
        JoinError::NotFound(
            AskError::OtherVersion(_) | AskError::Other(_) | AskError::NotFound { other: Some(_), .. },
        )
        | JoinError::Ambiguous(..)
        | JoinError::Refused(_)
        | JoinError::Done(_)
        | JoinError::UnknownKey(_)
        | JoinError::OtherName(_)
        | JoinError::Impostor(_)
        | JoinError::Protocol(..) => Exit::Refused,
        JoinError::NotFound(_) | JoinError::Unresolved(..) | JoinError::Unreachable(..) => Exit::NoServer,
        JoinError::Stopped(_) => Exit::Interrupted,
        _ => Exit::NoStart,
    }
}

fn lock(watch: &Mutex<Watch>) -> std::sync::MutexGuard<'_, Watch> {
    watch.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sees the events, tells people and programs.
struct Watch {
    tell: Reporter,
    view: View,
    name: Option<SessionName>,
    secure: bool,
    found: Option<SocketAddr>,
    /// The bytes that this node had received at the last progress event.
    received: u64,
    /// The outcome of this node, if it has ended.
    outcome: Option<Outcome>,
    /// Nothing that happens counts any more.
    left: bool,
}

impl Watch {
    fn new(tell: Reporter, config: &Config) -> Self {
        let Config { client, title, .. } = config;
        let secure = client.key.as_ref().is_some_and(Key::is_secure);
        let openly = if secure { "" } else { " (INSECURE: anybody can forge it)" };
        let view = View::new(Target {
            title: format!("{title}{openly}"),
            name: client.session.clone(),
            patience: client.discover_timeout.unwrap_or(limits::DISCOVER_TIMEOUT),
            since: Time::now(),
        });
        let name = client.session.clone();
        Self { tell, view, name, secure, found: None, received: 0, outcome: None, left: false }
    }

    fn take(&mut self, event: &ClientEvent) {
        if self.left {
            return;
        }
        match event {
            ClientEvent::Progress(progress) => self.received = progress.received.0,
            ClientEvent::Ended(outcome) => self.outcome = Some(outcome.clone()),
            _ => {}
        }
        // Asked again and again while the server cannot be reached, it is found again and again.
        if let ClientEvent::Found(addr) = event
            && self.found.replace(*addr) == Some(*addr)
        {
            return;
        }
        match Event::of(event) {
            Some(json @ Event::Progress { .. }) => self.tell.passing(&json),
            Some(json) => self.tell.event(&json),
            None => {}
        }
        if let Some(line) = self.view.take(self.tell.elapsed(), event) {
            self.tell.line(line);
        }
    }

    fn tick(&mut self) {
        let (view, now) = (&self.view, self.tell.elapsed());
        self.tell.show(|_| view.frame(now), || view.line(now));
    }

    /// Nothing is waited for: what a sink says from now on is that it was killed.
    fn leave(&mut self) {
        self.left = true;
    }

    /// Returns the end for somebody who has not waited for it. The outcome of this node, if it has one, is no less true
    /// for that.
    fn left(&self) -> End {
        let why = "interrupted twice, so nothing was waited for";
        let Some(outcome) = self.outcome.clone() else { return Err((Exit::Interrupted, why.into())) };
        self.tell.say(format!("{}: {why}", self.tell.program()));
        Ok(Ended { outcome, received: self.received, counters: Counters::default() })
    }

    /// The last line, the last event and the report; and with them the exit status.
    fn last_words(&self, label: &str, end: End, file: Option<ReportFile>) -> Exit {
        let exit = match &end {
            Ok(end) => Exit::of(&end.outcome),
            Err((exit, _)) => *exit,
        };
        let report = self.report(label, &end, exit);
        self.tell.clear();
        match &end {
            Ok(end) => {
                if let Some(text) = self.view.end(self.tell.elapsed(), &end.outcome, end.received) {
                    self.tell.say(text);
                }
                self.tell.event(&Event::Report(&report));
            }
            Err((_, why)) => self.tell.fail(why, exit),
        }
        match file.map(|file| file.write(&report)) {
            Some(Err(e)) => {
                self.tell.say(format!("{}: {e}", self.tell.program()));
                if exit == Exit::Fine { Exit::NoStart } else { exit }
            }
            _ => exit,
        }
    }

    fn report<'a>(&'a self, label: &'a str, end: &'a End, exit: Exit) -> Report<'a> {
        let joined = self.view.joined;
        let now = self.tell.elapsed();
        let end_of_node = end.as_ref().ok();
        let received = end_of_node.map_or(0, |e| e.received);
        let ok = end_of_node.is_some_and(|e| e.outcome.is_ok());
        Report {
            ka: env!("CARGO_PKG_VERSION"),
            version: VERSION,
            session: joined.map(|j| j.session.to_string()),
            name: self.name.as_ref().map(|name| name.as_str()),
            secure: self.secure,
            ok,
            exit: exit.code(),
            error: end.as_ref().err().map(|(_, why)| why.clone()),
            node: joined.map(|j| j.node.0),
            label,
            ending: end_of_node.map_or(NEVER_JOINED, |e| Ending::from(&e.outcome)),
            received,
            // Its last progress may be older than its end.
            bytes: if ok { received } else { self.view.sunk },
            joined_s: joined.map(|j| seconds(j.at)),
            ended_s: seconds(now),
            joined: joined.map(|j| self.tell.time_of(j.at)),
            started: self.view.started.map(|at| self.tell.time_of(at)),
            ended: self.tell.time_of(now),
            counters: end_of_node.map(|e| e.counters).unwrap_or_default(),
        }
    }
}

const NEVER_JOINED: Ending<'static> = Ending { outcome: "failed", reason: None, at: None };

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use ka_core::net::{PortError, Service};
    use ka_core::types::{NodeId, Offset, SessionId};
    use ka_core::wire::control::{Reason, Refusal};

    fn watch() -> Watch {
        let key = Some(Key::new([0; 12], &[0; 32]));
        let session = Some(SessionName::new("x").unwrap());
        let client = ClientConfig { session, key, ..ClientConfig::default() };
        let config = Config { client, title: "session `x`".into(), report: None };
        Watch::new(Reporter::new("ka-d-client", false).unwrap(), &config)
    }

    #[test]
    fn why_it_never_joined_has_a_status() {
        let addr: SocketAddr = ([10, 0, 0, 1], 30765).into();
        let io = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let port = PortError { service: Service::Data, ports: 1..=1, error: io() };
        for (error, exit) in [
            (JoinError::Config(String::new()), Exit::Usage),
            (JoinError::NotFound(AskError::NoInterface), Exit::NoServer),
            (JoinError::NotFound(AskError::OtherVersion(7)), Exit::Refused),
            (JoinError::Refused(Refusal::full()), Exit::Refused),
            (JoinError::Done(SessionId([0; 16])), Exit::Refused),
            (JoinError::Unreachable(addr, io()), Exit::NoServer),
            (JoinError::Unresolved("golden".parse().unwrap(), io()), Exit::NoServer),
            (JoinError::OtherName(addr.ip()), Exit::Refused),
            (JoinError::Interface(io()), Exit::NoStart),
            (JoinError::Io("cannot connect".into(), io()), Exit::NoStart),
            (JoinError::Port(port), Exit::NoStart),
            (JoinError::Stopped("Ctrl-C".into()), Exit::Interrupted),
        ] {
            assert_eq!(exit_of(&error), exit, "{error:?}");
        }
    }

    #[test]
    fn the_report_of_a_node_that_failed() {
        let mut watch = watch();
        watch.take(&ClientEvent::Joined {
            node: NodeId(2),
            session: SessionId([0xab; 16]),
            expected: 3,
            encrypted: true,
            data_port: 1,
            window_bytes: 1,
        });
        let end = Ok(Ended {
            outcome: Outcome::Failed(Reason::Lost(NodeId(1), "reset".into()), Offset(7)),
            received: 9,
            counters: Counters::default(),
        });
        let mut report = watch.report("pc05", &end, Exit::Lost);
        (report.joined_s, report.ended_s) = (Some(0.5), 1.5);
        assert!(report.joined.replace("J".into()).is_some_and(|joined| joined <= report.ended));
        report.ended = "E".into();
        let expected = concat!(
            r#"{"ka":"0.1.0","version":1,"session":"abababababababababababababababab","name":"x","secure":true,"ok":false,"exit":7,"#,
            r#""error":null,"node":2,"label":"pc05","outcome":"failed","#,
            r#""reason":{"kind":"lost","node":1,"text":"reset"},"at":7,"received":9,"bytes":0,"joined_s":0.5,"#,
            r#""ended_s":1.5,"joined":"J","started":null,"ended":"E","counters":{"grants":0,"full":0,"evicted":0,"held_max":0,"holds":0,"attaches":0,"reread":0}}"#,
        );
        assert_eq!(serde_json::to_string(&report).unwrap(), expected);
    }

    #[test]
    fn the_report_of_a_node_that_never_joined() {
        let end = Err((Exit::NoServer, "nobody".to_owned()));
        let watch = watch();
        let report = serde_json::to_value(watch.report("pc05", &end, Exit::NoServer)).unwrap();
        assert_eq!(report["outcome"], "failed");
        assert_eq!(report["error"], "nobody");
        assert_eq!(report["exit"], 3);
        assert!(report["session"].is_null() && report["node"].is_null() && report["joined_s"].is_null());
    }
}
