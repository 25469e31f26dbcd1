//! Control connections: one per host, opened again when it breaks, each message behind the one before.
//!
//! A connection's number is its host's and the attempt's. Once a host asks for a new one, whatever was under way on
//! the old one is lost.

use alloc::borrow::ToOwned;
use alloc::format;
use core::net::SocketAddr;

use super::clock::Due;
use super::host::host_of;
use super::host::{Down, HOST_BITS, State, Up};
use super::trace::note;
use super::world::World;
use crate::limits;
use crate::proto::coordinator::Conn;
use crate::proto::coordinator::Input as ServerInput;
use crate::proto::node::{Input, Node, Output};
use crate::time::{Duration, Instant};
use crate::wire::control::{Role, ToCoordinator, ToNode, View};

impl World {
    /// A host's connection.
    fn conn(&self, h: u32) -> u32 {
        h | self.hosts[h as usize].attempt << HOST_BITS
    }

    fn is_current(&self, conn: u32) -> bool {
        self.conn(host_of(conn)) == conn
    }

    pub(super) fn join(&mut self, h: u32) {
        if self.hosts[h as usize].state == State::Away {
            self.hosts[h as usize].state = State::Joining;
            self.send_up(h, Up::Hello);
        }
    }

    // ---- a connection is opened again ----

    /// A node gives its connection up and opens another one.
    pub(super) fn rejoin(&mut self, h: u32) {
        let old = self.conn(h);
        if !core::mem::take(&mut self.hosts[h as usize].mute) {
            let at = self.arrival(h, 0, self.hosts[h as usize].to_server_last);
            self.clock.at(at, Due::ConnGone(old));
        }
        let host = &mut self.hosts[h as usize];
        host.attempt += 1;
        host.rejoining = true;
        host.hung_up = false;
        host.to_server.clear();
        host.to_node.clear();
        (host.to_server_last, host.to_node_last) = (Instant::ZERO, Instant::ZERO);
        if let Role::Node { back, .. } = &mut host.hello.role {
            *back = host.id;
        }
        let conn = self.conn(h);
        note!(self, h, "connects to the server again");
        if !self.reaches(h, 0) {
            self.clock.after(limits::CONNECT_TIMEOUT, Due::RejoinFailed(conn));
        } else if self.report.is_some() {
            self.clock.after(2 * self.setup.latency, Due::RejoinRefused(conn));
        } else {
            // The connection takes a round trip, then it says who it is; the answer must come in time.
            self.hosts[h as usize].to_server_last = self.clock.now + 3 * self.setup.latency;
            self.send_up(h, Up::Hello);
            self.clock.after(limits::CONNECT_TIMEOUT + limits::PREFACE_TIMEOUT, Due::RejoinFailed(conn));
        }
    }

    pub(super) fn rejoin_failed(&mut self, conn: u32, why: &str, again: bool) {
        let h = host_of(conn);
        if self.is_current(conn) && core::mem::take(&mut self.hosts[h as usize].rejoining) {
            note!(self, h, "is not in again: {why}");
            self.drive(h, Input::RejoinFailed(why.to_owned(), again));
        }
    }

    /// The server notices that a connection was given up.
    pub(super) fn conn_gone(&mut self, conn: u32) {
        self.drive_server(ServerInput::Gone(Conn(conn), "connection reset".to_owned()));
    }

    // ---- messages ----

    pub(super) fn send_up(&mut self, h: u32, message: Up) {
        match message {
            Up::Say(message) if !self.hosts[h as usize].lies.is_empty() => {
                self.as_said(h, message).into_iter().for_each(|said| self.put_up(h, Up::Say(said)));
            }
            other => self.put_up(h, other),
        }
    }

    /// Puts a message on the way to the server.
    pub(super) fn put_up(&mut self, h: u32, message: Up) {
        let when = self.message_arrival(h, 0, self.hosts[h as usize].to_server_last);
        let conn = self.conn(h);
        let host = &mut self.hosts[h as usize];
        if let Up::Say(ToCoordinator::Progress(progress)) = &message {
            host.said = *progress;
        }
        host.to_server_last = when;
        host.to_server.push_back(message);
        self.clock.at(when, Due::ToServer(conn));
    }

    /// The server says something on a connection.
    pub(super) fn send_down(&mut self, Conn(conn): Conn, message: Down) {
        let h = host_of(conn);
        let host = &self.hosts[h as usize];
        // The server may still speak to somebody it has hung up on; nothing of that is sent.
        if !self.is_current(conn) || host.hung_up || !host.alive() {
            return;
        }
        let when = self.message_arrival(0, h, host.to_node_last);
        let host = &mut self.hosts[h as usize];
        host.hung_up = matches!(message, Down::HangUp);
        host.to_node_last = when;
        host.to_node.push_back(message);
        self.clock.at(when, Due::ToNode(conn));
    }

    /// The server's process ends, and with it every connection that is left.
    pub(super) fn hang_up_on_all(&mut self) {
        for h in 1..self.hosts.len() as u32 {
            if self.hosts[h as usize].state != State::Away {
                self.send_down(Conn(self.conn(h)), Down::HangUp);
            }
        }
    }

    /// When a control message of now arrives. The root's needs no network.
    fn message_arrival(&mut self, sender: u32, receiver: u32, last: Instant) -> Instant {
        if sender == receiver {
            return self.clock.now;
        }
        let jitter = self.rng.below(self.setup.jitter.as_nanos() as u64);
        (self.arrival(sender, receiver, Instant::ZERO) + Duration::from_nanos(jitter)).max(last)
    }

    pub(super) fn at_server(&mut self, number: u32) {
        if !self.is_current(number) || self.hosts[host_of(number) as usize].mute {
            return;
        }
        let (h, conn) = (host_of(number), Conn(number));
        match self.hosts[h as usize].to_server.pop_front() {
            Some(Up::Hello) if self.report.is_some() && self.hosts[h as usize].rejoining => {
                self.clock.after(self.setup.latency, Due::RejoinRefused(number));
            }
            Some(Up::Hello) => {
                let hello = self.hosts[h as usize].hello.clone();
                let addr = SocketAddr::new(self.hosts[h as usize].addr, 40_000);
                let server_ip = self.hosts[0].addr;
                self.drive_server(ServerInput::Joined { conn, addr, server_ip, hello });
            }
            Some(Up::Say(message)) => {
                if let ToCoordinator::Receipt(receipt) = &message
                    && receipt.outcome.is_ok()
                    && let Some(c) = &self.coordinator
                    && c.roster()
                        .by_conn(conn)
                        .and_then(|n| c.roster().get(n))
                        .is_some_and(|m| m.outcome().is_none())
                {
                    self.checker.believed(h);
                }
                self.drive_server(ServerInput::Said(conn, message));
            }
            Some(Up::Gone) => self.drive_server(ServerInput::Gone(conn, "connection reset".to_owned())),
            None => {}
        }
    }

    pub(super) fn at_node(&mut self, conn: u32) {
        let h = host_of(conn);
        if !self.is_current(conn) || self.hosts[h as usize].mute {
            return;
        }
        let Some(message) = self.hosts[h as usize].to_node.pop_front() else { return };
        let window = self.window_bytes(h);
        let host = &mut self.hosts[h as usize];
        match (host.state, message) {
            (State::Joining, Down::Say(ToNode::Welcome(welcome))) => {
                note!(self, h, "is in as {}", welcome.node);
                host.state = State::In;
                host.id = Some(welcome.node);
                host.node = Some(Node::new(self.clock.now, &welcome, window));
                self.poll(h);
            }
            (State::Joining, Down::Say(ToNode::Refused(refusal))) => {
                note!(self, h, "is refused: {refusal}");
                host.refused = Some(format!("{refusal}"));
                self.leave(h);
            }
            (State::Joining, Down::HangUp) => {
                host.refused = Some("the server has closed the connection".to_owned());
                self.leave(h);
            }
            (State::In, Down::Say(ToNode::Refused(refusal))) if host.rejoining => {
                self.rejoin_failed(conn, &format!("{refusal}"), false);
            }
            (State::In, Down::HangUp) if host.rejoining => {
                self.rejoin_failed(conn, "the server has closed the connection", true);
            }
            (State::In, Down::Say(message)) if host.rejoining => match message {
                ToNode::Welcome(welcome) if host.id == Some(welcome.node) => {
                    note!(self, h, "is in again");
                    host.rejoining = false;
                    self.marks.rejoined += 1;
                    self.drive(h, Input::Rejoined);
                    self.pump(h);
                }
                other => self.checker.breach("a welcome comes first", format!("host {h} heard {other:?}")),
            },
            (State::In, Down::Say(message)) => {
                note!(self, h, "hears {message:?}");
                let epoch = if let ToNode::View(view) = &message { Some(view.epoch) } else { None };
                self.drive(h, Input::Control(message));
                if let Some(epoch) = epoch {
                    self.check_stale(h, View { epoch, parent: None, children: [].into(), retain: false });
                }
                self.pump(h);
            }
            (State::In, Down::HangUp) => {
                self.drive(h, Input::ControlLost("the server has closed the connection".to_owned()));
            }
            _ => {}
        }
    }

    /// A view whose number is not new must change nothing, whatever it says.
    fn check_stale(&mut self, h: u32, stale: View) {
        if !self.is_in(h) {
            return;
        }
        let now = self.clock.now;
        let Some(node) = &mut self.hosts[h as usize].node else { return };
        node.handle(now, Input::Control(ToNode::View(stale)));
        let output = node.poll();
        if !matches!(output, Output::Wait(_)) {
            self.checker.breach("a stale view is inert", format!("it made host {h} want {output:?}"));
        }
    }
}
