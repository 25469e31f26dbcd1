//! The effects of the faults on the world.

use alloc::borrow::ToOwned;
use alloc::vec::Vec;

use super::clock::Due;
use super::fault::{Fault, READDRESSED};
use super::host::{HOST_BITS, Host, State, addr};
use super::trace::note;
use super::world::World;
use crate::proto::coordinator::Input as ServerInput;
use crate::proto::node::Input;
use crate::time::Duration;

impl World {
    pub(super) fn fault(&mut self, fault: Fault) {
        note!(self, "!", "{fault:?}");
        if let Some((first, last, lasts)) = fault.silence() {
            self.silence(first, last, lasts);
        }
        match fault {
            Fault::Readdress { node, .. } => self.readdress(node as u32),
            Fault::Hole { node, lasts, .. } => self.silence(node, node, lasts),
            Fault::Kill { node, .. } | Fault::Restart { node, .. } => {
                if self.hosts[node].state != State::Gone {
                    self.hosts[node].harm.ended = true;
                    self.leave(node as u32);
                }
            }
            Fault::Freeze { node, .. } => {
                if self.hosts[node].alive() {
                    self.hosts[node].harm.ended = true;
                    self.hosts[node].state = State::Frozen;
                    self.alive -= 1;
                }
            }
            Fault::Pause { node, lasts, .. } => {
                let until = &mut self.hosts[node].paused_until;
                *until = (*until).max(self.clock.now + lasts);
            }
            Fault::Reset { node, .. } => {
                if let Some(link) = self.hosts[node].up {
                    self.clock.after(Duration::ZERO, Due::LostToChild(link));
                    self.clock.after(Duration::ZERO, Due::LostToParent(link));
                }
            }
            Fault::Stop { node, .. } => {
                let host = &mut self.hosts[node];
                host.harm.ended |= host.alive();
                host.harm.stopped |= host.alive();
                if self.is_in(node as u32) {
                    self.drive(node as u32, Input::Stop("Ctrl-C".to_owned()));
                } else if self.hosts[node].alive() {
                    self.leave(node as u32);
                }
            }
            Fault::SinkStalls { node, lasts, .. } => {
                let until = &mut self.hosts[node].sink.stalled_until;
                *until = (*until).max(self.clock.now + lasts);
            }
            Fault::RereadFails { .. } => {
                self.source.unreadable = true;
                self.drive(0, Input::RereadFailed("it has changed".to_owned()));
                self.drive_server(ServerInput::RereadFailed("it has changed".to_owned()));
            }
            Fault::StopAll { .. } => {
                self.stopped = true;
                self.drive_server(ServerInput::Stop("the admin".to_owned()));
            }
            Fault::Lie { node, lie, .. } => self.begin_to_lie(node as u32, lie),
            // These wait for an offset or are there from the start, and a cut is a matter of the paths.
            Fault::Taint { .. } | Fault::Withhold { .. } | Fault::SinkFails { .. } => {}
            Fault::LateLink { .. } | Fault::Shared { .. } => {}
            Fault::SourceFails { .. } | Fault::Isolate => {}
            Fault::Cut { .. } | Fault::CutMany { .. } | Fault::Deaf { .. } => {}
        }
    }

    /// Readdresses the host: what is under way on its links and its connection is lost; both ends find them silent.
    fn readdress(&mut self, h: u32) {
        let host = &mut self.hosts[h as usize];
        if host.state != State::In || host.rejoining || host.shared {
            return;
        }
        host.moves += 1;
        host.addr = addr(h | host.moves << HOST_BITS);
        host.mute = true;
        let links: Vec<_> = host.up.iter().chain(&host.down).chain(&host.dialling).copied().collect();
        links.into_iter().for_each(|link| self.links[link as usize].lost = true);
        self.silence(h as usize, h as usize, READDRESSED);
    }

    fn silence(&mut self, first: usize, last: usize, lasts: Duration) {
        let back = self.clock.now + lasts;
        for host in self.hosts.iter_mut().take(last + 1).skip(first).filter(|h| h.alive()) {
            host.harm.away += lasts;
            host.harm.times += 1;
            host.harm.back = host.harm.back.max(back);
        }
    }

    /// A host that starts again is as it was.
    pub(super) fn equip_restarted(&mut self) {
        let nodes = self.setup.faults.iter().filter_map(|f| match f {
            Fault::Restart { node, .. } => Some(*node),
            _ => None,
        });
        let nodes: Vec<_> = nodes.collect();
        let first = self.hosts.len() - nodes.len();
        for (i, node) in nodes.into_iter().enumerate() {
            let Host { addr, rate, sink, hello, .. } = &self.hosts[node];
            let (addr, rate, sink, mut hello) = (*addr, *rate, *sink, hello.clone());
            let host = &mut self.hosts[first + i];
            hello.incarnation = host.hello.incarnation;
            (host.addr, host.rate, host.sink, host.hello) = (addr, rate, sink, hello);
        }
    }
}
