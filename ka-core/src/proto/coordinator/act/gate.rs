//! The gate: who is let in, and when the session starts.

use alloc::format;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use crate::limits;
use crate::proto::coordinator::config::Config;
use crate::proto::coordinator::liveness;
use crate::proto::coordinator::member::Conn;
use crate::proto::coordinator::member::{Identity, Member};
use crate::proto::coordinator::slowness::is_in_time;
use crate::proto::coordinator::state::{Coordinator, Output, Phase};
use crate::proto::event::Event;
use crate::proto::timer::Timer;
use crate::time::Instant;
use crate::types::{NodeId, Offset, printable};
use crate::wire::control::{Hello, Refusal, RefusalCode, Role, ToNode, Welcome};

/// A hello, and the connection that it came by.
pub(super) struct Arrived {
    pub(super) conn: Conn,
    /// The other end.
    pub(super) addr: SocketAddr,
    /// This end.
    pub(super) server_ip: IpAddr,
    pub(super) hello: Hello,
}

impl Arrived {
    /// The same of a node that listens on this port.
    fn at_port(self, port: u16) -> Self {
        Self { addr: SocketAddr::new(self.addr.ip(), port), ..self }
    }

    fn identity(&self, now: Instant, node: NodeId, waits: bool, late: bool) -> Identity {
        let label = printable(&self.hello.label, limits::SESSION_NAME_BYTES);
        let identity = Identity::new(now, node, self.conn, self.addr, self.server_ip);
        identity.described(label, self.hello.about.clone(), self.hello.incarnation, waits, late)
    }
}

impl Coordinator {
    pub(super) fn joined(&mut self, now: Instant, arrived: Arrived) {
        self.in_touch(now);
        let Hello { session, role, .. } = &arrived.hello;
        let wrong_name = session.is_some() && *session != self.config.name;
        let (conn, addr) = (arrived.conn, arrived.addr);
        let refusal = match *role {
            _ if wrong_name => Err(Refusal::other_session()),
            Role::Go => self.go(now, conn),
            Role::Node { data_port: 0, .. } => {
                Err(Refusal::new(RefusalCode::Invalid, "a node listens on a port of its own"))
            }
            Role::Node { data_port, wait, back } => {
                self.node_joined(now, arrived.at_port(data_port), wait, back)
            }
        };
        if let Err(refusal) = refusal {
            self.event(Event::Refused { addr, code: refusal.code, why: format!("{refusal}") });
            self.tell(conn, ToNode::Refused(refusal));
            self.outputs.push_back(Output::HangUp(conn));
        }
    }

    /// Somebody asks for the start.
    fn go(&mut self, now: Instant, conn: Conn) -> Result<(), Refusal> {
        match self.phase {
            Phase::Draining | Phase::Done => Err(Refusal::ending("every node has ended")),
            Phase::Streaming => Err(Refusal::started(self.nodes.roster.len())),
            Phase::Gathering if self.nodes.roster.is_empty() => Err(Refusal::nobody_ready()),
            Phase::Gathering => {
                self.tell(conn, ToNode::Going(self.nodes.roster.len()));
                self.outputs.push_back(Output::HangUp(conn));
                self.start(now);
                Ok(())
            }
        }
    }

    fn node_joined(
        &mut self,
        now: Instant,
        arrived: Arrived,
        waits: bool,
        back: Option<NodeId>,
    ) -> Result<(), Refusal> {
        // Without a number it may be one whose welcome was lost on the way.
        if let Some(node) = back.or_else(|| self.nodes.roster.by_incarnation(arrived.hello.incarnation)) {
            let known = self.came_back(now, node, &arrived, waits);
            return if known { Ok(()) } else { Err(Refusal::unknown()) };
        }
        let late = self.phase == Phase::Streaming;
        match self.phase {
            Phase::Draining | Phase::Done => return Err(Refusal::ending("every node has ended")),
            _ if self.nodes.roster.len() >= limits::NODES => return Err(Refusal::full()),
            _ if self.nodes.roster.numbers() >= limits::NUMBERS => return Err(Refusal::no_number()),
            Phase::Streaming if !self.nodes.roster.nodes().any(|m| is_in_time(m) && !m.is_away(now)) => {
                return Err(Refusal::ending("every node that was there at the start has ended"));
            }
            Phase::Streaming if self.join_in_vain(arrived.addr.ip()) => return Err(Refusal::in_vain()),
            Phase::Gathering | Phase::Streaming => self.replaced(now, arrived.addr),
        }
        let holder = self.nodes.place(NodeId(u32::MAX), Offset::ZERO, None, self.config.reread);
        if late && holder.is_none() && !self.config.reread {
            return Err(Refusal::started(self.nodes.roster.len()));
        }
        let node = self.nodes.roster.add(|node| Member::new(now, arrived.identity(now, node, waits, late)));
        self.welcome(now, node, arrived.conn);
        if late {
            self.outcomes.expect_one_more();
            match holder {
                Some(holder) => self.nodes.place_below(node, holder),
                None => self.put_off(node),
            }
        }
        Ok(())
    }

    /// Whether so many have joined late to no purpose that another one is not let in: the others wait for each until it is done
    /// without, and whoever joins anew each time would have them wait for ever.
    fn join_in_vain(&self, ip: IpAddr) -> bool {
        let vain = |m: &&Member| {
            let waits = m.delivery.received() == Offset::ZERO && !m.pace.is_deferred();
            let ended = m.ending.is_settled() || m.presence.is_suspected();
            m.identity.is_late() && !m.ending.is_ok() && (waits || ended)
        };
        let vain: Vec<_> = self.nodes.roster.nodes().filter(vain).map(|m| m.addr().ip()).collect();
        vain.len() >= limits::VAIN_JOINS_ALL
            || vain.iter().filter(|other| **other == ip).count() >= limits::VAIN_JOINS
    }

    /// A node is in: it is told so, and with it the session may start.
    fn welcome(&mut self, now: Instant, node: NodeId, conn: Conn) {
        self.greet(conn, node);
        let (ready, expected) = (self.nodes.roster.len(), self.config.nodes);
        if let Some(m) = self.nodes.get(node) {
            let (addr, label, about) = (m.addr(), m.label().into(), m.about().into());
            self.event(Event::Joined { node, addr, label, about, ready, expected });
        }
        self.start_if_ready(now);
    }

    fn greet(&mut self, conn: Conn, node: NodeId) {
        let Config { session, key, ref payload, nodes: expected, ref links, .. } = self.config;
        let (payload, link) = (payload.clone(), links.as_ref().map(|secret| secret.of_node(node)));
        self.tell(conn, ToNode::Welcome(Welcome { node, session, key, payload, expected, link }));
    }

    fn start_if_ready(&mut self, now: Instant) {
        let late = self.config.start_after.is_some_and(|after| self.opened + after <= now);
        let enough = if late { self.config.min_nodes } else { self.config.nodes };
        if self.phase == Phase::Gathering && self.nodes.roster.len() >= enough {
            self.start(now);
        }
    }

    /// A node that is in already speaks on a new connection. False if it is not known.
    fn came_back(&mut self, now: Instant, node: NodeId, arrived: &Arrived, waits: bool) -> bool {
        let conn = arrived.conn;
        match self.nodes.get(node) {
            Some(m)
                if node == NodeId::ROOT
                    || m.incarnation() != arrived.hello.incarnation
                    || m.ending.is_released() =>
            {
                false
            }
            Some(_) => {
                let old = self.nodes.roster.reconnect(node, conn);
                self.outputs.extend(old.map(Output::HangUp));
                self.moves_to(node, arrived.addr, arrived.server_ip);
                self.greet(conn, node);
                self.heard(now, node);
                // What it was told last it may not have heard.
                if self.phase != Phase::Gathering {
                    let stable = self.nodes.get(node).map_or(0, |m| m.delivery.stable().0);
                    self.tell(conn, ToNode::Stable(stable));
                    self.nodes.tree.touch(node);
                }
                true
            }
            None if self.phase == Phase::Gathering => {
                let member = Member::new(now, arrived.identity(now, node, waits, false));
                let restored = self.nodes.roster.restore(member);
                if restored {
                    self.welcome(now, node, conn);
                }
                restored
            }
            None => false,
        }
    }

    /// Takes a node at its new address, and tells those that dial it there.
    fn moves_to(&mut self, node: NodeId, addr: SocketAddr, server_ip: IpAddr) {
        let Some(m) = self.nodes.get_mut(node) else { return };
        let (elsewhere, other_server) = m.identity.moves_to(addr, server_ip);
        if elsewhere {
            let dialling: Vec<_> = self.nodes.tree.listed(node).collect();
            dialling.into_iter().for_each(|child| self.nodes.tree.touch(child));
        }
        if other_server {
            self.nodes.tree.touch(node);
        }
    }

    /// Somebody joins from the address of a node that is silent, which must not be counted twice. If it is heard after all
    /// it is let in again.
    fn replaced(&mut self, now: Instant, addr: SocketAddr) {
        if self.phase == Phase::Gathering
            && let Some(node) = liveness::replaced(&self.nodes, now, addr)
        {
            self.take_leave(node);
        }
    }

    /// Opens the gate: everyone learns who is whose parent.
    pub(super) fn start(&mut self, now: Instant) {
        self.phase = Phase::Streaming;
        self.started = Some(now);
        self.outcomes.expect(self.nodes.roster.len());
        self.timers.stop(Timer::StartAfter);
        self.event(Event::Started { nodes: self.nodes.roster.len() });

        let mut order: Vec<_> = self.nodes.roster.nodes().map(|m| (m.addr(), m.node())).collect();
        order.sort_unstable();
        let ranks: Vec<_> = core::iter::once(NodeId::ROOT).chain(order.into_iter().map(|(_, n)| n)).collect();
        self.nodes.tree.arrange(&ranks, self.config.fan_out as usize);
        for node in ranks {
            if let Some(m) = self.nodes.get_mut(node) {
                m.measure_anew(now);
            }
        }
    }
}
