//! The run loop of every session, server and node alike: the only `select!` of the project.
//!
//! It carries what happens to the machines and does what they say. The server has a coordinator beside its
//! node, to which it talks without a socket; a node has a connection to one.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::sync::mpsc;
use tokio::time::Sleep;

use super::clock::Clock;
use super::control::connection::{Connection, Outbox};
use super::data::relay::Relay;
use super::host::refused::refused;
use super::incoming::{Incoming, NotBack, Task};
use super::link::dial::{self, Link, NoLink};
use super::session::{Admit, Candidate, ClientEvent, Command, Denied, Inbox, ServerEvent};
use super::uplink::Line;
use crate::limits;
use crate::proto::coordinator::Conn;
use crate::proto::node::{Input as NodeInput, Output as NodeOutput};
use crate::proto::{Coordinator, Event, Node, Report, coordinator};
use crate::time::Instant;
use crate::types::{LinkId, NodeId, Position, printable};
use crate::wire::control::{
    Counters, Hello, LinkFault, Outcome, Peer, Reason, Refusal, Role, ToCoordinator, ToNode,
};
use crate::wire::data::{Attach, Refuse};

/// The place where the session's decisions are taken.
pub(super) enum Brain<'a> {
    /// Here: this is the server.
    Here(Box<Host<'a>>),
    /// At the other end of this connection.
    There(Box<Line>, &'a mut (dyn FnMut(ClientEvent) + Send)),
}

/// The server's half.
pub(super) struct Host<'a> {
    pub(super) coordinator: Coordinator,
    pub(super) outboxes: BTreeMap<Conn, Outbox>,
    pub(super) admit: Option<Admit>,
    pub(super) events: &'a mut (dyn FnMut(ServerEvent) + Send),
}

/// The end of a session, as seen from this process.
pub(super) enum End {
    /// The server's.
    Session(Report),
    /// A node's.
    Node(Outcome, Position, Counters),
}

/// A parent that is being dialled.
struct Dialling {
    link: LinkId,
    parent: Peer,
    attach: Attach,
    addrs: Vec<SocketAddr>,
    _task: Task,
}

/// The run loop and everything it owns.
pub(super) struct Driver<'a> {
    clock: Clock,
    node: Node,
    relay: Relay,
    brain: Brain<'a>,
    incoming: mpsc::Receiver<Incoming>,
    /// For the tasks that dial.
    sender: mpsc::Sender<Incoming>,
    next_link: u32,
    /// The dial whose result counts.
    dialling: Option<Dialling>,
    /// Offered links that the node has not decided about.
    offered: BTreeMap<LinkId, (Link, Attach)>,
    /// The state that the application was told: the parent, and whether the server is away.
    parent: Option<(NodeId, SocketAddr)>,
    away: bool,
    /// The state of the application, which is sent again once the server is back.
    state: Option<Vec<u8>>,
    end: Option<End>,
}

impl<'a> Driver<'a> {
    pub(super) fn new(
        clock: Clock,
        node: Node,
        relay: Relay,
        brain: Brain<'a>,
        (sender, incoming): (mpsc::Sender<Incoming>, mpsc::Receiver<Incoming>),
    ) -> Self {
        Self {
            clock,
            node,
            relay,
            brain,
            incoming,
            sender,
            next_link: 0,
            dialling: None,
            offered: BTreeMap::new(),
            parent: None,
            away: false,
            state: None,
            end: None,
        }
    }

    /// Runs the session to its end.
    pub(super) async fn run(mut self, inbox: &mut Inbox) -> End {
        let mut timer = Box::pin(tokio::time::sleep(std::time::Duration::ZERO));
        let mut set = Instant::ZERO;
        let mut inbox_open = true;
        loop {
            let wait = self.settle();
            if let Some(end) = self.end.take() {
                if let (Err(why), Brain::Here(host)) = (self.relay.end().await, self.brain) {
                    (host.events)(ServerEvent::Warning(why));
                }
                return end;
            }
            if wait != set {
                set = wait;
                Sleep::reset(timer.as_mut(), self.clock.when(wait));
            }
            tokio::select! {
                biased;
                () = poll_fn(|cx| self.relay.poll(cx, &self.node)) => {}
                Some(incoming) = self.incoming.recv() => self.incoming(incoming),
                command = inbox.0.recv(), if inbox_open => match command {
                    Some(command) => self.command(command),
                    None => inbox_open = false,
                },
                () = timer.as_mut() => {
                    set = Instant::ZERO;
                    self.handle(NodeInput::Timeout);
                    self.coordinate(coordinator::Input::Timeout);
                }
            }
        }
    }

    /// Does everything the machines want done, until both only wait; says until when.
    fn settle(&mut self) -> Instant {
        while let Some(input) = self.relay.happened() {
            self.handle(input);
        }
        while let Some(info) = self.relay.begun() {
            match &mut self.brain {
                Brain::Here(host) => (host.events)(ServerEvent::Stream(info)),
                Brain::There(_, events) => events(ClientEvent::Stream(info)),
            }
        }
        let node = loop {
            match self.node.poll() {
                NodeOutput::Wait(until) => break until,
                NodeOutput::Finished(outcome) => {
                    if matches!(self.brain, Brain::There(..)) {
                        let window = self.node.window();
                        self.end = Some(End::Node(outcome, window.received(), window.counters()));
                    }
                    break Instant(u64::MAX);
                }
                output => self.act(output),
            }
        };
        self.relay.forget(self.node.window().kept());
        node.min(self.settle_host())
    }

    fn settle_host(&mut self) -> Instant {
        let mut to_root = Vec::new();
        let until = loop {
            let Brain::Here(host) = &mut self.brain else { return Instant(u64::MAX) };
            match host.coordinator.poll() {
                coordinator::Output::Tell(Conn::ROOT, message) => to_root.push(message),
                coordinator::Output::Tell(conn, message) => {
                    if let Some(outbox) = host.outboxes.get(&conn) {
                        outbox.send(&message);
                    }
                }
                coordinator::Output::HangUp(conn) => {
                    host.outboxes.remove(&conn);
                }
                coordinator::Output::Event(event) => (host.events)(ServerEvent::Session(event)),
                coordinator::Output::Done(mut report) => {
                    // What the root has sent since it told of itself last counts, too.
                    report.root.counters = self.node.window().counters();
                    self.end = Some(End::Session(report));
                    return Instant(u64::MAX);
                }
                coordinator::Output::Wait(until) => break until,
            }
        };
        if to_root.is_empty() {
            return until;
        }
        for message in to_root {
            self.handle(NodeInput::Control(message));
        }
        // What the root does about it may be news to the coordinator.
        Instant::min(until, self.settle())
    }

    fn handle(&mut self, input: NodeInput) {
        if let NodeInput::Control(ToNode::View(_)) = &input {
            self.offer_again();
        }
        if let Brain::There(line, events) = &mut self.brain {
            match &input {
                NodeInput::Control(ToNode::View(view)) => {
                    let lacks = !self.node.window().closed();
                    let reached = |p: &Peer| line.way(p).addrs.first().copied().unwrap_or(p.addr);
                    let parent = view.parent.as_ref().map(|p| (p.node, reached(p)));
                    match (parent, self.parent) {
                        (Some((node, addr)), old) if old != parent => {
                            events(ClientEvent::Parent { node, addr });
                        }
                        (None, _) if lacks => events(ClientEvent::NoParent),
                        _ => {}
                    }
                    self.parent = parent;
                }
                NodeInput::Linked(_) => events(ClientEvent::Linked),
                NodeInput::Rejoined => {
                    self.away = false;
                    events(ClientEvent::Back);
                }
                _ => {}
            }
        }
        let failed = match &input {
            NodeInput::RereadFailed(why) => Some(why.clone()),
            _ => None,
        };
        self.node.handle(self.clock.now(), input);
        if let Some(why) = failed {
            self.coordinate(coordinator::Input::RereadFailed(why));
        }
    }

    fn coordinate(&mut self, input: coordinator::Input) {
        if let Brain::Here(host) = &mut self.brain {
            host.coordinator.handle(self.clock.now(), input);
        }
    }

    fn act(&mut self, output: NodeOutput) {
        match output {
            NodeOutput::Tell(message) => self.tell(message),
            NodeOutput::Dial(peer, attach) => self.dial(peer, attach),
            NodeOutput::Rejoin => {
                if let Brain::There(line, events) = &mut self.brain {
                    if !std::mem::replace(&mut self.away, true) {
                        events(ClientEvent::Away);
                    }
                    line.dial(&self.sender);
                }
            }
            NodeOutput::Accept(link, ..) => {
                if let Some((offered, attach)) = self.offered.remove(&link) {
                    self.relay.add_child(link, offered, attach.grant);
                }
            }
            NodeOutput::Refuse(link, why) => {
                if let Some((offered, _)) = self.offered.remove(&link) {
                    offered.refuse(&why);
                }
            }
            NodeOutput::Drop(link) => {
                self.relay.drop_link(link);
                self.offered.remove(&link);
            }
            NodeOutput::Live => self.relay.live(),
            NodeOutput::Grant(grant) => self.relay.grant(grant),
            NodeOutput::AbortSink => self.relay.abort_sink(),
            // Taken by `settle`.
            NodeOutput::Wait(_) | NodeOutput::Finished(_) => {}
        }
    }

    fn tell(&mut self, message: ToCoordinator) {
        match &mut self.brain {
            Brain::Here(_) => self.coordinate(coordinator::Input::Said(Conn::ROOT, message)),
            Brain::There(line, events) => {
                match &message {
                    ToCoordinator::Progress(progress) => events(ClientEvent::Progress(*progress)),
                    ToCoordinator::Complete => events(ClientEvent::Complete),
                    ToCoordinator::Receipt(receipt) => events(ClientEvent::Ended(receipt.outcome.clone())),
                    _ => {}
                }
                line.send(&message);
            }
        }
    }

    /// Dials a parent, wherever it is reached now. The root dials nobody.
    fn dial(&mut self, parent: Peer, attach: Attach) {
        let link = self.new_link();
        let Brain::There(line, _) = &self.brain else { return };
        let (way, sender) = (line.way(&parent), self.sender.clone());
        let addrs = way.addrs.clone();
        let task = Task::spawn(async move {
            let result = dial::dial(way, attach).await;
            let _ = sender.send(Incoming::Dialled(link, result)).await;
        });
        self.dialling = Some(Dialling { link, parent, attach, addrs, _task: task });
    }

    /// The server may be elsewhere by now: so is the parent that is being dialled, if it is the root.
    fn dial_again(&mut self) {
        let Brain::There(line, _) = &self.brain else { return };
        if let Some(old) = self.dialling.take_if(|old| line.way(&old.parent).addrs != old.addrs) {
            self.dial(old.parent, old.attach);
        }
    }

    /// Nothing this node may do helps it on: it ends, and the others go on without it. The coordinator hears it as if it had
    /// said so itself.
    fn give_up(&mut self, why: &io::Error) {
        let Brain::There(line, _) = &self.brain else { return };
        let why = printable(&refused("it cannot connect to its parent", why), limits::TEXT_BYTES);
        self.handle(NodeInput::Control(ToNode::Abort(Reason::Lost(line.node(), why))));
    }

    /// Lets the node decide about a child that dialled.
    fn offer(&mut self, link: LinkId, offered: Link, attach: Attach) {
        match self.relay.believe(attach.grant) {
            Some(grant) => {
                self.offered.insert(link, (offered, attach));
                self.handle(NodeInput::Offered(link, Attach { grant, ..attach }));
            }
            None => {
                let why = "its place is not one of the tape that is held here".into();
                offered.refuse(&Refuse { kept: None, why });
            }
        }
    }

    /// The tape went on while children were waiting for a view: what can be believed of them is another now.
    fn offer_again(&mut self) {
        for (link, (offered, attach)) in std::mem::take(&mut self.offered) {
            self.handle(NodeInput::LinkLost(link, LinkFault::Broken("it is looked at again".into())));
            self.offer(link, offered, attach);
        }
    }

    fn new_link(&mut self) -> LinkId {
        self.next_link += 1;
        LinkId(self.next_link)
    }

    fn incoming(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Hello { conn, addr, server_ip, hello, outbox } => {
                self.hello(conn, addr, server_ip, hello, outbox);
            }
            Incoming::Said(conn, message) => self.coordinate(coordinator::Input::Said(conn, message)),
            Incoming::Gone(conn, why) => {
                if let Brain::Here(host) = &mut self.brain {
                    host.outboxes.remove(&conn);
                }
                self.coordinate(coordinator::Input::Gone(conn, why));
            }
            Incoming::Told(number, message) => {
                if self.line(number).is_some() {
                    self.handle(NodeInput::Control(message));
                }
            }
            Incoming::Lost(number, why) => {
                if self.line(number).is_some() {
                    self.handle(NodeInput::ControlLost(why));
                }
            }
            Incoming::Rejoined(number, result) => self.rejoined(number, result),
            Incoming::Offer(offered, attach) => {
                let link = self.new_link();
                self.offer(link, offered, attach);
            }
            Incoming::Dialled(link, result) => {
                if self.dialling.take_if(|dialled| dialled.link == link).is_none() {
                    return;
                }
                match result {
                    Ok(parent) => {
                        self.relay.set_parent(link, parent);
                        self.handle(NodeInput::Linked(link));
                    }
                    Err(NoLink::Fault(fault)) => self.handle(NodeInput::DialFailed(fault)),
                    Err(NoLink::Exhausted(why)) => self.give_up(&why),
                }
            }
            Incoming::Warning(words) => match &mut self.brain {
                Brain::Here(host) => (host.events)(ServerEvent::Warning(words)),
                Brain::There(_, events) => events(ClientEvent::Warning(words)),
            },
        }
    }

    /// The connection to the server, if this is its number and not that of an older one.
    fn line(&mut self, number: u32) -> Option<&mut Line> {
        match &mut self.brain {
            Brain::There(line, _) if line.number() == number => Some(line),
            _ => None,
        }
    }

    fn rejoined(&mut self, number: u32, result: Result<Connection, NotBack>) {
        let sender = self.sender.clone();
        let Some(line) = self.line(number) else { return };
        match result {
            Ok(connection) => {
                let before = line.at();
                line.open(connection, sender);
                let now = line.at();
                if let (Brain::There(_, events), true) = (&mut self.brain, before != now) {
                    events(ClientEvent::Found(now));
                }
                self.dial_again();
                self.handle(NodeInput::Rejoined);
                if let (Brain::There(line, _), Some(state)) = (&self.brain, &self.state) {
                    line.send(&ToCoordinator::State(state.clone()));
                }
            }
            Err(why) => {
                let (why, again) = line.failed(why);
                self.handle(NodeInput::RejoinFailed(why, again));
            }
        }
    }

    fn hello(&mut self, conn: Conn, addr: SocketAddr, server_ip: IpAddr, hello: Hello, outbox: Outbox) {
        let Brain::Here(host) = &mut self.brain else { return };
        if let (Some(Admit(rule)), Role::Node { back: None, .. }) = (&mut host.admit, &hello.role) {
            let label = printable(&hello.label, limits::SESSION_NAME_BYTES);
            let candidate = Candidate { addr, label, about: hello.about.clone() };
            if let Err(Denied { code, text }) = rule(&candidate) {
                let why = Refusal::rule(code, &printable(&text, limits::TEXT_BYTES));
                let refused = Event::Refused { addr, code: why.code, why: why.to_string() };
                (host.events)(ServerEvent::Session(refused));
                outbox.send(&ToNode::Refused(why));
                return;
            }
        }
        host.outboxes.insert(conn, outbox);
        self.coordinate(coordinator::Input::Joined { conn, addr, server_ip, hello });
    }

    fn command(&mut self, command: Command) {
        match (command, &self.brain) {
            (Command::Go, _) => self.coordinate(coordinator::Input::Go),
            (Command::Stop(who), Brain::Here(_)) => self.coordinate(coordinator::Input::Stop(who)),
            (Command::Stop(who), Brain::There(..)) => self.handle(NodeInput::Stop(who)),
            (Command::Note(note), Brain::There(line, _)) => line.send(&ToCoordinator::Note(note)),
            (Command::State(state), Brain::There(line, _)) => {
                line.send(&ToCoordinator::State(state.clone()));
                self.state = Some(state);
            }
            (Command::Note(_) | Command::State(_), Brain::Here(_)) => {}
            (Command::Rate(rate), _) => {
                self.handle(NodeInput::SetRate(rate));
                self.coordinate(coordinator::Input::SetRate(rate));
            }
        }
    }
}
