//! A member written by hand: it joins with the key, takes the tape and feeds whoever dials it, as any node does, but for
//! what a test has it lie.
//!
//! It keeps all that came, has no sink, and checks what it gets: its own parent is honest.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use ka_core::crypto::link_keys::LinkKey;
use ka_core::crypto::session_key::Key;
use ka_core::limits::{BLOCK_BYTES, GRANT_STEP_BYTES, HEARTBEAT_INTERVAL, REDIAL_DELAY};
use ka_core::tape::chain::Checker;
use ka_core::types::{Epoch, NodeId, Offset, Position, SessionId, Watermarks};
use ka_core::wire::control::{
    Blocked, Counters, Hello, LinkFault, Outcome, Peer, Progress, Receipt, Role, ToCoordinator, ToNode, View,
    Welcome,
};
use ka_core::wire::data::{Attach, Grant, Kind};
use snow::StatelessTransportState;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{interval, timeout};

use crate::Place;
use crate::fake::{DataLink, Ear, Mouth, all, encoded, hear, member, sealed};

/// The interval at which it says how far it is: twice as often as others.
const PAUSE: Duration = Duration::from_millis(80);

/// Bytes that it lets its parent send beyond what those below it have.
const WINDOW_BYTES: u64 = 2 << 20;

/// Where a session is, and what opens it.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) control: SocketAddr,
    pub(crate) key: Key,
}

/// Runs this on the host of the thread: no other thread makes its sockets.
pub(crate) fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// What a member says at a beat, given what an honest one would say; false: it goes, as soon as that is said.
pub(crate) type Beat = Box<dyn FnMut(&Now, &mut Vec<ToCoordinator>) -> bool + Send>;

/// What a member does otherwise than an honest one.
pub(crate) struct Lies {
    /// What it says of itself for the server's application as it joins.
    pub(crate) about: Vec<u8>,
    pub(crate) beat: Beat,
    /// Those below it get nothing that lies behind this …
    pub(crate) keeps_back: Offset,
    /// … but for these.
    pub(crate) friends: Vec<NodeId>,
    /// Whether it says of those below it that they have all that it has.
    pub(crate) inflates: bool,
    /// Whether it takes the tape from the parent that it is given.
    pub(crate) takes: bool,
    /// Whether it says how it ends.
    pub(crate) has_receipt: bool,
}

impl Default for Lies {
    fn default() -> Self {
        Self {
            about: Vec::new(),
            beat: Box::new(|_: &Now, _: &mut Vec<ToCoordinator>| true),
            keeps_back: Offset(u64::MAX),
            friends: Vec::new(),
            inflates: false,
            takes: true,
            has_receipt: true,
        }
    }
}

/// How far a member is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// The number of beats so far.
    pub(crate) beats: u64,
    pub(crate) held: Position,
    /// What keeps it from more.
    pub(crate) blocked: Blocked,
    /// The epoch of the last view.
    pub(crate) epoch: Epoch,
}

impl Now {
    pub(crate) fn progress(&self) -> Progress {
        let at = self.held.offset;
        Progress { received: at, sunk: at, blocked: self.blocked, ..Progress::default() }
    }
}

/// A member that is in.
pub(crate) struct Member {
    welcome: Welcome,
    ear: OwnedReadHalf,
    mouth: OwnedWriteHalf,
    keys: Arc<StatelessTransportState>,
    said: u64,
    listener: TcpListener,
}

impl Member {
    /// Joins under this incarnation; `Err`: what the server said instead of a welcome, if it said anything.
    pub(crate) async fn join(door: &Door, incarnation: u64, about: Vec<u8>) -> Result<Self, Option<ToNode>> {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
        let data_port = listener.local_addr().unwrap().port();
        let (control, keys) = member(&Place { key: door.key.clone(), control: door.control }).await;
        let (mut ear, mouth) = control.into_split();
        let role = Role::Node { data_port, wait: false, back: None };
        let hello = Hello { session: None, incarnation, role, label: "liar".into(), about };
        let mut voice = Voice { mouth, keys, said: 0 };
        voice.say(&ToCoordinator::Hello(hello)).await.map_err(|_| None)?;
        let Voice { mouth, keys, said } = voice;
        match hear(&mut ear, &keys, 0).await {
            Some(ToNode::Welcome(welcome)) => Ok(Self { welcome, ear, mouth, keys, said, listener }),
            other => Err(other),
        }
    }

    /// Takes part until it is let go, the session ends, or it goes by itself.
    pub(crate) async fn lives(self, mut lies: Lies) {
        let Self { welcome, ear, mouth, keys, said, listener } = self;
        let mut voice = Voice { mouth, keys: Arc::clone(&keys), said };
        let mut heard = listen(ear, keys);
        let mut links = Links::new(&welcome, listener, &mut lies);
        let (mut beat, mut beats, mut ended) = (interval(PAUSE), 0, false);
        loop {
            let (mut says, mut stays) = (Vec::new(), true);
            tokio::select! {
                message = heard.recv() => match message {
                    None | Some(ToNode::Release | ToNode::Abort(_)) => return,
                    Some(ToNode::View(view)) if lies.takes => says.extend(links.follow(view)),
                    Some(_) => {}
                },
                word = links.told.recv() => says.extend(word),
                _ = beat.tick() => {
                    beats += 1;
                    let now = Now { beats, held: links.held.position(), blocked: links.held.blocked(), epoch: links.epoch };
                    says.push(ToCoordinator::Progress(now.progress()));
                    says.push(ToCoordinator::Stored(now.held.item));
                    if let Some(receipt) = links.held.receipt().filter(|_| !std::mem::replace(&mut ended, true)) {
                        says.push(ToCoordinator::Complete);
                        says.extend(lies.has_receipt.then_some(ToCoordinator::Receipt(receipt)));
                    }
                    stays = (lies.beat)(&now, &mut says);
                }
            }
            for word in &says {
                if voice.say(word).await.is_err() {
                    return;
                }
            }
            if !stays {
                return;
            }
        }
    }
}

/// What it has to do with other nodes. Dropped, all of its links are closed.
struct Links {
    child: (NodeId, SessionId),
    held: Arc<Held>,
    epoch: Epoch,
    parent: Option<(NodeId, AbortHandle)>,
    tasks: JoinSet<()>,
    tell: UnboundedSender<ToCoordinator>,
    told: UnboundedReceiver<ToCoordinator>,
}

impl Links {
    fn new(welcome: &Welcome, listener: TcpListener, lies: &mut Lies) -> Self {
        let held = Arc::new(Held::new(welcome, lies.inflates));
        let child = (welcome.node, welcome.session);
        let own = welcome.link.clone().expect("the session has keys");
        let (tell, told) = unbounded_channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(feed(
            listener,
            own,
            welcome.session,
            Arc::clone(&held),
            (lies.keeps_back, std::mem::take(&mut lies.friends)),
        ));
        Self { child, held, epoch: Epoch(0), parent: None, tasks, tell, told }
    }

    /// Does as a view says, and returns what there is to say of it at once.
    fn follow(&mut self, view: View) -> Option<ToCoordinator> {
        if view.epoch <= self.epoch {
            return None;
        }
        self.epoch = view.epoch;
        self.held.is_to_feed(&view.children);
        if let (Some(peer), Some((parent, task))) = (&view.parent, &self.parent)
            && peer.node == *parent
            && !task.is_finished()
        {
            return Some(ToCoordinator::Linked(view.epoch));
        }
        if let Some((_, task)) = self.parent.take() {
            task.abort();
        }
        self.parent = view.parent.map(|peer| {
            let (node, (child, session)) = (peer.node, self.child);
            let takes = take(peer, (child, session, view.epoch), Arc::clone(&self.held), self.tell.clone());
            (node, self.tasks.spawn(takes))
        });
        None
    }
}

/// What it says to the server.
struct Voice {
    mouth: OwnedWriteHalf,
    keys: Arc<StatelessTransportState>,
    said: u64,
}

impl Voice {
    async fn say(&mut self, message: &ToCoordinator) -> io::Result<()> {
        let frame = sealed(&self.keys, self.said, &encoded(message));
        self.said += 1;
        self.mouth.write_all(&frame).await
    }
}

/// What the server says, from its second message on.
fn listen(mut ear: OwnedReadHalf, keys: Arc<StatelessTransportState>) -> UnboundedReceiver<ToNode> {
    let (tx, rx) = unbounded_channel();
    tokio::spawn(async move {
        for number in 1.. {
            let message = hear(&mut ear, &keys, number).await;
            if message.is_none_or(|message| tx.send(message).is_err()) {
                return;
            }
        }
    });
    rx
}

// ---- what it holds ----

/// All of the tape that came, and how far those below are.
struct Held {
    state: Mutex<State>,
    /// Changes with the state.
    changed: watch::Sender<u64>,
}

struct State {
    items: Vec<(Kind, Vec<u8>)>,
    checker: Checker,
    children: BTreeMap<NodeId, Watermarks>,
    upto: Offset,
    inflates: bool,
}

impl Held {
    fn new(welcome: &Welcome, inflates: bool) -> Self {
        let checker = Checker::new(welcome.session, &welcome.key, welcome.payload.clone()).expect("a key");
        let state =
            State { items: Vec::new(), checker, children: BTreeMap::new(), upto: Offset::ZERO, inflates };
        Self { state: Mutex::new(state), changed: watch::Sender::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.send_modify(|version| *version += 1);
    }

    fn position(&self) -> Position {
        self.lock().checker.position()
    }

    /// Takes an item of the true tape; an error if it is none.
    fn add(&self, kind: Kind, body: Vec<u8>) -> Result<(), String> {
        let mut checked = Ok(());
        self.change(|state| {
            checked = match kind {
                Kind::Block => state.checker.block(&body).map_err(|why| why.to_string()),
                Kind::Statement => state.checker.statement(&body).map(drop).map_err(|why| why.to_string()),
                kind => Err(format!("a parent does not send {kind:?}")),
            };
            if checked.is_ok() {
                state.items.push((kind, body));
            }
        });
        checked
    }

    /// The children from now on. One that has not attached yet has nothing.
    fn is_to_feed(&self, children: &[NodeId]) {
        self.change(|state| {
            state.children.retain(|node, _| children.contains(node));
            for node in children {
                state.children.entry(*node).or_insert(Watermarks::all(Position::START));
            }
        });
    }

    /// What it tells its parent.
    fn grant(&self) -> Grant {
        let mut state = self.lock();
        let own = state.checker.position();
        if state.inflates {
            state.upto = Offset(u64::MAX);
            return all(own);
        }
        let mut watermarks = Watermarks::leaf(own);
        for child in state.children.values() {
            for (level, at) in watermarks.0[1..].iter_mut().zip(child.0) {
                *level = (*level).min(at);
            }
        }
        let low = watermarks.lowest().offset.min(own.offset);
        state.upto = state.upto.max(low + WINDOW_BYTES);
        Grant { watermarks, upto: state.upto.max(own.offset) }
    }

    /// The child that keeps it from getting more, if one does.
    fn blocked(&self) -> Blocked {
        let state = self.lock();
        let full = state.checker.position().offset + BLOCK_BYTES as u64 > state.upto;
        let slowest = state.children.iter().min_by_key(|(_, at)| at.lowest()).filter(|_| full);
        slowest.map_or(Blocked::No, |(child, _)| Blocked::Child(*child))
    }

    /// How an honest one ends, once it has everything.
    fn receipt(&self) -> Option<Receipt> {
        let state = self.lock();
        let checker = &state.checker;
        let (bytes, chain) = (checker.position().offset.0, checker.chain());
        checker.closed().then(|| Receipt {
            outcome: Outcome::Ok,
            bytes,
            chain,
            counters: Counters::default(),
        })
    }
}

// ---- its parent ----

/// Takes the tape from a parent, whom it dials again and again.
async fn take(
    peer: Peer,
    (child, session, epoch): (NodeId, SessionId, Epoch),
    held: Arc<Held>,
    tell: UnboundedSender<ToCoordinator>,
) {
    let says = |fault| {
        let _ = tell.send(ToCoordinator::LinkLost(epoch, held.position().offset, fault));
    };
    loop {
        let (key, attach) = (peer.key.clone(), Attach { session, child, epoch, grant: held.grant() });
        // What cannot be dialled fails as a task.
        let addr = peer.addr;
        let dials =
            async move { DataLink::dial(addr, &key.expect("the session has keys"), session, attach).await };
        match tokio::spawn(dials).await {
            Ok(Some(link)) => {
                follow(link, &held, || drop(tell.send(ToCoordinator::Linked(epoch)))).await;
                if held.receipt().is_some() {
                    return;
                }
                says(LinkFault::Broken("it is closed".into()));
            }
            _ => says(LinkFault::Unreachable("it does not answer".into())),
        }
        // Until then nothing is to be learned.
        let _ = timeout(REDIAL_DELAY, std::future::pending::<()>()).await;
    }
}

/// Takes what comes over a link until it ends.
async fn follow(DataLink { mut ear, mouth }: DataLink, held: &Arc<Held>, is_linked: impl FnOnce()) {
    if ear.hear().await != Some((Kind::Beat, Vec::new())) {
        return;
    }
    is_linked();
    // Ends with this link.
    let mut grants = JoinSet::new();
    grants.spawn(grant(mouth, Arc::clone(held)));
    while let Some((kind, body)) = ear.item().await.filter(|(kind, _)| *kind != Kind::Refuse) {
        held.add(kind, body).unwrap_or_else(|why| panic!("the true tape: {why}"));
    }
}

/// Tells a parent how far it is, whenever that has changed by a step.
async fn grant(mut mouth: Mouth, held: Arc<Held>) {
    let (mut changes, mut last) = (held.changed.subscribe(), held.grant());
    loop {
        let _ = timeout(PAUSE, changes.changed()).await;
        let grant = held.grant();
        let step = |at: fn(&Grant) -> Offset| at(&grant) - at(&last) >= GRANT_STEP_BYTES;
        let grown = step(|g| g.upto) || step(|g| g.watermarks.held().offset) || held.receipt().is_some();
        if grown && grant != last {
            mouth.say(Kind::Grant, &grant.encode()).await;
            last = grant;
        }
    }
}

// ---- its children ----

/// Hears whoever dials.
async fn feed(
    listener: TcpListener,
    own: LinkKey,
    session: SessionId,
    held: Arc<Held>,
    (keeps_back, friends): (Offset, Vec<NodeId>),
) {
    let mut children = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (own, held, friends) = (own.clone(), Arc::clone(&held), friends.clone());
        children.spawn(async move {
            let (DataLink { ear, mut mouth }, attach) = DataLink::answer(stream, &own, session).await;
            mouth.say(Kind::Beat, &[]).await;
            let end = if friends.contains(&attach.child) { Offset(u64::MAX) } else { keeps_back };
            let child =
                Arc::new(Child { upto: AtomicU64::new(attach.grant.upto.0), gone: AtomicBool::new(false) });
            tokio::join!(
                granted(ear, attach, Arc::clone(&child), &held),
                send(mouth, attach.grant.watermarks.held(), &child, &held, end)
            );
        });
    }
}

/// A child that has attached.
struct Child {
    upto: AtomicU64,
    gone: AtomicBool,
}

/// Hears a child's grants until it hangs up.
async fn granted(mut ear: Ear, attach: Attach, child: Arc<Child>, held: &Held) {
    let mut grant = Some(attach.grant);
    while let Some(said) = grant {
        child.upto.store(said.upto.0, Ordering::Release);
        held.change(|state| {
            if let Some(at) = state.children.get_mut(&attach.child) {
                *at = said.watermarks;
            }
        });
        grant = match ear.hear().await {
            Some((Kind::Grant, body)) => Grant::decode(&body).ok(),
            _ => None,
        };
    }
    child.gone.store(true, Ordering::Release);
    held.changed.send_modify(|version| *version += 1);
}

/// Sends a child what it lacks, as far as it may have it.
async fn send(mut mouth: Mouth, from: Position, child: &Child, held: &Held, end: Offset) {
    let (mut at, mut changes) = (from, held.changed.subscribe());
    while !child.gone.load(Ordering::Acquire) {
        changes.borrow_and_update();
        let most = end.min(Offset(child.upto.load(Ordering::Acquire)));
        let item = held.lock().items.get(at.item as usize).cloned();
        match item {
            Some((kind, body)) if kind == Kind::Statement || at.offset + body.len() as u64 <= most => {
                let item = mouth.item(kind, &body);
                mouth.write(&item).await;
                mouth.sent.clear();
                at.item += 1;
                if kind == Kind::Block {
                    at.offset += body.len() as u64;
                }
            }
            _ => {
                if timeout(HEARTBEAT_INTERVAL, changes.changed()).await.is_err() {
                    mouth.say(Kind::Beat, &[]).await;
                }
            }
        }
    }
}
