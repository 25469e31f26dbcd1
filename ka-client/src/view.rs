//! What people see of a client: lines that stay, and one that moves.

use std::time::Duration;

use ka_core::net::ClientEvent;
use ka_core::types::{NodeId, SessionId};
use ka_core::wire::control::Outcome;

use crate::console::tell::Line;
use crate::console::{meter, units};

/// What is known of the session.
#[derive(Debug)]
pub(crate) struct View {
    /// What is joined, in words.
    target: String,
    stage: Stage,
    pub(crate) joined: Option<Joined>,
    started: Option<Duration>,
    parent: String,
    /// All streams' that are known so far, if all of those say.
    size: Option<u64>,
    received: u64,
    pub(crate) sunk: u64,
    meter: meter::Meter,
    /// A failure has been told.
    told: bool,
}

/// Who we are in the session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Joined {
    pub(crate) node: NodeId,
    pub(crate) session: SessionId,
    pub(crate) at: Duration,
    expected: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Looking,
    Waiting,
    Receiving,
    Sinking,
    Relaying,
}

impl View {
    pub(crate) fn new(target: String) -> Self {
        Self {
            target,
            stage: Stage::Looking,
            joined: None,
            started: None,
            parent: String::new(),
            size: Some(0),
            received: 0,
            sunk: 0,
            meter: meter::Meter::default(),
            told: false,
        }
    }

    /// Takes in what happened, and says what is to be said about it.
    pub(crate) fn take(&mut self, now: Duration, event: &ClientEvent) -> Option<Line> {
        match event {
            ClientEvent::Other(who) => Some(Line::Say(format!("{who}; still looking for {}", self.target))),
            ClientEvent::Trying(why) => Some(Line::Say(format!("{why}; trying again"))),
            ClientEvent::Warning(text) => Some(Line::Say(format!("warning: {text}"))),
            ClientEvent::Found(addr) => Some(Line::Note(format!("found {} ({addr})", self.target))),
            ClientEvent::Joined { node, session, expected, encrypted, .. } => {
                self.stage = Stage::Waiting;
                self.joined = Some(Joined { node: *node, session: *session, at: now, expected: *expected });
                let open = if *encrypted { "" } else { "; the payload is not encrypted" };
                Some(Line::Say(format!("joined {} as {node} of {expected}{open}", self.target)))
            }
            ClientEvent::Parent { node, addr } => {
                self.stage = Stage::Receiving;
                let first = self.started.is_none();
                if first {
                    self.started = Some(now);
                    self.meter.see(now, 0);
                }
                self.parent = match *node {
                    NodeId::ROOT => node.to_string(),
                    node => format!("{node} ({})", addr.ip()),
                };
                let what = if first { "started: receiving" } else { "receiving" };
                Some(Line::Say(format!("{what} from {}", self.parent)))
            }
            ClientEvent::NoParent => {
                Some(Line::Say("waiting: the rest comes once the others have it".into()))
            }
            ClientEvent::Away => {
                Some(Line::Say("the server is not heard; going on, and looking for it".into()))
            }
            ClientEvent::Back => Some(Line::Say("the server is heard again".into())),
            ClientEvent::Linked => Some(Line::Note(format!("linked to {}", self.parent))),
            ClientEvent::Stream(info) => {
                self.size = self.size.zip(info.size).map(|(all, size)| all + size);
                let size = info.size.map_or("of unknown size".into(), units::size);
                Some(Line::Note(format!("stream `{}`, {size}", info.name)))
            }
            ClientEvent::Progress(progress) => {
                (self.received, self.sunk) = (progress.received.0, progress.sunk.0);
                self.meter.see(now, self.received);
                None
            }
            ClientEvent::Complete => {
                self.stage = Stage::Sinking;
                Some(Line::Note("everything is here; the sink is at work".into()))
            }
            ClientEvent::Ended(outcome) => {
                self.stage = Stage::Relaying;
                self.told = !outcome.is_ok();
                Some(ended(outcome))
            }
            _ => None,
        }
    }

    /// How far it is, for a log.
    pub(crate) fn line(&self, now: Duration) -> String {
        match (self.stage, self.joined) {
            (Stage::Looking, _) => format!("looking for {}", self.target),
            (Stage::Waiting, Some(Joined { node, expected, .. })) => {
                format!("{node} is in; waiting for the session to start with {}", units::nodes(expected))
            }
            (Stage::Sinking, _) => {
                format!("everything is here; the sink has taken {}", units::size(self.sunk))
            }
            (Stage::Relaying, _) => "this node has ended; others still need it".into(),
            (Stage::Waiting | Stage::Receiving, _) => {
                format!("{}  from {}", self.progress(now), self.parent)
            }
        }
    }

    /// The same for a terminal.
    pub(crate) fn frame(&self, now: Duration) -> Vec<String> {
        Vec::from([match self.size {
            Some(size) if self.stage == Stage::Receiving => {
                format!("{} {}", meter::bar(self.received, size), self.progress(now))
            }
            _ => self.line(now),
        }])
    }

    fn progress(&self, now: Duration) -> String {
        meter::progress(self.received, self.size, self.meter.rate(now))
    }

    /// The last line; none after a failure that was told when it happened.
    pub(crate) fn end(&self, now: Duration, outcome: &Outcome, received: u64) -> Option<String> {
        if !outcome.is_ok() {
            return (!self.told).then(|| outcome.to_string());
        }
        let time = self.started.map_or(Duration::ZERO, |then| now.saturating_sub(then));
        let rate = (received as f64 / time.as_secs_f64().max(0.001)) as u64;
        Some(format!("OK: {} in {} ({})", units::size(received), units::duration(time), units::rate(rate)))
    }
}

/// A failure is told when it happens: others may need this node for a long time yet.
fn ended(outcome: &Outcome) -> Line {
    if outcome.is_ok() {
        Line::Note("this node is done; it stays while others need it".into())
    } else {
        Line::Say(format!("{outcome}; it stays while others need it"))
    }
}

#[cfg(test)]
mod tests {
    use ka_core::seal::StreamInfo;
    use ka_core::types::Offset;
    use ka_core::wire::control::{Progress, Reason};

    use super::*;

    fn joined() -> ClientEvent {
        ClientEvent::Joined {
            node: NodeId(2),
            session: SessionId([7; 16]),
            expected: 3,
            encrypted: true,
            data_port: 30764,
            window_bytes: 1 << 20,
        }
    }

    fn progress(received: u64) -> ClientEvent {
        let (received, sunk) = (Offset(received), Offset(received / 2));
        ClientEvent::Progress(Progress { received, sunk, ..Progress::default() })
    }

    #[test]
    fn a_session_from_its_beginning_to_its_end() {
        let begun = Duration::ZERO;
        let mut view = View::new("session `x`".into());
        assert_eq!(view.line(begun), "looking for session `x`");

        let line = view.take(begun, &joined());
        assert_eq!(line, Some(Line::Say("joined session `x` as node 2 of 3".into())));
        assert_eq!(view.line(begun), "node 2 is in; waiting for the session to start with 3 nodes");

        let parent = ClientEvent::Parent { node: NodeId(1), addr: ([10, 0, 0, 5], 30764).into() };
        view.take(begun, &parent);
        let info = StreamInfo { number: 0, name: "f".into(), metadata: Vec::new(), size: Some(4 << 20) };
        view.take(begun, &ClientEvent::Stream(info));
        view.take(begun, &progress(0));
        let now = begun + Duration::from_secs(1);
        view.take(now, &progress(1 << 20));
        let said = "25 %  1 MiB of 4 MiB  1 MiB/s  3 s left";
        assert_eq!(view.line(now), format!("{said}  from node 1 (10.0.0.5)"));
        assert_eq!(view.frame(now), [format!("[#####---------------] {said}")]);

        view.take(now, &progress(4 << 20));
        view.take(now, &ClientEvent::Complete);
        assert_eq!(view.frame(now), ["everything is here; the sink has taken 2 MiB"]);

        let later = begun + Duration::from_secs(2);
        assert_eq!(view.end(later, &Outcome::Ok, 4 << 20).unwrap(), "OK: 4 MiB in 2 s (2 MiB/s)");
    }

    #[test]
    fn a_failure_is_told_at_once() {
        let mut view = View::new("session `x`".into());
        let outcome = Outcome::Failed(Reason::Sink("full".into()), Offset(5));
        assert!(view.end(Duration::ZERO, &outcome, 5).is_some(), "not told yet");
        let line = view.take(Duration::ZERO, &ClientEvent::Ended(outcome.clone()));
        let text = "FAILED at byte 5: the sink failed: full; it stays while others need it";
        assert_eq!(line, Some(Line::Say(text.into())));
        assert_eq!(view.end(Duration::ZERO, &outcome, 5), None);
    }
}
