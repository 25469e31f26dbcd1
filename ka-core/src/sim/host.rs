//! A machine: one process of ka with its node, its control connection, and the sink behind it.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::lie::Lie;
use crate::limits;
use crate::proto::Node;
use crate::time::{Duration, Instant};
use crate::types::{NodeId, Position};
use crate::wire::control::{Hello, Outcome, Progress, Role, ToCoordinator, ToNode};

/// The traffic from a host to the server.
#[derive(Debug)]
pub(super) enum Up {
    Hello,
    Say(ToCoordinator),
    Gone,
}

/// The traffic from the server to a host.
#[derive(Debug)]
pub(super) enum Down {
    Say(ToNode),
    HangUp,
}

/// The state of a host's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Not started yet.
    Away,
    /// Connected, not let in yet.
    Joining,
    /// A node of the session.
    In,
    /// The host neither acts nor answers, and nobody is told.
    Frozen,
    /// The process has ended, by itself or not.
    Gone,
}

#[derive(Debug)]
pub(super) struct Host {
    pub(super) state: State,
    pub(super) addr: IpAddr,
    /// Others have the same address, and nobody can dial it there.
    pub(super) shared: bool,
    /// The number of times that it got another address.
    pub(super) moves: u32,
    /// Its control connection is silent both ways, and nobody is told.
    pub(super) mute: bool,
    /// The time that its first link takes to come up.
    pub(super) first_link: Duration,
    /// The node that a welcome made; it stays for questions after its end.
    pub(super) node: Option<Node>,
    pub(super) id: Option<NodeId>,
    pub(super) hello: Hello,
    pub(super) joins_at: Duration,
    /// The outcome, in the node's own words, and when it ended.
    pub(super) ended: Option<(Outcome, Instant)>,
    /// The server's refusal.
    pub(super) refused: Option<String>,
    /// Which attempt its control connection is, and whether that is not up again yet.
    pub(super) attempt: u32,
    pub(super) rejoining: bool,
    pub(super) to_server: VecDeque<Up>,
    pub(super) to_node: VecDeque<Down>,
    /// When the last message each way arrives: one behind another, whatever the jitter.
    pub(super) to_server_last: Instant,
    pub(super) to_node_last: Instant,
    /// The server has said its last word.
    pub(super) hung_up: bool,
    /// When the node wants to be woken, and for when that is asked of the clock.
    pub(super) wait: Instant,
    pub(super) wake: Instant,
    /// The link that is being dialled, the link to the parent, the links to the children.
    pub(super) dialling: Option<u32>,
    pub(super) up: Option<u32>,
    pub(super) down: Vec<u32>,
    /// Links that were offered and not answered yet.
    pub(super) offered: Vec<u32>,
    pub(super) sink: Sink,
    /// Bytes of its window, if that is not as large as all others.
    pub(super) window: Option<u64>,
    /// Bytes per second of the link to its parent.
    pub(super) rate: u64,
    /// When its network card has sent everything it was given.
    pub(super) card_free: Instant,
    /// The offset from which on it forwards bad blocks.
    pub(super) taints_from: Option<u64>,
    /// The offset from which on it sends nothing.
    pub(super) withholds_from: Option<u64>,
    /// The lies that it tells.
    pub(super) lies: BTreeSet<Lie>,
    /// The progress that it last reported to the server, and when its lie about that was last another one.
    pub(super) said: Progress,
    pub(super) said_at: Instant,
    /// The time until which it stands still.
    pub(super) paused_until: Instant,
    pub(super) harm: Harm,
    /// When its last byte arrived.
    pub(super) last_byte: Instant,
}

impl Host {
    pub(super) fn new(number: u32, rate: u64) -> Self {
        Self {
            state: State::Away,
            addr: addr(number),
            shared: false,
            moves: 0,
            mute: false,
            first_link: Duration::ZERO,
            node: None,
            id: None,
            hello: Hello {
                session: None,
                incarnation: u64::from(number),
                role: Role::Node { data_port: limits::DATA_PORT, wait: false, back: None },
                label: String::new(),
                about: Vec::new(),
            },
            joins_at: Duration::ZERO,
            ended: None,
            refused: None,
            attempt: 0,
            rejoining: false,
            to_server: VecDeque::new(),
            to_node: VecDeque::new(),
            to_server_last: Instant::ZERO,
            to_node_last: Instant::ZERO,
            hung_up: false,
            wait: NEVER,
            wake: NEVER,
            dialling: None,
            up: None,
            down: Vec::new(),
            offered: Vec::new(),
            sink: Sink::default(),
            window: None,
            rate,
            card_free: Instant::ZERO,
            taints_from: None,
            withholds_from: None,
            lies: BTreeSet::new(),
            said: Progress::default(),
            said_at: Instant::ZERO,
            paused_until: Instant::ZERO,
            harm: Harm::default(),
            last_byte: Instant::ZERO,
        }
    }

    /// Whether it says what is not so, or keeps back what it has.
    pub(super) fn lies(&self) -> bool {
        !self.lies.is_empty() || self.taints_from.is_some() || self.withholds_from.is_some()
    }

    /// Whether its process will end by itself some day.
    pub(super) fn alive(&self) -> bool {
        matches!(self.state, State::Away | State::Joining | State::In)
    }
}

/// The harm that was done to a host.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Harm {
    /// Killed, frozen or stopped: it is not expected to end well.
    pub(super) ended: bool,
    /// Somebody stopped it.
    pub(super) stopped: bool,
    /// The time for which it was paused, cut off or deaf, how often, and when that was over.
    pub(super) away: Duration,
    pub(super) times: u32,
    pub(super) back: Instant,
}

impl Harm {
    /// Whether anything was: others may lose time because of it, and it may be suspected.
    pub(super) fn any(&self) -> bool {
        self.ended || self.times > 0
    }
}

/// A time that does not come.
pub(super) const NEVER: Instant = Instant(u64::MAX);

/// The consumer of a node's bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sink {
    /// Bytes per second; without a number it takes everything at once.
    pub(super) rate: Option<u64>,
    /// The time that it takes to end once it has everything.
    pub(super) ends_after: Duration,
    /// The offset beyond which it takes no byte and fails.
    pub(super) fails_at: Option<u64>,
    /// The time before which it takes nothing.
    pub(super) stalled_until: Instant,
    pub(super) taken: Position,
    pub(super) state: SinkState,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum SinkState {
    /// The sink takes the next item at once, or waits for one.
    #[default]
    Ready,
    /// The sink is at work on an item.
    Busy,
    /// The sink has everything and is about to end, or has ended.
    Ending,
    /// The sink has failed or was aborted.
    Gone,
}

/// Bits of a host's number; those above tell its later addresses, and its later connections, from the first.
pub(super) const HOST_BITS: u32 = 20;

/// The address that a host has at first.
pub(super) fn addr(host: u32) -> IpAddr {
    let [_, b, c, d] = host.to_be_bytes();
    IpAddr::from([10, b, c, d])
}

/// The host of a connection.
pub(super) fn host_of(conn: u32) -> u32 {
    conn & ((1 << HOST_BITS) - 1)
}

/// The time that a grant takes up a few levels, with all that may hold it up in one place.
pub(super) const SETTLE: Duration = Duration::from_secs(1);
