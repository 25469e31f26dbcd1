//! The words of liars instead of the true ones.
//!
//! A liar is a host like any other, whose words are changed on their way out: so it keeps its place, and may lie on.

use alloc::borrow::ToOwned;
use alloc::vec::Vec;
use core::iter;

use super::host::Up;
use super::lie::Lie;
use super::world::World;
use crate::time::Duration;
use crate::types::{Epoch, NodeId, Offset, Position};
use crate::wire::control::{Blocked, LinkFault, Progress, ToCoordinator};
use crate::wire::data::Grant;

/// The step of a boast, in bytes.
const BOAST: u64 = 10 << 30;

/// The time between two bytes of a trickle: less than the time after which a sink is stuck.
const TRICKLE: Duration = Duration::from_secs(4);

/// Times that a lie about a link is told at once.
const TIMES: usize = 8;

impl World {
    /// The host begins to lie. A lie about its link it tells at once, of a view that nobody was sent.
    pub(super) fn begin_to_lie(&mut self, h: u32, lie: Lie) {
        let host = &mut self.hosts[h as usize];
        host.lies.insert(lie);
        host.said_at = self.clock.now;
        let at = host.node.as_ref().map(|n| n.window().received().offset);
        for (fault, at) in lie.fault().into_iter().zip(at) {
            let message = ToCoordinator::LinkLost(Epoch(u32::MAX), at, fault);
            iter::repeat_n(message, TIMES).for_each(|message| self.put_up(h, Up::Say(message)));
        }
    }

    /// The words of a liar instead of the true ones.
    pub(super) fn as_said(&mut self, h: u32, message: ToCoordinator) -> Vec<ToCoordinator> {
        let host = &self.hosts[h as usize];
        let lies = |lie: Lie| host.lies.contains(&lie);
        let keeps_low = lies(Lie::Understate) || lies(Lie::Trickle);
        match message {
            ToCoordinator::Stored(_) if keeps_low => Vec::new(),
            ToCoordinator::Stored(_) if lies(Lie::Boast) => [ToCoordinator::Stored(u64::MAX)].into(),
            ToCoordinator::Complete | ToCoordinator::Receipt(_) if lies(Lie::Conceal) => Vec::new(),
            ToCoordinator::Progress(progress) => self.progress_said(h, progress),
            ToCoordinator::Linked(epoch) => {
                let at = host.said.received;
                let faults = host.lies.iter().filter_map(|lie| lie.fault());
                let lost = faults.map(|fault| ToCoordinator::LinkLost(epoch, at, fault));
                iter::once(ToCoordinator::Linked(epoch)).chain(lost).collect()
            }
            other => [other].into(),
        }
    }

    fn progress_said(&mut self, h: u32, progress: Progress) -> Vec<ToCoordinator> {
        let tree = self.coordinator.as_ref().map(|c| c.tree());
        let host = &mut self.hosts[h as usize];
        let id = host.id.unwrap_or(NodeId::ROOT);
        let lies = |lie: Lie| host.lies.contains(&lie);
        let mut said = progress;
        if lies(Lie::Understate) || lies(Lie::Trickle) {
            let more = lies(Lie::Trickle) && host.said_at + TRICKLE <= self.clock.now;
            let step = |at: Offset| at + u64::from(more);
            (said.received, said.sunk) = (step(host.said.received), step(host.said.sunk));
            said.blocked = Blocked::No;
            host.said_at = if more { self.clock.now } else { host.said_at };
        } else if lies(Lie::Boast) {
            said.received = Offset(host.said.received.0.saturating_add(BOAST));
            (said.sunk, said.kept) = (said.received, Offset::ZERO);
        }
        if host.lies.contains(&Lie::Blame) {
            let child = tree.and_then(|tree| tree.listed(id).next());
            said.blocked = Blocked::Child(child.unwrap_or(NodeId(1)));
        }
        let progress = ToCoordinator::Progress(said);
        if host.lies.contains(&Lie::Babble) {
            return [progress, self.babble()].into();
        }
        if !host.lies.contains(&Lie::Flap) {
            return [progress].into();
        }
        let epoch = tree.map_or(Epoch::default(), |tree| tree.epoch());
        let broken = LinkFault::Broken("a lie".to_owned());
        [progress, ToCoordinator::LinkLost(epoch, said.received, broken), ToCoordinator::Linked(epoch)].into()
    }

    /// Any message but one that ends the host: its epoch, offsets and counts are those of now, at the ends of their range, or
    /// anything.
    fn babble(&mut self) -> ToCoordinator {
        let epoch = self.coordinator.as_ref().map_or(0, |c| c.tree().epoch().0);
        let has = self.hosts[0].node.as_ref().map_or(0, |root| root.window().received().offset.0);
        let hosts = self.hosts.len() as u64;
        let rng = &mut self.rng;
        let mut number = |now: u64| match rng.below(8) {
            0 => 0,
            1 => u64::MAX,
            2 => rng.next_u64(),
            3 => now + 1 + rng.below(1 << 34),
            4 => rng.below(now + 1),
            _ => now,
        };
        let (epoch, at, other, count) =
            (Epoch(number(epoch.into()) as u32), number(has), number(has), number(has >> 16));
        let node = NodeId(rng.below(hosts + 2) as u32);
        match rng.below(10) {
            0 => ToCoordinator::Linked(epoch),
            1 => ToCoordinator::Stored(count),
            2 => ToCoordinator::Complete,
            3 => ToCoordinator::LinkLost(epoch, Offset(at), LinkFault::Tainted("a lie".to_owned())),
            4 => ToCoordinator::LinkLost(epoch, Offset(at), LinkFault::Gone(Offset(other))),
            5 => ToCoordinator::LinkLost(epoch, Offset(at), LinkFault::Unreachable("a lie".to_owned())),
            6 => ToCoordinator::LinkLost(epoch, Offset(at), LinkFault::Broken("a lie".to_owned())),
            chance => ToCoordinator::Progress(Progress {
                received: Offset(at),
                sunk: Offset(other),
                kept: Offset(count << 16),
                blocked: [Blocked::Child(node), Blocked::Sink, Blocked::Below][chance as usize - 7],
                ..Progress::default()
            }),
        }
    }

    /// The grant as a host reports it, with what it claims of those below it: the truth, as a rule.
    pub(super) fn as_told(&mut self, h: u32, mut grant: Grant) -> Grant {
        let host = &self.hosts[h as usize];
        let below = &mut grant.watermarks.0[1..];
        if host.lies.contains(&Lie::Inflate) {
            self.marks.inflated += u64::from(below.iter().any(|at| *at != Position::END));
            below.fill(Position::END);
        } else if host.lies.contains(&Lie::Deflate) {
            below.fill(Position::START);
        }
        grant
    }
}
