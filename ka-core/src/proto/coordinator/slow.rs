//! Slow nodes: measured, named, moved to the end of the line, and in the end done without.
//!
//! A node whose sink or link does not keep up fills its window, then its parent's, and so on up to the source. At
//! the end of the line only windows before it fill, and nobody behind it waits. Once they are full it is served later
//! if the source can be read again; if not, [`Slow`] decides.

use super::*;
use crate::proto::throughput::{Limit, Throughput};

/// What to do about a node that holds up all others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Slow {
    /// Wait for it, for ever.
    Wait,
    /// Go on without it if it is stuck, or far slower than it may be, for [`limits::BYPASS_AFTER`].
    #[default]
    Bypass,
    /// The same after [`limits::STUCK_AFTER`].
    Drop,
}

/// Seconds of which a tenth of one is little.
const LONG: u64 = 10;

/// What is wrong with a node.
enum Trouble {
    /// Its sink takes nothing of what is there.
    Stuck(Duration),
    /// Its sink takes so much per second only.
    Sink(u64),
    /// So much per second comes over its link only.
    Link(u64),
    /// It has taken everything, and does not end.
    Ending(Duration),
}

impl Coordinator {
    /// Looks who holds up the others.
    pub(super) fn look_for_slow(&mut self, now: Instant) {
        let fastest = self.roster.nodes().filter_map(|m| m.throughput.fed()).max().unwrap_or(0);
        self.fastest = self.fastest.max(fastest);
        let (mut nodes, pause) = (Vec::new(), now.since(self.looked));
        // Who has failed may still be there for others.
        let counts = |m: &&mut Member| m.outcome.is_none() || (m.parent.is_some() && !m.complete);
        for m in self.roster.nodes_mut().filter(counts) {
            // Who is not heard tells nothing of how fast it is.
            if m.suspicion.is_none() && m.heard + repair::HOLE >= now {
                nodes.push(m.node);
            } else {
                m.throughput = Throughput::new(now);
                m.arrival.pause(now, pause);
            }
        }
        self.looked = now;
        for node in nodes {
            let all = self.behind(node) == Some(0);
            if let Some(m) = self.roster.get_mut(node).filter(|m| all || m.progress.blocked != Blocked::No) {
                m.arrival.pause(now, pause);
            }
            if self.nothing_reaches(now, node) {
                continue;
            }
            let (limit, sharers) = (self.limit(now, node), self.sharers(node));
            let Some(m) = self.roster.get_mut(node) else { continue };
            let lasts = m.throughput.limited_for(now, limit, sharers);
            match self.trouble(now, node, limit, lasts) {
                Some(trouble) => self.troubled(now, node, &trouble, lasts),
                None => self.untroubled(now, node, lasts),
            }
        }
    }

    /// Whether nothing arrives at a node though its parent has something for it. Then those below it get another parent,
    /// the server feeds it itself, and if that does not help either, it fails.
    fn nothing_reaches(&mut self, now: Instant, node: NodeId) -> bool {
        let Some(m) = self.roster.get(node) else { return false };
        let idle = m.arrival.idle(now);
        let lacks = m.progress.blocked == Blocked::No && !m.complete;
        if !lacks || idle < limits::STUCK_AFTER || self.behind(node).is_none_or(|bytes| bytes == 0) {
            return false;
        }
        // What a limited rate or a shared slow link lets through may be rare.
        let blocks = (limits::ARRIVAL_BLOCKS * self.sharers(node) * limits::BLOCK_BYTES as u64) as f64;
        let rare = self.carries().map_or(0.0, |rate| blocks / rate.max(1) as f64);
        let patience = limits::ARRIVAL_TIMEOUT.max(Duration::from_secs_f64(rare));
        if idle < patience / 2 {
            return false;
        }
        let (why, reason, at) = (m.arrival.words(now), m.arrival.reason(now, node), m.progress.received);
        if idle >= patience {
            let has = |m: &Member| m.feeds() && m.progress.kept <= at && m.progress.received > at;
            let root = self.roster.get(NodeId::ROOT).map_or(Offset::ZERO, |r| r.progress.kept);
            let gone = root > at && !self.config.reread && !self.roster.iter().any(has);
            let reason = if gone { Reason::Missing(at, root) } else { reason };
            self.fail(now, node, reason, at);
            self.doubt_no_more(node);
            return true;
        }
        let Some(m) = self.roster.get_mut(node) else { return true };
        let (named, turn) = (m.named.replace(now).is_some(), m.arrival.take_turn(now, m.parent));
        if !named {
            self.event(Event::Idle { node, why: why.clone() });
        }
        if !named || turn {
            self.send_to_the_end(node);
        }
        if turn {
            self.feed_by_root(now, node, &why);
        }
        true
    }

    /// The server feeds a node that nothing reaches from its parent; and whoever else the parent feeds, unless something
    /// arrives there.
    fn feed_by_root(&mut self, now: Instant, node: NodeId, why: &str) {
        let Some(m) = self.roster.get(node) else { return };
        let Some(parent) = m.parent.filter(|p| *p != NodeId::ROOT) else { return };
        let others = self.children(parent);
        // Whoever has just come to it shows nothing yet.
        let arrives = |m: &Member| {
            m.fed_by == Some(parent) && (m.complete || m.arrival.idle(now) < limits::STUCK_AFTER)
        };
        let to_all = !others.iter().any(|n| *n != node && self.roster.get(*n).is_some_and(arrives));
        let moved = if to_all { others } else { Vec::from([node]) };
        if let Some(p) = self.roster.get_mut(parent).filter(|_| to_all) {
            p.doubted_by = Some(node);
        }
        let kept = self.roster.get(NodeId::ROOT).map_or(Offset::ZERO, |r| r.progress.kept);
        for child in moved {
            let Some(c) = self.roster.get_mut(child) else { continue };
            c.avoid.push(parent);
            let at = c.progress.received;
            let to = if self.config.reread || kept <= at { NodeId::ROOT } else { self.above(parent, child) };
            self.rerouted(child, parent, to, why);
        }
    }

    /// A node has failed because nothing reaches it from anywhere: its earlier parents were well, and feed others again.
    fn doubt_no_more(&mut self, node: NodeId) {
        let mut cleared = false;
        for m in self.roster.nodes_mut() {
            cleared |= m.doubted_by.take_if(|by| *by == node).is_some();
        }
        // Whoever the server feeds for lack of a better place; but not before those that it fed itself are fed elsewhere.
        let free = |n: &NodeId| self.roster.get(*n).is_some_and(|m| m.holds_for.is_empty());
        let crowd: Vec<_> = self.children(NodeId::ROOT).into_iter().skip(1).filter(free).collect();
        for child in crowd {
            if cleared && self.is_crowded(NodeId::ROOT) {
                self.transfer(child);
            }
        }
    }

    fn troubled(&mut self, now: Instant, node: NodeId, trouble: &Trouble, lasts: Duration) {
        let fair = self.fair(node);
        let Some(m) = self.roster.get_mut(node) else { return };
        let ending = matches!(trouble, Trouble::Ending(_));
        if !ending && m.named.replace(now).is_none() {
            let why = words(trouble, fair);
            self.event(Event::Slow { node, why });
            self.send_to_the_end(node);
        }
        if self.is_better_later(now, node, trouble) && !self.parent_fails(now, node, trouble) {
            self.put_off(node);
        }
        self.do_without(now, node, trouble, lasts);
    }

    /// Whether the parent of a node that gets nothing has given nothing to another one before: then that is what they have
    /// in common, and the server feeds whoever it fed.
    fn parent_fails(&mut self, now: Instant, node: NodeId, trouble: &Trouble) -> bool {
        let Some(m) = self.roster.get(node).filter(|_| matches!(trouble, Trouble::Link(0))) else {
            return false;
        };
        let Some(parent) = m.parent.filter(|p| *p != NodeId::ROOT) else { return false };
        let known = self.roster.nodes().any(|m| m.node != node && m.avoid.contains(&parent));
        if known {
            self.feed_by_root(now, node, &words(trouble, self.fair(node)));
        } else if let Some(m) = self.roster.get_mut(node) {
            m.avoid.push(parent);
        }
        known
    }

    fn untroubled(&mut self, now: Instant, node: NodeId, lasts: Duration) {
        let carries = self.carries();
        let Some(m) = self.roster.get_mut(node) else { return };
        // Who waits for its turn shows nothing.
        let fine = !m.later;
        m.named.take_if(|last| fine && *last + limits::RETURN_DELAY_MAX <= now);
        // Where all go at the pace of the first nobody knows how fast they would be without it. If the server could
        // send far more, that is tried, but once only: the switch may be in the way. In a tree those below would crowd
        // the server.
        let first = m.parent == Some(NodeId::ROOT) && self.config.fan_out == 1;
        let (Some(rate), Some(carries)) = (m.throughput.received(), carries) else { return };
        // What is between it and those below it must be sent once more: a long session can afford that at once.
        let left = self.config.bytes.map_or(0, |bytes| bytes.saturating_sub(m.progress.received.0));
        let patience = if left / rate.max(1) >= LONG { Duration::ZERO } else { limits::STUCK_AFTER };
        if first
            && self.limit(now, node).is_some()
            && lasts >= patience
            && is_below(rate, carries)
            && !core::mem::replace(&mut self.tried, true)
        {
            self.send_to_the_end(node);
        }
    }

    /// What keeps a node from getting more, if that is its own sink or its link.
    fn limit(&self, now: Instant, node: NodeId) -> Option<Limit> {
        let m = self.roster.get(node)?;
        match m.progress.blocked {
            Blocked::Sink => Some(Limit::Sink),
            Blocked::Child(child) if m.children.contains(&child) || m.holds_for.contains(&child) => None,
            Blocked::Below if self.held_up_by(node).is_some() => None,
            // That includes who blames one that is not below it. Who shares a link for lack of a better place is not
            // judged by it; but everything may have come over it, and it is waited for all the same.
            _ if !m.complete && self.is_waited_for(now, node) => {
                let judged = !self.is_crowded(m.parent?) || self.behind(node) == Some(0);
                judged.then_some(Limit::Link)
            }
            _ => None,
        }
    }

    fn trouble(&self, now: Instant, node: NodeId, limit: Option<Limit>, lasts: Duration) -> Option<Trouble> {
        let m = self.roster.get(node)?;
        let stuck = m.throughput.stuck(now);
        if stuck >= limits::STUCK_AFTER && m.outcome.is_none() {
            let ending = m.complete && m.progress.sunk >= m.progress.received;
            return Some(if ending { Trouble::Ending(stuck) } else { Trouble::Stuck(stuck) });
        }
        let fair = self.fair(node);
        // Who was fast once may be slow for a second: its host is busy, its switch has other things to do.
        let slow = |rate: &u64, best: u64| {
            is_below(*rate, fair) && (lasts >= limits::SLOW_AFTER || is_below(best, fair))
        };
        match limit? {
            Limit::Sink => {
                m.throughput.sunk().filter(|rate| slow(rate, m.throughput.best().sunk)).map(Trouble::Sink)
            }
            Limit::Link => {
                // Nobody may ever have been so fast that it could be measured.
                let stands = |rate: &u64| *rate == 0 && lasts >= limits::SLOW_AFTER;
                let slow = |rate: &u64| stands(rate) || slow(rate, m.throughput.best().fed);
                m.throughput.received().filter(slow).map(Trouble::Link)
            }
        }
    }

    /// How many nodes, this one among them, are fed over its parent's link.
    fn sharers(&self, node: NodeId) -> u64 {
        let parent = self.roster.get(node).and_then(|m| self.roster.get(m.parent?));
        let fed = |n: &&NodeId| self.roster.get(**n).is_some_and(|m| !m.complete);
        parent.map_or(1, |p| p.children.iter().chain(&p.holds_for).filter(fed).count().max(1) as u64)
    }

    /// Bytes per second that a node may be expected to get: the fastest may have had its parent's link to itself.
    fn fair(&self, node: NodeId) -> u64 {
        self.fastest / self.sharers(node)
    }

    /// Whether its parent has far more than it has, or somebody further above must keep what it says to lack.
    fn is_waited_for(&self, now: Instant, node: NodeId) -> bool {
        let parent = self.roster.get(node).and_then(|m| self.roster.get(m.parent?));
        parent.is_some_and(|p| p.progress.blocked == Blocked::Child(node))
            || self.behind(node).is_some_and(|bytes| bytes >= limits::BEHIND_BYTES)
            || self.kept_full_above(now, node).is_some()
    }

    /// How many bytes its parent has more than it. The close of the tape, which has none, counts for one.
    pub(super) fn behind(&self, node: NodeId) -> Option<u64> {
        let m = self.roster.get(node)?;
        let p = self.roster.get(m.parent?)?;
        Some((p.progress.received - m.progress.received).max(u64::from(p.complete && !m.complete)))
    }

    /// Those below it get its parent. Once they are fed from there it goes where nobody is behind it; until then it holds
    /// what they lack, and whoever its parent cannot feed comes back to it.
    fn send_to_the_end(&mut self, node: NodeId) {
        let Some(m) = self.roster.get(node).filter(|m| m.lacks()) else { return };
        let waiting: Vec<_> = m.children.iter().copied().filter(|c| self.unfinished(*c)).collect();
        if waiting.is_empty() {
            return;
        }
        for child in waiting {
            self.move_to(child, self.above(node, child));
            self.hold_for(child, node);
        }
        if let Some(m) = self.roster.get_mut(node) {
            m.leaves = true;
        }
        self.leave_if_free(node);
    }

    /// Nobody lacks what a node on its way to the end of the line held for others.
    pub(super) fn leave_if_free(&mut self, node: NodeId) {
        let free = |m: &&mut Member| m.leaves && m.holds_for.is_empty();
        let Some(m) = self.roster.get_mut(node).filter(free) else { return };
        m.leaves = false;
        if !self.children(node).into_iter().any(|c| self.unfinished(c)) {
            self.transfer(node);
        }
    }

    /// Bytes per second that the server can send, and may.
    fn carries(&self) -> Option<u64> {
        [self.config.carries, self.config.rate].into_iter().flatten().min()
    }

    /// Bytes per second that are never too slow.
    fn least_rate(&self, node: NodeId) -> u64 {
        self.config.min_rate.unwrap_or(self.fair(node) / 4)
    }

    /// Whether a slow node is better served after the others: it takes several times as long as they do anyway, or they
    /// wait for it.
    fn is_better_later(&self, now: Instant, node: NodeId, trouble: &Trouble) -> bool {
        let parent = self.roster.get(node).and_then(|m| self.roster.get(m.parent?));
        let waits = parent.is_some_and(|p| p.progress.blocked == Blocked::Child(node))
            || self.kept_full_above(now, node).is_some();
        let far =
            matches!(trouble, Trouble::Sink(rate) | Trouble::Link(rate) if *rate < self.least_rate(node));
        self.config.reread && (waits || far) && self.others_are_in_line(node)
    }

    fn do_without(&mut self, now: Instant, node: NodeId, trouble: &Trouble, lasts: Duration) {
        let patience = match self.config.slow {
            Slow::Wait => return,
            Slow::Bypass => limits::BYPASS_AFTER,
            Slow::Drop => limits::STUCK_AFTER,
        };
        let Some(m) = self.roster.get(node) else { return };
        let patience = self.config.finish.filter(|_| m.complete).unwrap_or(patience);
        let finish = match self.config.slow {
            Slow::Drop => limits::BYPASS_AFTER,
            _ => limits::FINISH_TIMEOUT,
        };
        // At its own pace it harms nobody, unless it came late and all others wait for it.
        let slow = !self.config.reread || (m.late && !self.roster.nodes().any(in_time));
        let (fair, least) = (self.fair(node), self.least_rate(node));
        let (blocked, full_for) = m.throughput.blocked(now);
        let waited_for = m.parent.and_then(|p| self.roster.get(p)).is_some_and(|p| {
            let (blocked, lasts) = p.throughput.blocked(now);
            blocked == Blocked::Child(node) && lasts >= patience
        }) || self.kept_full_above(now, node).is_some_and(|lasts| lasts >= patience);
        let reason = match *trouble {
            Trouble::Ending(lasts) if lasts >= self.config.finish.unwrap_or(finish) => {
                Reason::Sink(words(trouble, fair))
            }
            // With everything here nobody else is held up, but the session must end some day.
            Trouble::Stuck(lasts)
                if lasts >= patience
                    && (m.complete || (blocked == Blocked::Sink && full_for >= patience)) =>
            {
                Reason::Sink(words(trouble, fair))
            }
            Trouble::Sink(rate) if slow && rate < least && lasts >= patience && full_for >= patience => {
                Reason::Slow(words(trouble, fair))
            }
            Trouble::Link(rate) if (slow && rate < least || rate == 0) && lasts >= patience && waited_for => {
                Reason::Slow(words(trouble, fair))
            }
            _ => return,
        };
        let at = m.progress.received;
        if !self.feed_anew(now, node, trouble) {
            self.fail(now, node, reason, at);
        }
    }

    /// What comes over its link may be its parent's doing, which is slow itself: another one shall feed it, once. Says
    /// whether one does.
    fn feed_anew(&mut self, now: Instant, node: NodeId, trouble: &Trouble) -> bool {
        let why = words(trouble, self.fair(node));
        let by_link = matches!(trouble, Trouble::Link(_));
        let Some(m) = self.roster.get_mut(node).filter(|m| by_link && !m.fed_anew) else { return false };
        let Some(parent) = m.parent.filter(|p| *p != NodeId::ROOT) else { return false };
        m.fed_anew = true;
        m.throughput = Throughput::new(now);
        self.reroute(now, node, parent, &why);
        true
    }
}

/// Whether a rate is so much below another one that it is no accident.
fn is_below(rate: u64, other: u64) -> bool {
    rate < other / 10 * 7
}

fn words(trouble: &Trouble, fastest: u64) -> String {
    let mib = |rate: u64| rate as f64 / f64::from(1 << 20);
    match trouble {
        Trouble::Stuck(lasts) => format!("its sink has taken nothing for {} s", lasts.as_secs()),
        Trouble::Ending(lasts) => {
            format!("its sink has taken everything, and has not ended for {} s", lasts.as_secs())
        }
        Trouble::Sink(rate) => {
            format!("its sink takes {:.1} MiB/s, where others got {:.1}", mib(*rate), mib(fastest))
        }
        Trouble::Link(rate) => {
            format!("its link carries {:.1} MiB/s, where others got {:.1}", mib(*rate), mib(fastest))
        }
    }
}
