//! Slowness: who holds up the others, and by what. Pure.
//!
//! A node whose sink or link does not keep up fills its window, then its parent's, and so on up to the source. At the end
//! of the line only windows before it fill, and nobody behind it waits.

use alloc::format;
use alloc::string::String;

use super::config::{Config, Slow};
use super::deferred::others_are_in_line;
use super::member::Member;
use super::placement::Nodes;
use super::stability::{held_up_by, kept_full_above};
use crate::limits;
use crate::proto::throughput::Limit;
use crate::time::{Duration, Instant};
use crate::types::NodeId;
use crate::wire::control::{Blocked, Reason};

/// Seconds of which a tenth of one is little.
const LONG: u64 = 10;

/// The record of the nodes' speeds, all together.
#[derive(Debug)]
pub(super) struct Slowness {
    /// Bytes per second of the fastest node so far.
    fastest: u64,
    /// Bytes per second that the sinks of the two nodes with the fastest ones can take, as far as is known, and whose they
    /// are.
    sinks: [(u64, NodeId); 2],
    /// Somebody was sent to the end of the line to see whether the others are faster then, or there is no room for that.
    tried: bool,
    /// When slow nodes were last looked for.
    looked: Instant,
}

/// The trouble that a node is in.
#[derive(Clone, Copy, Debug)]
pub(super) enum Trouble {
    /// Its sink takes nothing of what is there.
    Stuck(Duration),
    /// Its sink takes so much per second only.
    Sink(u64),
    /// So much per second comes over its link only.
    Link(u64),
    /// Its sink has taken everything, and does not end.
    Ending(Duration),
}

impl Slowness {
    pub(super) fn new(now: Instant) -> Self {
        Self { fastest: 0, sinks: [(0, NodeId::ROOT); 2], tried: false, looked: now }
    }

    /// Notes how fast the fastest node is. Nobody gets more than the root sends: of what a burst brings, two measurements
    /// of the root may each have a half.
    pub(super) fn see(&mut self, nodes: &Nodes) {
        let fastest = nodes.roster.nodes().filter_map(|m| m.pace.throughput.fed()).max().unwrap_or(0);
        let sent = nodes.get(NodeId::ROOT).map_or(0, |root| root.pace.throughput.best().fed);
        self.fastest = self.fastest.max(fastest.min(2 * sent));
        // Nobody waits for the others where a node is away, or has ended.
        let works = |m: &&Member| !m.ending.is_settled() && !m.presence.is_suspected();
        self.sinks = [(0, NodeId::ROOT); 2];
        for m in nodes.roster.nodes().filter(works) {
            // A sink that has always taken all that there was may be as fast as anybody.
            let can = m.pace.throughput.sink_limit().map_or(self.fastest, |limit| limit.min(self.fastest));
            let [first, second] = &mut self.sinks;
            if can >= first.0 {
                *second = core::mem::replace(first, (can, m.node()));
            } else if can > second.0 {
                *second = (can, m.node());
            }
        }
    }

    /// The time since the last look.
    pub(super) fn looked(&mut self, now: Instant) -> Duration {
        now.since(core::mem::replace(&mut self.looked, now))
    }

    /// Notes that there is no room for trials at the end of the line.
    pub(super) fn end_is_taken(&mut self) {
        self.tried = true;
    }

    /// Whether the first node of a chain is sent to the end of the line to see whether the others are faster then. Where
    /// all go at the pace of the first nobody knows how fast they would be without it. If the server could send far more,
    /// that is tried, but once only: the switch may be in the way. In a tree those below would crowd the server.
    pub(super) fn tries_without(
        &mut self,
        nodes: &Nodes,
        config: &Config,
        now: Instant,
        node: NodeId,
        lasts: Duration,
    ) -> bool {
        let first = nodes.tree.parent(node) == Some(NodeId::ROOT) && config.fan_out == 1;
        let Some(m) = nodes.get(node).filter(|_| first) else { return false };
        let (Some(rate), Some(carries)) = (m.pace.throughput.received(), config.carries()) else {
            return false;
        };
        // What is between it and those below it must be sent once more: a long session can afford that at once.
        let left = config.bytes.map_or(0, |bytes| bytes.saturating_sub(m.delivery.received().0));
        let patience = if left / rate.max(1) >= LONG { Duration::ZERO } else { limits::STUCK_AFTER };
        limit(nodes, now, node).is_some_and(|limit| limit != Limit::Crowd)
            && lasts >= patience
            && is_below(rate, carries)
            && !core::mem::replace(&mut self.tried, true)
    }

    /// Bytes per second that a node may be expected to get: the fastest may have had its parent's link to itself.
    fn fair(&self, nodes: &Nodes, node: NodeId) -> u64 {
        self.fastest / nodes.sharers(node)
    }

    /// Bytes per second that the others would take without a node, as far as their sinks allow; 0 if there are none. All disks
    /// may be slower than the network, and then none of them is too slow.
    fn others(&self, node: NodeId) -> u64 {
        let [first, second] = self.sinks;
        if first.1 == node { second.0 } else { first.0 }
    }

    /// Bytes per second that a node in such trouble may be expected to take.
    pub(super) fn expected(&self, nodes: &Nodes, node: NodeId, trouble: Trouble) -> u64 {
        let fair = self.fair(nodes, node);
        match trouble {
            Trouble::Link(_) => fair,
            Trouble::Sink(_) | Trouble::Stuck(_) | Trouble::Ending(_) => fair.min(self.others(node)),
        }
    }

    /// Bytes per second that are never too slow.
    fn least_rate(&self, nodes: &Nodes, config: &Config, node: NodeId, trouble: Trouble) -> u64 {
        config.min_rate.unwrap_or(self.expected(nodes, node, trouble).min(self.others(node)) / 4)
    }

    /// Bytes per second that a node takes at least if the session is to end some day.
    pub(super) fn floor(&self, nodes: &Nodes, config: &Config, node: NodeId) -> u64 {
        let floor = (self.fair(nodes, node) / limits::CRAWL_FACTOR).max(limits::CRAWL_BYTES_PER_S);
        config.min_rate.map_or(floor, |rate| floor.min(rate)).max(1)
    }

    /// The trouble of a node that has been limited like this for so long.
    pub(super) fn trouble(
        &self,
        nodes: &Nodes,
        config: &Config,
        now: Instant,
        node: NodeId,
        (limit, lasts): (Option<Limit>, Duration),
    ) -> Option<Trouble> {
        let m = nodes.get(node)?;
        let throughput = &m.pace.throughput;
        let stuck = throughput.stuck(now);
        if stuck >= limits::STUCK_AFTER && !m.ending.is_settled() {
            let ending = m.is_complete() && m.delivery.progress().sunk >= m.delivery.received();
            return Some(if ending { Trouble::Ending(stuck) } else { Trouble::Stuck(stuck) });
        }
        // A node that was fast once may be slow for a second: its host is busy, its switch has other things to do.
        let slow = |trouble: fn(u64) -> Trouble, rate: u64, best: u64| {
            let expected = self.expected(nodes, node, trouble(rate));
            let is = is_below(rate, expected) && (lasts >= limits::SLOW_AFTER || is_below(best, expected));
            is.then(|| trouble(rate))
        };
        let best = throughput.best();
        match limit? {
            Limit::Sink => throughput.sunk().and_then(|rate| slow(Trouble::Sink, rate, best.sunk)),
            Limit::Crowd => {
                let floor = self.floor(nodes, config, node);
                let patience = if m.pace.was_fed_anew() { limits::STUCK_AFTER } else { limits::BYPASS_AFTER };
                let slow = |rate: &u64| *rate < floor && lasts >= patience;
                throughput.received().filter(slow).map(Trouble::Link)
            }
            Limit::Link => {
                let rate = throughput.received()?;
                // Nobody may ever have been so fast that it could be measured.
                let stands = rate == 0 && lasts >= limits::SLOW_AFTER;
                if stands { Some(Trouble::Link(rate)) } else { slow(Trouble::Link, rate, best.fed) }
            }
        }
    }

    /// Whether a slow node is better served after the others: it takes several times as long as they do anyway, or they
    /// wait for it.
    pub(super) fn is_better_later(
        &self,
        nodes: &Nodes,
        config: &Config,
        now: Instant,
        node: NodeId,
        trouble: Trouble,
    ) -> bool {
        let waits = is_full_for(nodes, now, node).is_some() || kept_full_above(nodes, now, node).is_some();
        let least = self.least_rate(nodes, config, node, trouble);
        let far = matches!(trouble, Trouble::Sink(rate) | Trouble::Link(rate) if rate < least);
        config.reread && (waits || far) && others_are_in_line(nodes, node)
    }

    /// Why the session goes on without a node in trouble; `None`: it does not.
    pub(super) fn gives_up(
        &self,
        nodes: &Nodes,
        config: &Config,
        now: Instant,
        node: NodeId,
        trouble: Trouble,
        lasts: Duration,
    ) -> Option<Reason> {
        let patience = match config.slow {
            Slow::Wait => return None,
            Slow::Bypass => limits::BYPASS_AFTER,
            Slow::Drop => limits::STUCK_AFTER,
        };
        let m = nodes.get(node)?;
        // Each further parent shows soon whether it does better.
        let patience = if m.pace.was_fed_anew() { limits::STUCK_AFTER } else { patience };
        let patience = config.finish.filter(|_| m.is_complete()).unwrap_or(patience);
        let finish = match config.slow {
            Slow::Drop => limits::BYPASS_AFTER,
            _ => limits::FINISH_TIMEOUT,
        };
        // At its own pace it harms nobody, unless it came late and all others wait for it.
        let slow = !config.reread || (m.identity.is_late() && !nodes.roster.nodes().any(is_in_time));
        let expected = self.expected(nodes, node, trouble);
        let least = self.least_rate(nodes, config, node, trouble);
        let (own, full_for) = m.pace.throughput.blocked(now);
        let waited_for = is_full_for(nodes, now, node).is_some_and(|lasts| lasts >= patience)
            || kept_full_above(nodes, now, node).is_some_and(|lasts| lasts >= patience);
        let sink = match trouble {
            Trouble::Ending(lasts) => lasts >= config.finish.unwrap_or(finish),
            // With everything here nobody else is held up, but the session must end some day.
            Trouble::Stuck(lasts) => {
                lasts >= patience && (m.is_complete() || (own == Blocked::Sink && full_for >= patience))
            }
            _ => false,
        };
        let pace = match trouble {
            Trouble::Sink(rate) => slow && rate < least && lasts >= patience && full_for >= patience,
            Trouble::Link(rate) => (slow && rate < least || rate == 0) && lasts >= patience && waited_for,
            _ => false,
        };
        match (sink, pace) {
            (true, _) => Some(Reason::Sink(words(trouble, expected))),
            (_, true) => Some(Reason::Slow(words(trouble, expected))),
            _ => None,
        }
    }
}

/// Whether a node was there at the start, and is still at work.
pub(super) fn is_in_time(m: &Member) -> bool {
    !m.identity.is_late() && !m.ending.is_settled()
}

/// Whether a node has something to do: its parent has something for it, its sink lacks what it has, or it has not ended.
pub(super) fn has_work(nodes: &Nodes, m: &Member) -> bool {
    let progress = m.delivery.progress();
    let room = matches!(blocked(nodes, m.node()), Blocked::No | Blocked::Sink);
    let fed = room && nodes.behind(m.node()).is_some_and(|bytes| bytes > 0);
    !m.pace.is_deferred() && (fed || progress.sunk < progress.received || m.is_complete())
}

/// The child that a node says to be full because of, though that one and those below it have everything that it has by
/// their own word: if that lasts, one of them lies.
pub(super) fn disputed(nodes: &Nodes, node: NodeId) -> Option<NodeId> {
    let Blocked::Child(child) = nodes.get(node)?.delivery.progress().blocked else { return None };
    let waits = nodes.tree.parent(child) == Some(node) && nodes.is_unfinished(child);
    (waits && !nodes.lack_what(child, node)).then_some(child)
}

/// The cause that keeps a node's window full. A node that says this of one that is not below it, or of those below it when
/// nobody there lacks anything, has room.
pub(super) fn blocked(nodes: &Nodes, node: NodeId) -> Blocked {
    let Some(m) = nodes.get(node) else { return Blocked::No };
    match m.delivery.progress().blocked {
        Blocked::Child(child) if !nodes.lists(node, child) || !nodes.is_unfinished(child) => Blocked::No,
        Blocked::Below if held_up_by(nodes, node).is_none() => Blocked::No,
        blocked => blocked,
    }
}

/// The limit that keeps a node from getting more, if that is its own sink or its link.
pub(super) fn limit(nodes: &Nodes, now: Instant, node: NodeId) -> Option<Limit> {
    let m = nodes.get(node)?;
    match blocked(nodes, node) {
        Blocked::Sink => Some(Limit::Sink),
        Blocked::Child(_) | Blocked::Below => None,
        Blocked::No if !m.is_complete() && is_waited_for(nodes, now, node) => {
            let crowded = nodes.is_crowded(nodes.tree.parent(node)?) && nodes.behind(node) != Some(0);
            Some(if crowded { Limit::Crowd } else { Limit::Link })
        }
        Blocked::No => None,
    }
}

/// For how long the parent of a node, or the one that hands it over, has been full because of it.
fn is_full_for(nodes: &Nodes, now: Instant, node: NodeId) -> Option<Duration> {
    let parents = nodes.tree.parent(node).into_iter().chain(nodes.tree.handover_from(node));
    let blocked = parents.filter_map(|p| nodes.get(p)).map(|p| p.pace.throughput.blocked(now));
    blocked.filter(|(blocked, _)| *blocked == Blocked::Child(node)).map(|(_, lasts)| lasts).max()
}

/// Whether its parent has far more than a node has, or somebody further above must keep what it says to lack.
fn is_waited_for(nodes: &Nodes, now: Instant, node: NodeId) -> bool {
    is_full_for(nodes, now, node).is_some()
        || nodes.behind(node).is_some_and(|bytes| bytes >= limits::BEHIND_BYTES)
        || kept_full_above(nodes, now, node).is_some()
}

/// A node that nothing reaches though its parent has something for it.
pub(super) struct Idle {
    /// Whether it has had its time, and fails.
    pub(super) fails: bool,
    /// Why nothing reaches it, in words, and as the reason of its failure.
    pub(super) why: String,
    pub(super) reason: Reason,
}

/// Whether nothing arrives at a node though its parent has something for it.
pub(super) fn idle(nodes: &Nodes, config: &Config, now: Instant, node: NodeId) -> Option<Idle> {
    let m = nodes.get(node)?;
    let idle = m.delivery.arrival.idle(now);
    let lacks = blocked(nodes, node) == Blocked::No && !m.is_complete();
    if !lacks || idle < limits::STUCK_AFTER || nodes.behind(node).is_none_or(|bytes| bytes == 0) {
        return None;
    }
    // What a limited rate or a shared slow link lets through may be rare.
    let blocks = (limits::ARRIVAL_BLOCKS * nodes.sharers(node) * limits::BLOCK_BYTES as u64) as f64;
    let rare = config.carries().map_or(0.0, |rate| blocks / rate.max(1) as f64);
    let patience = limits::ARRIVAL_TIMEOUT.max(Duration::from_secs_f64(rare));
    if idle < patience / 2 {
        return None;
    }
    let at = m.delivery.received();
    let has = |m: &Member| nodes.can_feed(m) && m.delivery.kept() <= at && m.delivery.received() > at;
    let root = nodes.root_kept();
    let gone = root > at && !config.reread && !nodes.roster.iter().any(has);
    Some(Idle {
        fails: idle >= patience && !m.delivery.arrival.has_turn(now, nodes.tree.parent(node)),
        why: m.delivery.arrival.words(now),
        reason: if gone { Reason::Missing(at, root) } else { m.delivery.arrival.reason(now, node) },
    })
}

/// Whether a rate is so much below another one that it is no accident.
fn is_below(rate: u64, other: u64) -> bool {
    rate < other / 10 * 7
}

/// The trouble of a node, in words.
pub(super) fn words(trouble: Trouble, fastest: u64) -> String {
    let mib = |rate: u64| rate as f64 / f64::from(1 << 20);
    match trouble {
        Trouble::Stuck(lasts) => format!("its sink has taken nothing for {} s", lasts.as_secs()),
        Trouble::Ending(lasts) => {
            format!("its sink has taken everything, and has not ended for {} s", lasts.as_secs())
        }
        Trouble::Sink(rate) => {
            format!("its sink takes {:.1} MiB/s, where others got {:.1}", mib(rate), mib(fastest))
        }
        Trouble::Link(rate) => {
            format!("its link carries {:.1} MiB/s, where others got {:.1}", mib(rate), mib(fastest))
        }
    }
}
