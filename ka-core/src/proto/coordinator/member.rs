//! One node of the session, in five parts: who it is, whether it is heard, what it has, how fast it is, how it ended.
//!
//! Who feeds it is not here but in the [`tree`](super::tree).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use super::roster::Conn;
use crate::limits;
use crate::proto::arrival::Arrival;
use crate::proto::event::NodeReport;
use crate::proto::throughput::Throughput;
use crate::time::{Duration, Instant};
use crate::types::{NodeId, Offset};
use crate::wire::control::{Outcome, Progress, Receipt};

/// A node that is not heard for so long has missed a beat.
pub(super) const HOLE: Duration = Duration::from_millis(
    (2 * limits::PROGRESS_INTERVAL.as_millis() + limits::SILENCE_CHECK_INTERVAL.as_millis()) as u64,
);

/// The longest pause between two messages of a node that counts as its usual one: twice as much is silence.
const GAP_MAX: Duration = Duration::from_millis(1500);

/// A longer pause than usual is forgotten over so many messages: about twenty seconds' worth.
const GAP_DECAY: u32 = 128;

/// One node of the session.
#[derive(Clone, Debug)]
pub struct Member {
    pub(super) identity: Identity,
    pub(super) presence: Presence,
    pub(super) delivery: Delivery,
    pub(super) pace: Pace,
    pub(super) ending: Ending,
}

impl Member {
    /// A node that has just come: nothing is known of it but where it is.
    #[must_use]
    pub fn new(now: Instant, identity: Identity) -> Self {
        Self {
            presence: Presence {
                suspicion: None,
                flaps: (0, now),
                gone: None,
                heard: now,
                gap: limits::PROGRESS_INTERVAL,
                notes: (0, now),
            },
            delivery: Delivery {
                progress: Progress::default(),
                stored: 0,
                stable: (u64::MAX, NodeId::ROOT),
                complete: false,
                linked: false,
                linkless: None,
                avoid: Vec::new(),
                barred: false,
                doubted_by: None,
                arrival: Arrival::new(now),
            },
            pace: Pace {
                throughput: Throughput::new(now),
                named: None,
                fed_anew: false,
                leaves: false,
                deferred: false,
            },
            ending: Ending { outcome: None, released: false, ended: None },
            identity,
        }
    }

    /// The node's number.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.identity.node
    }

    /// The address of the node's data listener, as the server sees it.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.identity.addr
    }

    /// The host's own name for itself.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.identity.label
    }

    /// The number that the node made at its start.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.identity.incarnation
    }

    /// How the node ended, if it has.
    #[must_use]
    pub fn outcome(&self) -> Option<&Outcome> {
        self.ending.outcome.as_ref()
    }

    /// Whether the node has the whole tape.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.delivery.complete
    }

    /// Whether the node needs bytes for itself.
    #[must_use]
    pub fn lacks(&self) -> bool {
        !self.delivery.complete && self.ending.outcome.is_none()
    }

    /// The node's line of the final report.
    #[must_use]
    pub fn report(&self, now: Instant) -> NodeReport {
        let progress = &self.delivery.progress;
        NodeReport {
            node: self.identity.node,
            addr: self.identity.joined_at,
            label: self.identity.label.clone(),
            outcome: self.ending.outcome.clone().unwrap_or(Outcome::Unknown),
            bytes: if self.identity.node == NodeId::ROOT { progress.received.0 } else { progress.sunk.0 },
            joined: self.identity.joined,
            ended: self.ending.ended.unwrap_or(now),
            counters: progress.counters,
        }
    }

    /// Measures the node's speed anew: from here on there is something else to measure.
    pub(super) fn measure_anew(&mut self, now: Instant) {
        self.pace.throughput = Throughput::new(now);
        self.delivery.arrival = Arrival::new(now);
    }

    /// Notes what the node tells of itself.
    pub(super) fn progressed(&mut self, now: Instant, progress: Progress) -> Progress {
        // A node whose sink failed relays on and has none to tell of; what the sink took stays.
        let before = self.delivery.progress;
        let progress = Progress { sunk: before.sunk.max(progress.sunk), ..progress };
        self.pace.throughput.see(now, &before, &progress, self.delivery.complete);
        if progress.received > before.received {
            self.delivery.arrival.reset(now);
        }
        self.delivery.progress = progress;
        progress
    }

    /// Notes that this machine stood still for so long: the others were not silent.
    pub(super) fn excuse(&mut self, now: Instant, stalled: Duration) {
        self.presence.heard = now.min(self.presence.heard + stalled);
        self.delivery.arrival.pause(now, stalled);
        self.pace.throughput = Throughput::new(now);
    }
}

/// Who a node is, and where.
#[derive(Clone, Debug)]
pub struct Identity {
    node: NodeId,
    conn: Option<Conn>,
    addr: SocketAddr,
    /// The address when the node joined, which reports and people know it by.
    joined_at: SocketAddr,
    server_ip: IpAddr,
    label: String,
    incarnation: u64,
    waits: bool,
    late: bool,
    joined: Instant,
}

impl Identity {
    /// A node at `addr` that reaches the server at `server_ip`.
    #[must_use]
    pub fn new(now: Instant, node: NodeId, conn: Conn, addr: SocketAddr, server_ip: IpAddr) -> Self {
        Self {
            node,
            conn: Some(conn),
            addr,
            joined_at: addr,
            server_ip,
            label: String::new(),
            incarnation: 0,
            waits: false,
            late: false,
            joined: now,
        }
    }

    /// The same with what the node says of itself: its host's name, its incarnation, and whether it stays until it is let
    /// go; and whether it came after the start.
    #[must_use]
    pub fn described(self, label: String, incarnation: u64, waits: bool, late: bool) -> Self {
        Self { label, incarnation, waits, late, ..self }
    }

    /// The control connection; `None` once that is gone.
    pub(super) fn conn(&self) -> Option<Conn> {
        self.conn
    }

    pub(super) fn set_conn(&mut self, conn: Option<Conn>) -> Option<Conn> {
        core::mem::replace(&mut self.conn, conn)
    }

    /// The server's own address on the control connection: how this node sees the server.
    pub(super) fn server_ip(&self) -> IpAddr {
        self.server_ip
    }

    /// Notes where the node is now; whether its own address, and the server's, are others.
    pub(super) fn moves_to(&mut self, addr: SocketAddr, server_ip: IpAddr) -> (bool, bool) {
        let before = (self.addr, self.server_ip);
        (self.addr, self.server_ip) = (addr, server_ip);
        (before.0 != addr, before.1 != server_ip)
    }

    /// Whether the node stays until it is let go.
    pub(super) fn waits(&self) -> bool {
        self.waits
    }

    /// Whether the node came after the start.
    pub(super) fn is_late(&self) -> bool {
        self.late
    }
}

/// Whether a node is heard.
#[derive(Clone, Debug)]
pub(super) struct Presence {
    suspicion: Option<Suspicion>,
    /// Times it was suspected, one soon after another, and when it was last.
    flaps: (u32, Instant),
    /// When its connection closed; `None` while it has one.
    gone: Option<Instant>,
    heard: Instant,
    /// The longest pause between two messages, lately.
    gap: Duration,
    /// Notes since then.
    notes: (u32, Instant),
}

/// Why a node has no place for now.
#[derive(Clone, Debug)]
pub(super) struct Suspicion {
    since: Instant,
    /// Since when the node is heard again.
    back: Option<Instant>,
    cause: Cause,
}

/// What made the coordinator suspect a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Nothing was heard from it.
    Silent,
    /// Its connection ended: how, in words.
    Gone(String),
}

impl Presence {
    /// Notes that the node was heard.
    pub(super) fn heard(&mut self, now: Instant) {
        // A busy host says what it has to say late now and then. That is forgotten slowly; a long silence is an outage, and
        // tells nothing of the next one.
        let gap = now.since(self.heard).min(GAP_MAX);
        self.gap = gap.max(self.gap - self.gap / GAP_DECAY);
        self.heard = now;
        if let Some(suspicion) = &mut self.suspicion {
            suspicion.back.get_or_insert(now);
        }
    }

    /// When the node was last heard.
    pub(super) fn last_heard(&self) -> Instant {
        self.heard
    }

    /// Counts the node as heard at `when`, if that is later than when it was.
    pub(super) fn heard_at_least(&mut self, when: Instant) {
        self.heard = self.heard.max(when);
    }

    /// Whether the node has missed no beat.
    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        self.heard + HOLE >= now
    }

    /// Whether the node has been silent for longer than is usual for it.
    pub(super) fn is_silent(&self, now: Instant) -> bool {
        self.heard + limits::SUSPECT_AFTER.max(2 * self.gap) <= now
    }

    /// Notes that the node's connection closed, or that it has one again.
    pub(super) fn set_gone(&mut self, gone: Option<Instant>) {
        self.gone = gone;
    }

    /// When the node's connection closed.
    pub(super) fn gone(&self) -> Option<Instant> {
        self.gone
    }

    /// Suspects the node, and says why, in words.
    pub(super) fn suspect(&mut self, now: Instant, cause: &Cause) -> String {
        let why = self.words(now, cause);
        let soon = now.since(self.flaps.1) < limits::RETURN_DELAY_MAX;
        self.flaps = (if soon { self.flaps.0 + 1 } else { 1 }, now);
        self.suspicion = Some(Suspicion { since: now, back: None, cause: cause.clone() });
        why
    }

    /// Whether the node is suspected.
    pub(super) fn is_suspected(&self) -> bool {
        self.suspicion.is_some()
    }

    /// Since when the node is suspected.
    pub(super) fn suspected_since(&self) -> Option<Instant> {
        Some(self.suspicion.as_ref()?.since)
    }

    /// Since when a suspected node is heard again.
    pub(super) fn back(&self) -> Option<Instant> {
        self.suspicion.as_ref()?.back
    }

    /// What is held against the node now, in words.
    pub(super) fn suspected_of(&self, now: Instant) -> Option<String> {
        self.suspicion.as_ref().map(|suspicion| self.words(now, &suspicion.cause))
    }

    /// Takes the suspicion away; whether there was one.
    pub(super) fn trust(&mut self) -> bool {
        self.suspicion.take().is_some()
    }

    /// Starts the wait of a suspected node anew unless it is heard without a gap.
    pub(super) fn watch_return(&mut self, now: Instant) {
        let fresh = self.is_fresh(now);
        if let Some(suspicion) = self.suspicion.as_mut().filter(|_| !fresh) {
            suspicion.back = None;
        }
    }

    /// Whether a node that is heard again comes and goes, and must be heard for longer before it gets a place.
    pub(super) fn is_flapping(&self, now: Instant, back: Instant) -> bool {
        let delay = limits::RETURN_DELAY * (1 << (self.flaps.0.saturating_sub(1)).min(7)) / 2;
        self.flaps.0 > 1 && now < back + delay.min(limits::RETURN_DELAY_MAX)
    }

    /// Whether one more note may pass.
    pub(super) fn may_note(&mut self, now: Instant) -> bool {
        if now.since(self.notes.1) >= Duration::from_secs(1) {
            self.notes = (0, now);
        }
        let may = self.notes.0 < limits::NOTES_PER_SECOND;
        self.notes.0 += u32::from(may);
        may
    }

    /// The cause in words: silence is still going on.
    fn words(&self, now: Instant, cause: &Cause) -> String {
        let silent = now.since(self.heard);
        match cause {
            Cause::Gone(why) => why.clone(),
            Cause::Silent if silent < Duration::from_secs(2) => {
                format!("it has said nothing for {} ms", silent.as_millis())
            }
            Cause::Silent => format!("it has said nothing for {} s", silent.as_secs()),
        }
    }
}

/// What a node has, and what is wrong with its links.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    progress: Progress,
    stored: u64,
    /// The last that it was told: so many items are stored further below than its children, the least by this node.
    stable: (u64, NodeId),
    complete: bool,
    /// Its link to a parent was up once.
    linked: bool,
    /// Since when its links have failed, one after another.
    linkless: Option<Instant>,
    /// Parents that it could not get its bytes from.
    avoid: Vec<NodeId>,
    /// Somebody got false bytes from it: it feeds nobody any more.
    barred: bool,
    /// The child that nothing reached from it: it feeds nobody new, unless the fault turns out to be the child's.
    doubted_by: Option<NodeId>,
    /// Whether anything reaches it.
    pub(super) arrival: Arrival,
}

impl Delivery {
    /// The last that the node said of itself.
    pub(super) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The end of what has arrived.
    pub(super) fn received(&self) -> Offset {
        self.progress.received
    }

    /// The begin of what the node still has.
    pub(super) fn kept(&self) -> Offset {
        self.progress.kept
    }

    /// Notes that so much has arrived, and that what is before an offset is not there any more.
    pub(super) fn received_at_least(&mut self, at: Offset) {
        self.progress.received = self.progress.received.max(at);
    }

    pub(super) fn kept_from_at_least(&mut self, at: Offset) {
        self.progress.kept = self.progress.kept.max(at);
    }

    /// Notes what a receipt tells: of the root what it has read, of a node what its sink has taken.
    pub(super) fn receipt(&mut self, root: bool, receipt: &Receipt) {
        self.progress.counters = receipt.counters;
        match root {
            true => self.progress.received = Offset(receipt.bytes),
            false => self.progress.sunk = Offset(receipt.bytes),
        }
    }

    /// Items of the tape that the node has stored, by its own word.
    pub(super) fn stored(&self) -> u64 {
        self.stored
    }

    /// Notes what the node has stored; whether that is more than before.
    pub(super) fn store(&mut self, items: u64) -> bool {
        let more = self.stored < items;
        self.stored = self.stored.max(items);
        more
    }

    /// What the node was told last of what is stable.
    pub(super) fn stable(&self) -> (u64, NodeId) {
        self.stable
    }

    /// Notes what the node is told of what is stable; whether the number is another one.
    pub(super) fn set_stable(&mut self, stable: (u64, NodeId)) -> bool {
        core::mem::replace(&mut self.stable, stable).0 != stable.0
    }

    /// Notes that the node has everything; whether that is news.
    pub(super) fn complete(&mut self, now: Instant) -> bool {
        let news = !core::mem::replace(&mut self.complete, true);
        if news {
            self.arrival.reset(now);
        }
        news
    }

    /// Notes that the node's link is up.
    pub(super) fn link_up(&mut self) {
        self.linked = true;
        self.linkless = None;
    }

    /// Whether a link of the node was ever up.
    pub(super) fn was_linked(&self) -> bool {
        self.linked
    }

    /// Notes that the node's link is down; since when it has had none.
    pub(super) fn link_down(&mut self, now: Instant) -> Instant {
        *self.linkless.get_or_insert(now)
    }

    /// Since when the node's links have failed.
    pub(super) fn linkless(&self) -> Option<Instant> {
        self.linkless
    }

    /// Forgets for how long the node has had no link.
    pub(super) fn forget_links(&mut self) {
        self.linkless = None;
    }

    /// The parents that the node could not get its bytes from.
    pub(super) fn avoids(&self) -> &[NodeId] {
        &self.avoid
    }

    /// Has the node avoid a parent.
    pub(super) fn avoid(&mut self, parent: NodeId) {
        self.avoid.push(parent);
    }

    /// Forgets which parents the node was to avoid, and its failed links.
    pub(super) fn forgive(&mut self) {
        self.avoid.clear();
        self.linkless = None;
    }

    /// Has the node feed nobody any more: somebody got false bytes from it.
    pub(super) fn bar(&mut self) {
        self.barred = true;
    }

    /// Whether the node feeds nobody any more.
    pub(super) fn is_barred(&self) -> bool {
        self.barred
    }

    /// Has the node feed nobody new, because nothing reached this child from it.
    pub(super) fn doubt(&mut self, by: NodeId) {
        self.doubted_by = Some(by);
    }

    /// Clears the node of what `by` held against it; whether that was something.
    pub(super) fn clear(&mut self, by: NodeId) -> bool {
        self.doubted_by.take_if(|who| *who == by).is_some()
    }

    /// Whether the node may feed others, as far as its bytes tell.
    pub(super) fn is_sound(&self) -> bool {
        !self.barred && self.doubted_by.is_none()
    }
}

/// How fast a node is, and what was done about it.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    pub(super) throughput: Throughput,
    /// When the node was last slow, if it was said that it is.
    named: Option<Instant>,
    /// What came over its link was too little, so it got another parent: if that is no better, the fault is its own.
    fed_anew: bool,
    /// It is on its way to the end of the line, once those it fed are fed by others.
    leaves: bool,
    /// It is served once the others have everything.
    deferred: bool,
}

impl Pace {
    /// Names the node as slow; whether it was named before.
    pub(super) fn name(&mut self, now: Instant) -> bool {
        self.named.replace(now).is_some()
    }

    /// Whether the node is named as slow.
    pub(super) fn is_named(&self) -> bool {
        self.named.is_some()
    }

    /// Takes the name away from a node that has not been slow for long. One that waits for its turn shows nothing.
    pub(super) fn forget_name(&mut self, now: Instant) {
        let shows = !self.deferred;
        self.named.take_if(|last| shows && *last + limits::RETURN_DELAY_MAX <= now);
    }

    /// Gives the node another parent for once; whether it may have one.
    pub(super) fn feed_anew(&mut self, now: Instant) -> bool {
        let may = !core::mem::replace(&mut self.fed_anew, true);
        if may {
            self.throughput = Throughput::new(now);
        }
        may
    }

    /// Sends the node to the end of the line.
    pub(super) fn leave(&mut self) {
        self.leaves = true;
    }

    /// Whether the node is on its way to the end of the line.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaves
    }

    /// The node is at the end of the line, or need not go there.
    pub(super) fn stay(&mut self) {
        self.leaves = false;
    }

    /// Has the node served after the others, or in line again.
    pub(super) fn defer(&mut self, deferred: bool) {
        self.deferred = deferred;
    }

    /// Whether the node is served after the others.
    pub(super) fn is_deferred(&self) -> bool {
        self.deferred
    }
}

/// How a node ended.
#[derive(Clone, Debug)]
pub(super) struct Ending {
    outcome: Option<Outcome>,
    released: bool,
    ended: Option<Instant>,
}

impl Ending {
    /// Whether the node has ended.
    pub(super) fn is_settled(&self) -> bool {
        self.outcome.is_some()
    }

    /// Whether the node has ended well.
    pub(super) fn is_ok(&self) -> bool {
        self.outcome.as_ref().is_some_and(Outcome::is_ok)
    }

    /// Notes how the node ended.
    pub(super) fn settle(&mut self, now: Instant, outcome: Outcome) {
        self.outcome = Some(outcome);
        self.ended = Some(now);
    }

    /// Lets the node go.
    pub(super) fn release(&mut self) {
        self.released = true;
    }

    /// Whether the node was let go.
    pub(super) fn is_released(&self) -> bool {
        self.released
    }
}
