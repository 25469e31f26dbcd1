//! The live view of a client: lines that stay, and one that moves.

use std::time::Duration;

use ka_core::console::clock::Time;
use ka_core::console::meter::{Meter, Total, average};
use ka_core::console::printer::{Styled, Tone};
use ka_core::console::reporter::Line;
use ka_core::console::shell::quoted;
use ka_core::console::units;
use ka_core::net::ClientEvent;
use ka_core::types::{NodeId, SessionId, SessionName};
use ka_core::wire::control::Outcome;
use ka_desc::manifest::StreamKind;

/// The state of the session, as far as it is known.
#[derive(Debug)]
pub(crate) struct View {
    target: Target,
    stage: Stage,
    pub(crate) joined: Option<Joined>,
    pub(crate) started: Option<Duration>,
    parent: Option<Parent>,
    stream: Option<Stream>,
    received: u64,
    pub(crate) sunk: u64,
    meter: Meter,
    /// The outcome of this node. Nothing that comes later changes that.
    ended: Option<Outcome>,
}

/// The session that is joined.
#[derive(Debug)]
pub(crate) struct Target {
    /// In words.
    pub(crate) title: String,
    /// Its name, if it has one.
    pub(crate) name: Option<SessionName>,
    /// The longest time that the session is looked for.
    pub(crate) patience: Duration,
    /// When it began to be looked for.
    pub(crate) since: Time,
}

/// The identity of this node in the session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Joined {
    pub(crate) node: NodeId,
    pub(crate) session: SessionId,
    pub(crate) at: Duration,
    expected: u32,
}

/// The progress of this node. It only ever goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Looking,
    Waiting,
    Receiving,
    Sinking,
}

/// Whence the bytes come.
#[derive(Debug)]
struct Parent {
    who: String,
    linked: bool,
}

/// The stream that comes at present.
#[derive(Debug)]
struct Stream {
    /// Before its progress; the first one goes without saying.
    name: String,
    total: Total,
    /// The bytes that had come before this stream, once they are known.
    before: Option<u64>,
}

impl View {
    pub(crate) fn new(target: Target) -> Self {
        Self {
            target,
            stage: Stage::Looking,
            joined: None,
            started: None,
            parent: None,
            stream: None,
            received: 0,
            sunk: 0,
            meter: Meter::default(),
            ended: None,
        }
    }

    /// Takes in what happened, and says what is to be said about it.
    pub(crate) fn take(&mut self, now: Duration, event: &ClientEvent) -> Option<Line> {
        match event {
            ClientEvent::Away => {
                return Some(Line::Say("the server is not heard; going on, and looking for it".into()));
            }
            ClientEvent::Back => return Some(Line::Say("the server is heard again".into())),
            // It passes on what others need, and that is nobody's news.
            _ if self.ended.is_some() => return None,
            _ => {}
        }
        let title = &self.target.title;
        match event {
            ClientEvent::Other(who) => Some(Line::Say(format!("{who}; still looking for {title}"))),
            ClientEvent::Trying(why) => Some(Line::Say(format!("{why}; trying again"))),
            ClientEvent::Warning(text) => Some(Line::Say(format!("warning: {text}"))),
            ClientEvent::Found(addr) => Some(Line::Note(format!("found {title} ({addr})"))),
            ClientEvent::Joined { node, session, expected, encrypted, .. } => {
                self.stage = Stage::Waiting;
                self.joined = Some(Joined { node: *node, session: *session, at: now, expected: *expected });
                let open = if *encrypted { "" } else { "; the payload is not encrypted" };
                Some(Line::Say(format!("joined {title} as {node} of {expected}{open}")))
            }
            ClientEvent::Parent { node, addr } => self.fed_by(now, *node, addr.ip().to_string()),
            ClientEvent::NoParent => {
                self.parent = None;
                Some(Line::Say("waiting: the rest comes once the others have it".into()))
            }
            ClientEvent::Linked => {
                let parent = self.parent.as_mut().filter(|_| self.stage == Stage::Receiving)?;
                parent.linked = true;
                Some(Line::Note(format!("linked to {}", parent.who)))
            }
            ClientEvent::Stream(info) => {
                let total = Total::new(info.size, StreamKind::is_estimate(&info.metadata));
                let name = if info.number == 0 { String::new() } else { format!("{}: ", info.name) };
                let before = (info.number == 0).then_some(0);
                self.stream = Some(Stream { name, total, before });
                Some(Line::Note(format!("stream `{}`, {total}", info.name)))
            }
            ClientEvent::Progress(progress) => {
                (self.received, self.sunk) = (progress.received.0, progress.sunk.0);
                if let Some(stream) = &mut self.stream {
                    stream.before.get_or_insert(self.received);
                }
                self.meter.see(now, self.received);
                None
            }
            ClientEvent::Complete => {
                self.stage = Stage::Sinking;
                Some(Line::Note("everything is here; the sink is at work".into()))
            }
            ClientEvent::Ended(outcome) => {
                self.ended = Some(outcome.clone());
                // What went well is told at the end.
                (!outcome.is_ok()).then(|| Line::Say(outcome.to_string()))
            }
            _ => None,
        }
    }

    fn fed_by(&mut self, now: Duration, node: NodeId, ip: String) -> Option<Line> {
        // Who has everything is linked for the sake of others.
        if self.stage == Stage::Sinking {
            return None;
        }
        let who = if node == NodeId::ROOT { node.to_string() } else { format!("{node} ({ip})") };
        let line = match self.started.replace(self.started.unwrap_or(now)) {
            None => format!("the session has started; the stream is to come from {who}"),
            Some(_) => format!("the stream is to come from {who} now"),
        };
        self.stage = Stage::Receiving;
        self.parent = Some(Parent { who, linked: false });
        Some(Line::Say(line))
    }

    /// Returns the progress as a line for a log. It is printed again when it is another line; so it has no time that
    /// passes.
    pub(crate) fn line(&self, now: Duration) -> String {
        let Target { title, patience, since, .. } = &self.target;
        match self.stage {
            _ if self.ended.is_some() => self.stays(),
            Stage::Looking => {
                let until = since.after(*patience).stamp();
                format!("looking for {title} since {}; gives up at {until}", since.stamp())
            }
            Stage::Waiting => self.waiting(),
            Stage::Receiving => format!("{}  {}", self.progress(now), self.source()),
            Stage::Sinking => format!("everything is here; the sink has taken {}", units::size(self.sunk)),
        }
    }

    /// The same for a terminal.
    pub(crate) fn frame(&self, now: Duration) -> Vec<Styled> {
        let bar = self.stream.as_ref().and_then(|stream| stream.total.bar(self.done(stream)));
        let failed = self.ended.as_ref().is_some_and(|outcome| !outcome.is_ok());
        let text = match (self.stage, bar) {
            _ if failed => return vec![Tone::Bad.of(self.stays())],
            _ if self.ended.is_some() => self.stays(),
            (Stage::Looking, _) => {
                let left = self.target.patience.saturating_sub(now);
                let (for_now, left) = (units::duration(now), units::duration(left));
                format!("looking for {} for {for_now}; gives up in {left}", self.target.title)
            }
            (Stage::Receiving, Some(bar)) => format!("{bar} {}  {}", self.progress(now), self.source()),
            _ => self.line(now),
        };
        vec![text.into()]
    }

    fn waiting(&self) -> String {
        let Some(Joined { node, expected, .. }) = self.joined else { return String::new() };
        let text = format!("{node} is in; waiting for the session to start with {}", units::nodes(expected));
        match &self.target.name {
            Some(name) if expected > 1 => {
                let name = quoted(name.as_str().as_ref());
                format!("{text} (with fewer: `ka-d-client -g -s {name}` on the server's host)")
            }
            _ => text,
        }
    }

    fn source(&self) -> String {
        match &self.parent {
            Some(Parent { who, linked: true }) => format!("from {who}"),
            Some(Parent { who, linked: false }) => format!("no link to {who} yet"),
            None => "waiting: the rest comes once the others have it".into(),
        }
    }

    fn stays(&self) -> String {
        let failed = self.ended.as_ref().is_some_and(|outcome| !outcome.is_ok());
        let how = if failed { "has FAILED" } else { "is done" };
        format!("this node {how}; it stays until the server lets it go, because others may need it")
    }

    /// Returns the bytes of this stream that have come.
    fn done(&self, stream: &Stream) -> u64 {
        self.received.saturating_sub(stream.before.unwrap_or(self.received))
    }

    fn progress(&self, now: Duration) -> String {
        let pace = self.meter.pace(now);
        match &self.stream {
            Some(stream) => stream.name.clone() + &stream.total.progress(self.done(stream), pace),
            None => Total::Unknown.progress(self.received, pace),
        }
    }

    /// The last line; none after a failure that was told when it happened.
    pub(crate) fn end(&self, now: Duration, outcome: &Outcome, received: u64) -> Option<Styled> {
        if !outcome.is_ok() {
            return self.ended.is_none().then(|| outcome.to_string().into());
        }
        if received == 0 {
            return Some(Tone::Doubtful.of("OK: 0 B; but the source gave nothing"));
        }
        let average = average(received, self.started.unwrap_or(now), now, self.meter.begun());
        Some(Tone::Good.of(format!("OK: {average}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ka_core::tape::chain::StreamInfo;
    use ka_core::types::Offset;
    use ka_core::wire::control::{Progress, Reason};
    use ka_desc::manifest::StreamKind;
    use proptest::prelude::*;

    fn view() -> View {
        View::new(Target {
            title: "session `x`".into(),
            name: SessionName::new("x").ok(),
            patience: Duration::from_secs(300),
            since: Time::since_1970(Duration::from_secs(1_782_914_400)),
        })
    }

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

    fn parent(node: u32) -> ClientEvent {
        ClientEvent::Parent { node: NodeId(node), addr: ([10, 0, 0, 5], 30764).into() }
    }

    fn stream(number: u32, name: &str, purpose: &[u8], size: u64) -> ClientEvent {
        let info = StreamInfo { number, name: name.into(), metadata: purpose.into(), size: Some(size) };
        ClientEvent::Stream(info)
    }

    fn progress(received: u64) -> ClientEvent {
        let (received, sunk) = (Offset(received), Offset(received / 2));
        ClientEvent::Progress(Progress { received, sunk, ..Progress::default() })
    }

    fn failed() -> ClientEvent {
        ClientEvent::Ended(Outcome::Failed(Reason::Sink("full".into()), Offset(5)))
    }

    fn shown(view: &View, now: Duration) -> String {
        let [line] = view.frame(now).try_into().unwrap();
        line.text
    }

    #[test]
    fn a_session_is_looked_for_since_then_and_until_then() {
        let view = view();
        let now = Duration::from_secs(12);
        assert_eq!(shown(&view, now), "looking for session `x` for 12 s; gives up in 4 min 48 s");
        let line = "looking for session `x` since 2026-07-01T14:00:00Z; gives up at 2026-07-01T14:05:00Z";
        assert_eq!(view.line(now), line);
        assert_eq!(view.line(now + now), line, "said once");
    }

    #[test]
    fn a_session_from_its_beginning_to_its_end() {
        let ms = Duration::from_millis;
        let mut view = view();
        let line = view.take(ms(0), &joined());
        assert_eq!(line, Some(Line::Say("joined session `x` as node 2 of 3".into())));
        let waits = "node 2 is in; waiting for the session to start with 3 nodes (with fewer: `ka-d-client -g -s x` on the \
                     server's host)";
        assert_eq!(view.line(ms(0)), waits);

        let says = "the session has started; the stream is to come from node 1 (10.0.0.5)";
        assert_eq!(view.take(ms(0), &parent(1)), Some(Line::Say(says.into())));
        view.take(ms(0), &stream(0, "f", b"", 40 << 20));
        assert_eq!(view.line(ms(0)), "0 %  0 B of 40 MiB  no link to node 1 (10.0.0.5) yet");
        view.take(ms(0), &ClientEvent::Linked);
        (0..=50).for_each(|tick| drop(view.take(ms(tick * 200), &progress((tick << 20) / 5))));
        let said = "25 %  10 MiB of 40 MiB  1 MiB/s  30 s left  from node 1 (10.0.0.5)";
        assert_eq!(view.line(ms(10_000)), said);
        assert_eq!(shown(&view, ms(10_000)), format!("[#####---------------] {said}"));

        view.take(ms(10_200), &progress(40 << 20));
        view.take(ms(10_200), &ClientEvent::Complete);
        assert_eq!(shown(&view, ms(10_200)), "everything is here; the sink has taken 20 MiB");
        assert_eq!(view.take(ms(10_200), &parent(0)), None, "that is for others");
        assert_eq!(view.take(ms(10_200), &ClientEvent::Ended(Outcome::Ok)), None);
        assert!(view.line(ms(10_200)).starts_with("this node is done; it stays until"));
        let end = view.end(ms(20_000), &Outcome::Ok, 40 << 20).unwrap();
        assert_eq!(end, Tone::Good.of("OK: 40 MiB in 20 s (2 MiB/s)"));
    }

    #[test]
    fn of_several_streams_each_is_told_and_none_is_over_before_it_is() {
        let second = Duration::from_secs;
        let mut view = view();
        [joined(), parent(0), ClientEvent::Linked].iter().for_each(|event| drop(view.take(second(0), event)));
        view.take(second(0), &stream(0, "plan", &StreamKind::Manifest.to_metadata(), 2000));
        view.take(second(1), &progress(2000));
        let line = view.take(second(1), &stream(1, "files", &StreamKind::Files.to_metadata(), 4 << 20));
        assert_eq!(line, Some(Line::Note("stream `files`, about 4 MiB".into())));
        view.take(second(2), &progress(2000));
        view.take(second(3), &progress(2000 + (1 << 20)));
        assert_eq!(view.line(second(3)), "files: ~25 %  1 MiB of about 4 MiB  from the server");
        view.take(second(4), &progress(2000 + (4 << 20)));
        assert!(
            view.line(second(4)).starts_with("files: ~99 %  4 MiB of about 4 MiB"),
            "{}",
            view.line(second(4))
        );
        view.take(second(5), &stream(2, "partition sda3", b"", 8 << 20));
        assert!(view.line(second(5)).starts_with("partition sda3: 0 %  0 B of 8 MiB"));
    }

    #[test]
    fn a_failure_is_told_at_once_and_once() {
        let mut view = view();
        let outcome = Outcome::Failed(Reason::Sink("full".into()), Offset(5));
        assert!(view.end(Duration::ZERO, &outcome, 5).is_some(), "not told yet");
        let line = view.take(Duration::ZERO, &failed());
        assert_eq!(line, Some(Line::Say("FAILED at byte 5: the sink failed: full".into())));
        assert_eq!(view.end(Duration::ZERO, &outcome, 5), None);
        let stays = "this node has FAILED; it stays until the server lets it go, because others may need it";
        assert_eq!(view.frame(Duration::ZERO), [Tone::Bad.of(stays)]);
    }

    proptest! {
        /// Whatever comes after the end, and in whatever order.
        #[test]
        fn an_end_is_final(ok: bool, later in prop::collection::vec(0..8_usize, 0..20)) {
            let mut view = view();
            let now = Duration::ZERO;
            [joined(), parent(1), ClientEvent::Linked].iter().for_each(|event| drop(view.take(now, event)));
            view.take(now, &if ok { ClientEvent::Ended(Outcome::Ok) } else { failed() });
            let (shown, line) = (view.frame(now), view.line(now));
            let events = [
                ClientEvent::Complete,
                parent(3),
                ClientEvent::NoParent,
                ClientEvent::Linked,
                stream(1, "g", b"", 7),
                progress(9),
                ClientEvent::Ended(Outcome::Ok),
                joined(),
            ];
            for event in later {
                prop_assert_eq!(view.take(now, &events[event]), None);
                prop_assert_eq!((view.frame(now), view.line(now)), (shown.clone(), line.clone()));
            }
        }
    }
}
