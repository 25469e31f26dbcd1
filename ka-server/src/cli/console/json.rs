//! The JSON of `ka-d-server`, of which `docs/json.md` lists all. The parts that it shares with `ka-d-client` are in
//! [`ka_core::console::json`].

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ka_core::console::exit::Exit;
use ka_core::console::json::{Counters, Ending, VERSION, seconds};
use ka_core::net::ServerEvent;
use ka_core::proto::{self, NodeReport};
use ka_core::time::Instant;
use ka_core::types::NodeId;
use ka_desc::manifest::{NodeState, StreamKind};
use serde::Serialize;

use super::report;
use super::serving::Serving;

/// An event.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
#[expect(missing_docs, reason = "docs/json.md says it")]
pub enum Event<'a> {
    Open {
        session: String,
        name: Option<&'a str>,
        secure: bool,
        encrypted: bool,
        control_port: u16,
        data_port: u16,
        window_bytes: u64,
        expected: u32,
    },
    Joined {
        node: u32,
        addr: SocketAddr,
        label: &'a str,
        ready: u32,
        expected: u32,
    },
    Left {
        node: u32,
        ready: u32,
        expected: u32,
    },
    Refused {
        addr: SocketAddr,
        why: &'a str,
    },
    Started {
        nodes: u32,
    },
    Linked {
        node: u32,
        parent: u32,
    },
    Stream {
        number: u32,
        name: &'a str,
        size: Option<u64>,
        estimate: bool,
    },
    Progress {
        node: u32,
        received: u64,
        sunk: u64,
    },
    Suspected {
        node: u32,
        why: &'a str,
    },
    Returned {
        node: u32,
        at: u64,
    },
    Rerouted {
        node: u32,
        from: u32,
        to: u32,
        why: &'a str,
    },
    Idle {
        node: u32,
        why: &'a str,
    },
    Slow {
        node: u32,
        why: &'a str,
    },
    Later {
        node: u32,
        at: u64,
    },
    Resumed {
        node: u32,
        at: u64,
    },
    RereadFailed {
        why: &'a str,
    },
    Noted {
        node: u32,
        topic: &'a str,
        text: Cow<'a, str>,
    },
    Complete {
        node: u32,
    },
    Ended {
        node: u32,
        #[serde(flatten)]
        ending: Ending<'a>,
    },
    Released {
        node: u32,
    },
    Nameless {
        addrs: &'a [IpAddr],
    },
    Warning {
        text: &'a str,
    },
    Report(&'a Report<'a>),
}

impl<'a> Event<'a> {
    /// The event as programs know it, which may be several; one that is newer than this is left out.
    #[must_use]
    pub fn of(event: &'a ServerEvent, serving: &'a dyn Serving) -> Vec<Self> {
        match event {
            ServerEvent::Session(proto::Event::State { node, state }) => Self::of_state(*node, state),
            event => Self::one(event, serving).into_iter().collect(),
        }
    }

    /// The state of a node that installs a clone, as the notes that said it before there was a message for it.
    fn of_state(node: NodeId, state: &[u8]) -> Vec<Self> {
        let Some(state) = NodeState::from_bytes(state) else { return Vec::new() };
        let noted = |topic, text| Self::Noted { node: node.0, topic, text };
        let stage = noted("stage", state.stage.word().into());
        let partclone = state.partclone.map(|words| noted("partclone", words.join(" ").into()));
        [Some(stage), partclone].into_iter().flatten().collect()
    }

    fn one(event: &'a ServerEvent, serving: &'a dyn Serving) -> Option<Self> {
        Some(match event {
            ServerEvent::Open { session, key, control_port, data_port, window_bytes } => Self::Open {
                session: session.to_string(),
                name: name(serving),
                secure: key.is_secure(),
                encrypted: serving.session().keys.encrypts(),
                control_port: *control_port,
                data_port: *data_port,
                window_bytes: *window_bytes,
                expected: serving.session().nodes,
            },
            ServerEvent::Session(event) => return Self::of_session(event),
            ServerEvent::Stream(info) => Self::Stream {
                number: info.number,
                name: &info.name,
                size: info.size,
                estimate: info.size.is_some() && StreamKind::is_estimate(&info.metadata),
            },
            ServerEvent::Nameless(addrs) => Self::Nameless { addrs },
            ServerEvent::Warning(text) => Self::Warning { text },
            _ => return None,
        })
    }

    fn of_session(event: &'a proto::Event) -> Option<Self> {
        Some(match event {
            proto::Event::Joined { node, addr, label, ready, expected, .. } => {
                Self::Joined { node: node.0, addr: *addr, label, ready: *ready, expected: *expected }
            }
            proto::Event::Left { node, ready, expected } => {
                Self::Left { node: node.0, ready: *ready, expected: *expected }
            }
            proto::Event::Refused { addr, why, .. } => Self::Refused { addr: *addr, why },
            proto::Event::Started { nodes } => Self::Started { nodes: *nodes },
            proto::Event::Linked { node, parent } => Self::Linked { node: node.0, parent: parent.0 },
            proto::Event::Progress { node, progress } => {
                Self::Progress { node: node.0, received: progress.received.0, sunk: progress.sunk.0 }
            }
            proto::Event::Suspected { node, why } => Self::Suspected { node: node.0, why },
            proto::Event::Returned { node, at } => Self::Returned { node: node.0, at: at.0 },
            proto::Event::Rerouted { node, from, to, why } => {
                Self::Rerouted { node: node.0, from: from.0, to: to.0, why }
            }
            proto::Event::Idle { node, why } => Self::Idle { node: node.0, why },
            proto::Event::Slow { node, why } => Self::Slow { node: node.0, why },
            proto::Event::Later { node, at } => Self::Later { node: node.0, at: at.0 },
            proto::Event::Resumed { node, at } => Self::Resumed { node: node.0, at: at.0 },
            proto::Event::RereadFailed { why } => Self::RereadFailed { why },
            proto::Event::Noted { node, note } => {
                Self::Noted { node: node.0, topic: &note.topic, text: note.text.as_str().into() }
            }
            proto::Event::Complete { node } => Self::Complete { node: node.0 },
            proto::Event::Ended { node, outcome } => Self::Ended { node: node.0, ending: outcome.into() },
            proto::Event::Released { node } => Self::Released { node: node.0 },
            _ => return None,
        })
    }
}

/// The report on the outcome of the session.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "docs/json.md says it")]
pub struct Report<'a> {
    pub ka: &'static str,
    pub version: u32,
    pub session: Option<String>,
    pub name: Option<&'a str>,
    pub secure: bool,
    pub encrypted: bool,
    pub ok: bool,
    pub exit: u8,
    pub error: Option<&'a str>,
    pub bytes: u64,
    pub started_s: Option<f64>,
    pub ended_s: f64,
    pub opened: Option<String>,
    pub started: Option<String>,
    pub ended: Option<String>,
    pub source: SourceEnd<'a>,
    pub nodes: Vec<Node<'a>>,
    pub remarks: Vec<String>,
    pub again: Option<String>,
}

/// The outcome of the source.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "docs/json.md says it")]
pub struct SourceEnd<'a> {
    pub kind: &'static str,
    pub what: Option<String>,
    #[serde(flatten)]
    pub ending: Option<Ending<'a>>,
    pub counters: Option<Counters>,
}

/// The outcome of one node.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "docs/json.md says it")]
pub struct Node<'a> {
    pub node: u32,
    pub addr: SocketAddr,
    pub label: &'a str,
    #[serde(flatten)]
    pub ending: Ending<'a>,
    pub bytes: u64,
    pub joined_s: f64,
    pub ended_s: f64,
    pub counters: Counters,
    pub remarks: Vec<String>,
}

impl<'a> Report<'a> {
    /// The report of a session that was opened. `day`: the time of day, so long after that.
    #[must_use]
    pub fn of(
        report: &'a proto::Report,
        serving: &'a dyn Serving,
        exit: Exit,
        day: impl Fn(Duration) -> String,
    ) -> Self {
        let day = |at: Instant| day(at.since(Instant::ZERO));
        let node = |node: &'a NodeReport| Node { remarks: serving.remarks(node.node), ..Node::from(node) };
        Self {
            session: Some(report.session.to_string()),
            secure: !serving.session().keys.insecure,
            encrypted: serving.session().keys.encrypts(),
            ok: report.is_ok(),
            bytes: report.bytes,
            started_s: report.started.map(at),
            ended_s: at(report.ended),
            opened: Some(day(Instant::ZERO)),
            started: report.started.map(day),
            ended: Some(day(report.ended)),
            source: source(serving, Some(&report.root)),
            nodes: report.nodes.iter().map(node).collect(),
            remarks: serving.epilogue(),
            again: report::again(report, serving),
            ..Self::without_session(serving, exit, None)
        }
    }

    /// The report of a session that never was, because of `error`.
    #[must_use]
    pub fn without_session(serving: &'a dyn Serving, exit: Exit, error: Option<&'a str>) -> Self {
        Self {
            ka: env!("CARGO_PKG_VERSION"),
            version: VERSION,
            session: None,
            name: name(serving),
            secure: !serving.session().keys.insecure,
            encrypted: serving.session().keys.encrypts(),
            ok: false,
            exit: exit.code(),
            error,
            bytes: 0,
            started_s: None,
            ended_s: 0.0,
            opened: None,
            started: None,
            ended: None,
            source: source(serving, None),
            nodes: Vec::new(),
            remarks: Vec::new(),
            again: None,
        }
    }
}

impl<'a> From<&'a NodeReport> for Node<'a> {
    fn from(node: &'a NodeReport) -> Self {
        Self {
            node: node.node.0,
            addr: node.addr,
            label: &node.label,
            ending: (&node.outcome).into(),
            bytes: node.bytes,
            joined_s: at(node.joined),
            ended_s: at(node.ended),
            counters: node.counters.into(),
            remarks: Vec::new(),
        }
    }
}

fn name(serving: &dyn Serving) -> Option<&str> {
    serving.session().session.as_ref().map(|name| name.as_str())
}

fn at(time: Instant) -> f64 {
    seconds(time.since(Instant::ZERO))
}

fn source<'a>(serving: &dyn Serving, root: Option<&'a NodeReport>) -> SourceEnd<'a> {
    let (kind, what) = serving.source();
    let ending = root.map(|root| (&root.outcome).into());
    SourceEnd { kind, what, ending, counters: root.map(|root| root.counters.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::console::report::tests::{options, report};
    use ka_core::console::clock::Time;
    use ka_core::limits;
    use ka_core::wire::control::{Note, Outcome, Reason};

    #[test]
    fn a_line_of_an_event() {
        let joined = proto::Event::Joined {
            node: NodeId(1),
            addr: ([10, 0, 0, 5], 30764).into(),
            label: "pc05".into(),
            about: Vec::new(),
            ready: 1,
            expected: 3,
        };
        let (event, options) = (ServerEvent::Session(joined), options(&[]));
        let event = &Event::of(&event, &options)[0];
        let time = Time::since_1970(Duration::from_secs(1_782_914_710));
        let line = ka_core::console::json::line(event, Duration::from_millis(250), time);
        let expected = concat!(
            r#"{"event":"joined","node":1,"addr":"10.0.0.5:30764","label":"pc05","ready":1,"expected":3,"#,
            r#""t":0.25,"time":"2026-07-01T14:05:10.000Z"}"#,
        );
        assert_eq!(line, expected);
    }

    /// The length of an event's line.
    fn length(event: proto::Event) -> usize {
        let (event, options) = (ServerEvent::Session(event), options(&[]));
        let event = &Event::of(&event, &options)[0];
        ka_core::console::json::line(event, Duration::MAX / 2, Time::since_1970(Duration::ZERO)).len()
    }

    #[test]
    fn a_line_that_a_node_brings_about_is_bounded() {
        // Of a text, each character may need two.
        let text = |bytes| ka_core::types::printable(&"\"".repeat(2 * bytes), bytes);
        let (node, other) = (NodeId(u32::MAX), NodeId(u32::MAX - 1));
        let note = Note { topic: text(limits::TEXT_BYTES), text: text(limits::NOTE_BYTES) };
        assert!(length(proto::Event::Noted { node, note }) <= 4 << 10);
        let why = text(limits::TEXT_BYTES);
        assert!(length(proto::Event::Rerouted { node, from: other, to: other, why }) <= 2 << 10);
    }

    #[test]
    fn the_end_of_a_node_is_flat() {
        let outcome = Outcome::Failed(Reason::Sink("full".into()), ka_core::types::Offset(9));
        let event = ServerEvent::Session(proto::Event::Ended { node: NodeId(2), outcome });
        let options = options(&[]);
        let text = serde_json::to_string(&Event::of(&event, &options)[0]).unwrap();
        let expected = concat!(
            r#"{"event":"ended","node":2,"outcome":"failed","#,
            r#""reason":{"kind":"sink","node":null,"text":"full"},"at":9}"#,
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn a_report() {
        let (report, options) = (report(), options(&["-s", "x"]));
        let text = serde_json::to_string(&Report::of(&report, &options, Exit::Sink, |at| format!("{at:?}")))
            .unwrap();
        let counters =
            r#""counters":{"grants":0,"full":0,"evicted":0,"held_max":0,"holds":0,"attaches":0,"reread":0}"#;
        let expected = [
            r#"{"ka":"0.1.0","version":1,"session":"07070707070707070707070707070707","name":"x","secure":true,"encrypted":true,"ok":false,"#,
            r#""exit":6,"error":null,"bytes":4194304,"started_s":1.0,"ended_s":3.0,"#,
            r#""opened":"0ns","started":"1s","ended":"3s","#,
            r#""source":{"kind":"command","what":"tar c .","outcome":"ok","reason":null,"at":null,"#,
            counters,
            r#"},"nodes":[{"node":1,"addr":"10.0.0.5:30764","label":"pc05","outcome":"ok","reason":null,"#,
            r#""at":null,"bytes":4194304,"joined_s":0.5,"ended_s":3.0,"#,
            counters,
            r#","remarks":[]},{"node":2,"addr":"10.0.0.6:30764","label":"","outcome":"failed","#,
            r#""reason":{"kind":"sink","node":null,"text":"full"},"at":7,"bytes":7,"joined_s":0.5,"ended_s":2.0,"#,
            counters,
            r#","remarks":[]}],"remarks":[],"again":"ka-d-server -n 1 -e 'tar c .' -s x"}"#,
        ];
        assert_eq!(text, expected.concat());
    }

    #[test]
    fn a_report_of_no_session() {
        let options = options(&[]);
        let report = Report::without_session(&options, Exit::NoStart, Some("port 1: taken"));
        let json = serde_json::to_value(report).unwrap();
        assert_eq!(json["error"], "port 1: taken");
        assert_eq!(json["source"]["what"], "tar c .");
        assert!(json["session"].is_null() && json["source"].get("outcome").is_none());
        assert_eq!(json["nodes"], serde_json::json!([]));
    }
}
