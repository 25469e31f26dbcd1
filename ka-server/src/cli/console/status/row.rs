//! The state of one node, as far as it is known. Facts come in any order; the outcome of a node is final.

use std::net::SocketAddr;

use ka_core::console::printer::Tone;
use ka_core::proto::Event;
use ka_core::types::NodeId;
use ka_core::wire::control::Outcome;
use ka_desc::manifest::{NodeState, Stage};

use super::super::report::briefly;

/// One node.
#[derive(Debug)]
pub(crate) struct Row {
    /// Address and label.
    pub(crate) who: String,
    /// The stage of its installation, if it installs a clone.
    stage: Option<Stage>,
    pub(crate) sunk: u64,
    linked: bool,
    /// Why it is not heard.
    away: Option<String>,
    /// The node gets the rest after the others.
    later: bool,
    complete: bool,
    /// The outcome of the node.
    end: Option<Outcome>,
    /// The reason why the node failed was printed as it happened.
    pub(crate) told: bool,
    pub(crate) released: bool,
}

/// The urgency with which people should see a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Urgency {
    Failed,
    Away,
    UnderWay,
    Complete,
    Ok,
}

impl Row {
    pub(crate) fn new(addr: SocketAddr, label: &str) -> Self {
        Self {
            who: format!("{} {label}", addr.ip()).trim_end().to_owned(),
            stage: None,
            sunk: 0,
            linked: false,
            away: None,
            later: false,
            complete: false,
            end: None,
            told: false,
            released: false,
        }
    }

    /// Takes in what happened to this node, and says whether it is worth telling: nothing is that comes after its end, but
    /// that it was let go.
    pub(crate) fn take(&mut self, event: &Event) -> bool {
        match event {
            Event::Released { .. } => self.released = true,
            _ if self.end.is_some() => return false,
            Event::Linked { .. } => self.linked = true,
            Event::Suspected { why, .. } => {
                self.linked = false;
                self.away = Some(why.clone());
            }
            Event::Returned { .. } => return self.away.take().is_some(),
            Event::Later { .. } => {
                self.linked = false;
                self.later = true;
            }
            Event::Resumed { .. } => self.later = false,
            Event::Progress { progress, .. } => self.sunk = progress.sunk.0,
            Event::State { state, .. } => {
                let Some(stage) = NodeState::from_bytes(state).map(|state| state.stage) else { return false };
                return self.stage.replace(stage) != Some(stage);
            }
            Event::Complete { .. } => self.complete = true,
            Event::Ended { outcome, .. } => self.end = Some(outcome.clone()),
            _ => {}
        }
        true
    }

    /// Why it is not heard.
    pub(crate) fn away(&self) -> Option<&str> {
        self.away.as_deref()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    /// Whether it lacks bytes, and is to get them.
    pub(crate) fn is_under_way(&self) -> bool {
        !self.has_ended() && !self.complete
    }

    /// Whether it counts for how far the session is.
    pub(crate) fn counts(&self) -> bool {
        !self.has_ended() && self.away.is_none() && !self.later
    }

    /// Whether it gets its bytes after the others.
    pub(crate) fn comes_later(&self) -> bool {
        self.is_under_way() && self.away.is_none() && self.later
    }

    /// The stage of its installation, if it said one.
    pub(crate) fn stage(&self) -> Option<Stage> {
        self.stage
    }

    /// Trouble first, then those that are farthest behind; those that are done last.
    pub(crate) fn urgency(&self) -> (Urgency, u64) {
        let urgency = match (&self.end, &self.away) {
            (Some(Outcome::Ok), _) => Urgency::Ok,
            (Some(_), _) => Urgency::Failed,
            (None, Some(_)) => Urgency::Away,
            (None, None) if self.complete => Urgency::Complete,
            (None, None) => Urgency::UnderWay,
        };
        (urgency, self.sunk)
    }

    pub(crate) fn tone(&self) -> Tone {
        match self.urgency().0 {
            Urgency::Failed => Tone::Bad,
            Urgency::Away => Tone::Doubtful,
            Urgency::UnderWay | Urgency::Complete => Tone::Plain,
            Urgency::Ok => Tone::Good,
        }
    }

    /// Returns the state of this node, in few words: why it failed is printed as it happens. Before the session has
    /// `started`, it waits.
    pub(crate) fn state(&self, node: NodeId, started: bool) -> String {
        let doing = |otherwise: &'static str| self.stage.map_or(otherwise, Stage::word).to_owned();
        match (&self.end, &self.away) {
            (Some(Outcome::Failed(reason, _)), _) => format!("FAILED: {}", briefly(reason, node)),
            (Some(outcome), _) => outcome.to_string(),
            (None, Some(why)) => format!("not heard: {why}"),
            (None, None) if !started => "is in".into(),
            (None, None) if self.complete => doing("finishing"),
            (None, None) if self.later => "gets the rest after the others".into(),
            (None, None) if self.linked => doing("receiving"),
            (None, None) => "no link yet".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use ka_core::types::Offset;
    use ka_core::wire::control::{Progress, Reason};
    use proptest::prelude::*;

    use super::*;

    const NODE: NodeId = NodeId(1);

    /// Everything that a coordinator says of a node but how it ends and that it was let go.
    fn events() -> Vec<Event> {
        let (node, why, at) = (NODE, "it is silent".to_owned(), Offset(7));
        let state = NodeState { stage: Stage::Formatting, partclone: None }.to_bytes();
        vec![
            Event::Linked { node, parent: NodeId::ROOT },
            Event::Suspected { node, why: why.clone() },
            Event::Returned { node, at },
            Event::Rerouted { node, from: NODE, to: NodeId::ROOT, why: why.clone() },
            Event::Idle { node, why: why.clone() },
            Event::Slow { node, why },
            Event::Later { node, at },
            Event::Resumed { node, at },
            Event::Progress { node, progress: Progress { sunk: Offset(9), ..Progress::default() } },
            Event::State { node, state },
            Event::Complete { node },
        ]
    }

    fn ends() -> [Outcome; 3] {
        [Outcome::Ok, Outcome::Failed(Reason::Sink("full".into()), Offset(7)), Outcome::Unknown]
    }

    proptest! {
        #[test]
        fn an_end_is_final(
            before in prop::collection::vec(0..10_usize, 0..12),
            end in 0..3_usize,
            after in prop::collection::vec(0..13_usize, 0..12),
        ) {
            let mut row = Row::new(([10, 0, 0, 1], 1).into(), "pc01");
            let ended = |end: usize| Event::Ended { node: NODE, outcome: ends()[end].clone() };
            for event in before {
                row.take(&events()[event]);
            }
            prop_assert!(!row.has_ended());
            prop_assert!(row.take(&ended(end)));
            let shown = (row.state(NODE, true), row.tone(), row.urgency());
            prop_assert_eq!(&shown.0, ["OK", "FAILED: its sink failed", "UNKNOWN"][end]);
            for event in after {
                let event = events().into_iter().chain((0..3).map(ended)).nth(event).unwrap();
                prop_assert!(!row.take(&event), "{event:?} is told after the end");
                prop_assert_eq!(&shown, &(row.state(NODE, true), row.tone(), row.urgency()));
                prop_assert!(!row.is_under_way() && !row.counts() && !row.comes_later());
            }
            let released = Event::Released { node: NODE };
            prop_assert!(row.take(&released) && row.released);
        }

        /// Nobody comes back who was not away, and nobody who is away counts.
        #[test]
        fn who_is_back_was_away(all in prop::collection::vec(0..10_usize, 0..20)) {
            let mut row = Row::new(([10, 0, 0, 1], 1).into(), "pc01");
            for event in all {
                let was_away = row.away().is_some();
                let event = &events()[event];
                let news = row.take(event);
                let is_back = matches!(event, Event::Returned { .. });
                prop_assert!(!is_back || news == was_away);
                prop_assert!(row.away().is_none() || !row.counts());
            }
        }
    }
}
