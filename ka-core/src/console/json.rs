//! The JSON objects that both programs print and write. They are stable: fields may be added, none changes. `docs/json.md`
//! lists all of them; what events there are is in the module `json` of either program's crate.

use std::borrow::Cow;
use std::time::Duration;

use serde::Serialize;

use super::clock::Time;
use crate::wire::control;

/// The version of the reports' form.
pub const VERSION: u32 = 1;

/// The outcome of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ending<'a> {
    /// `ok`, `failed` or `unknown`.
    pub outcome: &'static str,
    /// Why it failed.
    pub reason: Option<Reason<'a>>,
    /// The offset at which it failed.
    pub at: Option<u64>,
}

impl<'a> From<&'a control::Outcome> for Ending<'a> {
    fn from(outcome: &'a control::Outcome) -> Self {
        match outcome {
            control::Outcome::Ok => Self { outcome: "ok", reason: None, at: None },
            control::Outcome::Failed(reason, at) => {
                Self { outcome: "failed", reason: Some(reason.into()), at: Some(at.0) }
            }
            _ => Self { outcome: "unknown", reason: None, at: None },
        }
    }
}

/// Why a node failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason<'a> {
    /// The kind of the reason.
    pub kind: &'static str,
    /// Whose fault it is, where it is a node's.
    pub node: Option<u32>,
    /// The same in words.
    pub text: Cow<'a, str>,
}

impl<'a> From<&'a control::Reason> for Reason<'a> {
    fn from(reason: &'a control::Reason) -> Self {
        let (kind, node, text) = match reason {
            control::Reason::Source(text) => ("source", None, text.as_str()),
            control::Reason::Sink(text) => ("sink", None, text.as_str()),
            control::Reason::Lost(node, text) => ("lost", Some(node.0), text.as_str()),
            control::Reason::Tainted(node, text) => ("tainted", Some(node.0), text.as_str()),
            control::Reason::Interrupted(text) => ("interrupted", None, text.as_str()),
            control::Reason::Slow(text) => ("slow", None, text.as_str()),
            control::Reason::Missing(..) => ("missing", None, ""),
        };
        let text = if text.is_empty() { reason.to_string().into() } else { text.into() };
        Self { kind, node, text }
    }
}

/// The counters of a node's window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Times it told its parent how far it may send.
    pub grants: u64,
    /// Times it was full.
    pub full: u64,
    /// Bytes forgotten to make room.
    pub evicted: u64,
    /// The most bytes held at one time.
    pub held_max: u64,
    /// Times a child was lost and everything was held until it had another parent.
    pub holds: u64,
    /// Times it attached to a parent.
    pub attaches: u64,
    /// Bytes that the server sent from its source again.
    pub reread: u64,
}

impl From<control::Counters> for Counters {
    fn from(c: control::Counters) -> Self {
        let control::Counters { grants, full, evicted, held_max, holds, attaches, reread } = c;
        Self { grants, full, evicted, held_max, holds, attaches, reread }
    }
}

#[derive(Serialize)]
struct Line<'a, E> {
    #[serde(flatten)]
    event: &'a E,
    t: f64,
    time: String,
}

/// An event as one line, without its end.
#[must_use]
pub fn line(event: &impl Serialize, since_start: Duration, time: Time) -> String {
    serde_json::to_string(&Line { event, t: seconds(since_start), time: time.stamp_ms() })
        .expect("our own objects have text for keys")
}

/// Seconds, to the millisecond.
#[must_use]
pub fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{NodeId, Offset};
    use crate::wire::control::{Outcome, Reason};

    fn ending(outcome: &Outcome) -> String {
        serde_json::to_string(&Ending::from(outcome)).unwrap()
    }

    #[test]
    fn how_a_node_ended() {
        assert_eq!(ending(&Outcome::Ok), r#"{"outcome":"ok","reason":null,"at":null}"#);
        assert_eq!(ending(&Outcome::Unknown), r#"{"outcome":"unknown","reason":null,"at":null}"#);
        let lost = Outcome::Failed(Reason::Lost(NodeId(3), "gone".into()), Offset(7));
        assert_eq!(
            ending(&lost),
            r#"{"outcome":"failed","reason":{"kind":"lost","node":3,"text":"gone"},"at":7}"#
        );
        for (reason, kind) in [
            (Reason::Source("x".into()), "source"),
            (Reason::Sink("x".into()), "sink"),
            (Reason::Interrupted("x".into()), "interrupted"),
        ] {
            let json = ending(&Outcome::Failed(reason, Offset(0)));
            assert!(json.contains(&format!(r#"{{"kind":"{kind}","node":null,"text":"x"}}"#)), "{json}");
        }
        let missing = ending(&Outcome::Failed(Reason::Missing(Offset(5), Offset(9)), Offset(5)));
        assert!(missing.contains(r#""kind":"missing""#) && missing.contains("bytes 5 to 9"), "{missing}");
        let tainted = Outcome::Failed(Reason::Tainted(NodeId(0), "x".into()), Offset(0));
        assert!(ending(&tainted).contains(r#"{"kind":"tainted","node":0,"text":"x"}"#));
    }

    #[test]
    fn a_line_has_the_event_first_and_the_time_last() {
        #[derive(Serialize)]
        #[serde(tag = "event", rename_all = "lowercase")]
        enum Event {
            Left { node: u32 },
        }
        let time = Time::since_1970(Duration::from_millis(1_782_914_710_123));
        let text = line(&Event::Left { node: 3 }, Duration::from_micros(1_234_567), time);
        assert_eq!(text, r#"{"event":"left","node":3,"t":1.235,"time":"2026-07-01T14:05:10.123Z"}"#);
    }

    #[test]
    fn counters() {
        let c = control::Counters {
            grants: 1,
            full: 2,
            evicted: 3,
            held_max: 4,
            holds: 5,
            attaches: 6,
            reread: 7,
        };
        let text = serde_json::to_string(&Counters::from(c)).unwrap();
        assert_eq!(
            text,
            r#"{"grants":1,"full":2,"evicted":3,"held_max":4,"holds":5,"attaches":6,"reread":7}"#
        );
    }
}
