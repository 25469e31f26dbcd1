//! When the files may be sent: once every node that is left has its file systems. Pure, but for the source that waits.
//!
//! Formatting takes each node its own time, and nothing would be won by sending earlier: the window would fill up, and a
//! node that still formats would look like one whose sink is stuck.
//!
//! A node that says nothing holds up the others for [`QUIET`] from the start on, one that goes on saying something until the
//! limit: both count from the start of the session, so that who joins anew gets no time anew.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ka_core::proto::Event;
use ka_core::stream::Source;
use ka_core::types::NodeId;
use ka_desc::manifest::{NodeState, Stage};

/// A node that is not heard is waited for so long; it may only have lost its link for a moment.
const AWAY: Duration = Duration::from_secs(10);

/// A node that is heard, but says nothing of its work, is waited for so long. A node that formats says so every minute.
const QUIET: Duration = Duration::from_secs(180);

/// The nodes that are ready, and those that are waited for.
#[derive(Debug)]
pub(super) struct Gate {
    /// The longest wait for nodes after the start.
    limit: Option<Duration>,
    started: Option<Duration>,
    nodes: BTreeMap<NodeId, Readiness>,
    /// When each node last said something of its work.
    said: BTreeMap<NodeId, Duration>,
    open: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readiness {
    Busy,
    Ready,
    Away(Duration),
    Later,
    Out,
}

impl Gate {
    pub(super) fn new(limit: Option<Duration>) -> Self {
        Self { limit, started: None, nodes: BTreeMap::new(), said: BTreeMap::new(), open: false }
    }

    /// Takes in what happened.
    pub(super) fn hear(&mut self, now: Duration, event: &Event) {
        if let Event::State { node, .. } | Event::Noted { node, .. } = event {
            self.said.insert(*node, now);
        }
        match event {
            Event::Started { .. } => self.started = Some(now),
            Event::Joined { node, .. } => drop(self.nodes.insert(*node, Readiness::Busy)),
            Event::Left { node, .. } => drop(self.nodes.remove(node)),
            Event::Ended { node, .. } if *node != NodeId::ROOT => {
                self.nodes.insert(*node, Readiness::Out);
            }
            // It gets its plan once the others have all, so none of them may wait for it.
            Event::Later { node, .. } => {
                if let Some(state @ (Readiness::Busy | Readiness::Away(_))) = self.nodes.get_mut(node) {
                    *state = Readiness::Later;
                }
            }
            Event::Suspected { node, .. } => {
                if let Some(state @ Readiness::Busy) = self.nodes.get_mut(node) {
                    *state = Readiness::Away(now);
                }
            }
            Event::Returned { node, .. } => {
                if let Some(state @ Readiness::Away(_)) = self.nodes.get_mut(node) {
                    *state = Readiness::Busy;
                }
            }
            Event::State { node, state } => {
                let ready = NodeState::from_bytes(state).is_some_and(|state| state.stage >= Stage::Ready);
                if let Some(state @ (Readiness::Busy | Readiness::Away(_))) = self.nodes.get_mut(node)
                    && ready
                {
                    *state = Readiness::Ready;
                }
            }
            _ => {}
        }
    }

    /// Whether the files may be sent. Once they may, they may.
    pub(super) fn is_open(&mut self, now: Duration) -> bool {
        let Some(started) = self.started else { return false };
        let late = self.limit.is_some_and(|limit| now >= started + limit);
        let quiet = |node: &NodeId| {
            let said = self.said.get(node).map_or(started, |said| started.max(*said));
            self.limit.is_some() && now >= said + QUIET
        };
        let waited_for = |(node, state): (&NodeId, &Readiness)| match state {
            Readiness::Busy => !quiet(node),
            Readiness::Away(since) => now < *since + AWAY,
            Readiness::Ready | Readiness::Later | Readiness::Out => false,
        };
        self.open = self.open || late || !self.nodes.iter().any(waited_for);
        self.open
    }

    /// Returns the nodes that are not ready yet.
    pub(super) fn waits_for(&self) -> impl Iterator<Item = NodeId> {
        let busy = |state: &Readiness| matches!(state, Readiness::Busy | Readiness::Away(_));
        self.nodes.iter().filter(move |(_, state)| busy(state)).map(|(node, _)| *node)
    }
}

/// A gate that others wait at.
#[derive(Clone)]
pub(super) struct Shared {
    gate: Arc<(Mutex<Gate>, Condvar)>,
    clock: Arc<dyn Fn() -> Duration + Send + Sync>,
}

impl Shared {
    pub(super) fn new(gate: Gate, clock: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self { gate: Arc::new((Mutex::new(gate), Condvar::new())), clock: Arc::new(clock) }
    }

    pub(super) fn hear(&self, event: &Event) {
        self.lock().hear((self.clock)(), event);
        self.gate.1.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Gate> {
        self.gate.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for at most `timeout` until it is open, and says whether it is.
    fn wait(&self, timeout: Duration) -> bool {
        let mut gate = self.lock();
        if gate.is_open((self.clock)()) {
            return true;
        }
        gate = self.gate.1.wait_timeout(gate, timeout).unwrap_or_else(PoisonError::into_inner).0;
        gate.is_open((self.clock)())
    }
}

/// Makes a source, when its time has come. It hears who is not ready even so.
pub(super) type Open = Box<dyn FnOnce(Vec<NodeId>) -> io::Result<Box<dyn Source>> + Send>;

/// A source that begins when the gate is open.
pub(super) struct Gated {
    gate: Shared,
    /// About how many bytes will come.
    about: u64,
    state: State,
}

enum State {
    Waiting(Open),
    Running(Box<dyn Source>),
    Failed,
}

impl Gated {
    pub(super) fn new(gate: Shared, about: u64, open: Open) -> Self {
        Self { gate, about, state: State::Waiting(open) }
    }

    fn source(&mut self) -> io::Result<&mut dyn Source> {
        match &mut self.state {
            State::Running(source) => Ok(source.as_mut()),
            _ => Err(io::Error::other("the source has not begun")),
        }
    }
}

impl Source for Gated {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.source()?.read(buf)
    }

    fn ready(&mut self, timeout: Duration) -> io::Result<bool> {
        if let State::Waiting(_) = self.state {
            if !self.gate.wait(timeout) {
                return Ok(false);
            }
            let late = self.gate.lock().waits_for().collect();
            if let State::Waiting(open) = std::mem::replace(&mut self.state, State::Failed) {
                self.state = State::Running(open(late)?);
            }
        }
        self.source()?.ready(timeout)
    }

    /// An estimate, as everybody knows of [`StreamKind::Files`](ka_desc::manifest::StreamKind::Files).
    fn size(&self) -> Option<u64> {
        Some(self.about)
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        match self.state {
            State::Running(source) => source.finish(),
            _ => Err(io::Error::other("it never began")),
        }
    }

    fn abort(self: Box<Self>) {
        if let State::Running(source) = self.state {
            source.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use ka_core::types::Offset;
    use ka_core::wire::control::{Note, Outcome, Reason};

    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    fn joined(node: u32) -> Event {
        let addr = ([10, 0, 0, 1], 1).into();
        Event::Joined {
            node: NodeId(node),
            addr,
            label: String::new(),
            about: Vec::new(),
            ready: 1,
            expected: 2,
        }
    }

    fn stage(node: u32, stage: Stage) -> Event {
        let state = NodeState { stage, partclone: None };
        Event::State { node: NodeId(node), state: state.to_bytes() }
    }

    fn suspected(node: u32) -> Event {
        Event::Suspected { node: NodeId(node), why: String::new() }
    }

    fn gate(events: &[Event]) -> Gate {
        let mut gate = Gate::new(Some(Duration::from_secs(600)));
        for event in [joined(1), joined(2)].iter().chain(events) {
            gate.hear(NOW, event);
        }
        gate
    }

    const STARTED: Event = Event::Started { nodes: 2 };

    #[test]
    fn it_opens_when_all_are_ready_and_not_before_the_start() {
        let ready = [stage(1, Stage::Ready), stage(2, Stage::Ready)];
        assert!(!gate(&ready).is_open(NOW));
        assert!(!gate(&[STARTED, stage(1, Stage::Ready), stage(2, Stage::Formatting)]).is_open(NOW));
        let mut open = gate(&[STARTED, ready[0].clone(), ready[1].clone()]);
        assert!(open.is_open(NOW));
        // Once it is open, it is.
        open.hear(NOW, &joined(3));
        assert!(open.is_open(NOW));
    }

    #[test]
    fn who_has_failed_or_is_gone_is_not_waited_for() {
        let failed = Outcome::Failed(Reason::Sink("x".into()), Offset(0));
        let ended = Event::Ended { node: NodeId(2), outcome: failed };
        assert!(gate(&[STARTED, stage(1, Stage::Ready), ended]).is_open(NOW));
        let mut away = gate(&[STARTED, stage(1, Stage::Ready), suspected(2)]);
        assert!(!away.is_open(NOW));
        assert!(away.is_open(NOW + AWAY));
    }

    #[test]
    fn whatever_is_heard_of_a_node_that_has_ended_it_is_not_waited_for() {
        let failed = Outcome::Failed(Reason::Sink("x".into()), Offset(0));
        let ended = Event::Ended { node: NodeId(2), outcome: failed };
        let back = Event::Returned { node: NodeId(2), at: Offset(0) };
        for after in [stage(2, Stage::Formatting), suspected(2), back] {
            let mut gate = gate(&[STARTED, stage(1, Stage::Ready), ended.clone(), after.clone()]);
            assert!(gate.is_open(NOW), "{after:?}");
            assert_eq!(gate.waits_for().count(), 0);
        }
    }

    #[test]
    fn who_is_served_after_the_others_holds_up_none_of_them() {
        let later = Event::Later { node: NodeId(2), at: Offset(0) };
        for before in [stage(2, Stage::Formatting), suspected(2)] {
            assert!(gate(&[STARTED, stage(1, Stage::Ready), before, later.clone()]).is_open(NOW));
        }
    }

    #[test]
    fn who_comes_back_is_waited_for_again() {
        let back = Event::Returned { node: NodeId(2), at: Offset(0) };
        let mut gate = gate(&[STARTED, stage(1, Stage::Ready), suspected(2), back]);
        assert!(!gate.is_open(NOW + AWAY));
        assert_eq!(gate.waits_for().collect::<Vec<_>>(), [NodeId(2)]);
    }

    /// A line of a node's log.
    fn says(node: u32) -> Event {
        let note = Note { topic: "log".into(), text: "it still formats".into() };
        Event::Noted { node: NodeId(node), note }
    }

    #[test]
    fn it_opens_at_its_limit_whatever_is_said() {
        let mut gate = gate(&[STARTED]);
        let limit = Duration::from_secs(600);
        for s in (0..600).step_by(60) {
            gate.hear(NOW + Duration::from_secs(s), &says(1));
        }
        assert!(!gate.is_open(NOW + limit - Duration::from_secs(1)));
        assert!(gate.is_open(NOW + limit));
    }

    #[test]
    fn who_is_silent_holds_up_the_others_for_minutes_and_gets_no_time_anew() {
        let ready = stage(1, Stage::Ready);
        let mut silent = gate(&[STARTED, ready.clone(), stage(2, Stage::Formatting)]);
        // Under other numbers, again and again.
        for s in (0..180).step_by(15) {
            silent.hear(NOW + Duration::from_secs(s), &joined(100 + s as u32));
        }
        assert!(!silent.is_open(NOW + QUIET - Duration::from_secs(1)));
        assert!(silent.is_open(NOW + QUIET));
        // A healthy one, whose disk is slow, says that it is at work.
        let mut slow = gate(&[STARTED, ready]);
        slow.hear(NOW + QUIET - Duration::from_secs(1), &says(2));
        assert!(!slow.is_open(NOW + QUIET) && slow.is_open(NOW + 2 * QUIET));
        // Who waits whatever it takes waits.
        let mut patient = Gate::new(None);
        [joined(1), STARTED].iter().for_each(|event| patient.hear(NOW, event));
        assert!(!patient.is_open(NOW + 100 * QUIET));
    }
}
