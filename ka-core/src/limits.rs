//! Every number of ka in one place: the unit last in the name, and why this value.
//!
//! Timers are in [`proto::timer`](crate::proto::timer), their delays here.

use crate::time::Duration;

// ---- the tape ----

/// Payload bytes of a full block: what is hashed, checked and forwarded as one.
///
/// A relay holds a block until it is whole, so each hop adds one block time: at 100 Mbit/s over 31 hops
/// 64 KiB cost 0.17 s, 32 KiB 0.09 s. But each block also costs each node a wake-up: eight nodes and their commands on
/// two cores at 1 Gbit/s take 1.71 CPU seconds per GiB with 32 KiB, and 1.44 with 64 KiB.
pub const BLOCK_BYTES: usize = 64 << 10;

/// Blocks that one signed segment announces at most: 4 MiB of payload, 2 KiB of hashes.
///
/// Checking a signature costs about 0.1 ms; spread over 4 MiB that is 0.03 CPU seconds per GiB.
pub const SEGMENT_BLOCKS: usize = 64;

/// A segment is closed early when somebody could send and the last one was closed this long ago.
///
/// A source slower than the network would otherwise get a signature for each block it trickles.
pub const SEGMENT_INTERVAL: Duration = Duration::from_millis(20);

/// Streams of one session at most.
pub const STREAMS: u32 = 4096;

/// Bytes of a stream's name at most.
pub const STREAM_NAME_BYTES: usize = 255;

/// Bytes of application metadata of a stream at most.
pub const STREAM_METADATA_BYTES: usize = 64 << 10;

// ---- the wire ----

/// Bytes of a session's name at most.
pub const SESSION_NAME_BYTES: usize = 64;

/// Bytes of a discovery datagram, question and answer alike: far below any link's packet size, and equal, so
/// that an answer never amplifies a question.
pub const DISCOVERY_BYTES: usize = 256;

/// Bytes of an encoded control message at most.
pub const CONTROL_BYTES: usize = 65_519;

/// Bytes of an encoded statement at most: a stream's metadata and name, with room for the fixed fields.
pub const STATEMENT_BYTES: usize = STREAM_METADATA_BYTES + 1024;

/// Bytes of an Ed25519 signature.
pub const SIGNATURE_BYTES: usize = 64;

/// Bytes of a sealed statement at most: signature and content.
pub const SEALED_STATEMENT_BYTES: usize = SIGNATURE_BYTES + STATEMENT_BYTES;

/// Bytes of free text (a reason, a host's label) in any message at most; but see [`NOTE_BYTES`].
pub const TEXT_BYTES: usize = 512;

/// Bytes of the text of one note at most: a line of a log.
pub const NOTE_BYTES: usize = 1024;

/// Bytes that a node's application says of itself when it joins, at most.
pub const ABOUT_BYTES: usize = 1024;

/// Bytes of the state of a node's application at most.
pub const STATE_BYTES: usize = 1024;

/// Notes of one node that the coordinator passes on within a second; the rest is dropped.
pub const NOTES_PER_SECOND: u32 = 100;

// ---- the session ----

/// Nodes of a session at most. More than any LAN's broadcast domain holds; bounds what a gate may wait for.
pub const NODES: u32 = 65_536;

/// Node numbers that a session gives out at most, also to nodes that left before the start: each stays known to the end.
pub const NUMBERS: u32 = 2 * NODES;

/// Nodes that join after the start from one address, and have taken nothing or have not ended well, at most; each may have the
/// others wait until it is done without.
pub const VAIN_JOINS: usize = 4;

/// The same from all addresses.
pub const VAIN_JOINS_ALL: usize = 64;

/// Children of a node at most.
pub const FAN_OUT: u32 = 64;

/// The smallest window, in bytes.
pub const WINDOW_BYTES_MIN: u64 = 1 << 20;
/// The window taken by default when memory is scarce, in bytes.
pub const WINDOW_BYTES_DEFAULT_MIN: u64 = 64 << 20;
/// The window taken by default when memory is plentiful, in bytes.
pub const WINDOW_BYTES_DEFAULT_MAX: u64 = 4 << 30;

/// The room a node gives its parent while its own consumers keep up, in bytes; the window opens from here.
///
/// Memory that is not touched costs nothing: a relay that keeps to a few mebibytes works in the processor's cache.
/// It must hold what [`LOSSES`] levels below have not confirmed yet, each about a block and a [`GRANT_STEP_BYTES`].
pub const CREDIT_BYTES: u64 = 4 << 20;

/// The bytes that a node holds beyond what any node is known to need: they cost little, and more than [`LOSSES`]
/// neighbours may be lost at once.
pub const HISTORY_BYTES: u64 = 2 << 20;

/// A consumer that has taken nothing for so long while half the room is full is stalled: the room doubles, so that
/// the stall does not reach the source. At 1 Gbit/s the other half of [`CREDIT_BYTES`] takes 19 ms to fill, and each node
/// above has as much again.
pub const STALL_AFTER: Duration = Duration::from_millis(40);

/// A consumer that moves but stays behind gets twice the room this often: it may be slow only for a while.
pub const CREDIT_INTERVAL: Duration = Duration::from_secs(1);

/// Adjacent nodes that may be lost at once without a byte being lost to those below them.
///
/// A node keeps what its descendants within this many levels and one more lack. Three covers what a storm of
/// single faults makes of a chain; each level more costs the chain a little more memory in use.
pub const LOSSES: usize = 3;

/// A node tells its parent how far it is at least this often, in bytes, so that the parent can forget.
///
/// Small enough that a relay without a stall keeps its buffers hot, large enough to cost nothing:
/// 80 bytes per 512 KiB.
pub const GRANT_STEP_BYTES: u64 = 512 << 10;

/// The delay after which a change that is not worth a grant of its own is sent, so that no window ever waits for it.
pub const GRANT_DELAY: Duration = Duration::from_millis(50);

/// A node tells the coordinator what it holds at least this often, in bytes: with what passes until the word is where it
/// is needed, those above hold no more than their [`HISTORY_BYTES`] for it.
pub const ACK_BYTES: u64 = 1 << 20;

/// … or as often as this for each node of the session, if that is more and their windows allow it: at 1 Gbit/s the
/// coordinator then gets no more than eight thousand words in a second, however many nodes there are.
pub const ACK_BYTES_PER_NODE: u64 = 16 << 10;

// ---- delays ----

/// The coordinator gets at most one word in so long about what is held, whoever tells and however fast the tape is: each
/// node waits for as many times this as there are nodes.
pub const ACK_INTERVAL_PER_NODE: Duration = Duration::from_micros(10);

/// … but no longer than this, half of a beat.
pub const ACK_INTERVAL_MAX: Duration = Duration::from_millis(80);

/// When nothing has come for so long, or for four times as long as usually passes between two blocks, what is held is
/// told, however little it is: a smaller window above may wait for it.
pub const ACK_DELAY: Duration = Duration::from_millis(20);

/// The interval between a node's progress reports to the coordinator: five of them before the node is suspected.
pub const PROGRESS_INTERVAL: Duration = Duration::from_millis(160);

/// The interval between signs of life, from the coordinator to a node, and from a parent to an idle child.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(250);

/// A node that the coordinator has not heard for so long is suspected: those below it get another parent. It is not
/// given up: when it is heard again it gets a place again.
pub const SUSPECT_AFTER: Duration = Duration::from_millis(800);

/// The interval at which the coordinator looks for silent nodes.
pub const SILENCE_CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// Before the start nobody depends on a node: it is counted until it has been silent for so long, which a disk that
/// stalls a whole machine for ten seconds is not.
pub const GATHERING_TIMEOUT: Duration = Duration::from_secs(11);

/// A data link that has been silent for so long is dialled again.
pub const LINK_TIMEOUT: Duration = Duration::from_millis(1000);

/// A control connection that has been silent for so long is dialled again.
pub const CONTROL_TIMEOUT: Duration = Duration::from_millis(1500);

/// The time for which a node goes on without the coordinator, or the coordinator without any node: longer than a switch
/// port takes to forward again after a cut (30 to 50 s with spanning tree).
pub const PARTITION_TIMEOUT: Duration = Duration::from_secs(90);

/// The time that a node whose connection broke has to come back before the session may end without it.
pub const RECONNECT_GRACE: Duration = Duration::from_secs(1);

/// The silence of a node after which the session may end without it: longer than a link that comes and goes.
pub const SILENCE_GRACE: Duration = Duration::from_millis(3500);

/// A timer that goes off so much too late tells that this machine stood still, not the others.
pub const OWN_STALL_AFTER: Duration = Duration::from_millis(200);

/// The time for which a repeatedly suspected node must be heard before it gets a place: doubled each time.
pub const RETURN_DELAY: Duration = Duration::from_millis(500);

/// … but never more than this.
pub const RETURN_DELAY_MAX: Duration = Duration::from_secs(30);

/// The pause before a data link is dialled again.
pub const REDIAL_DELAY: Duration = Duration::from_millis(500);

/// The timeout of one attempt to connect.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The delay between the attempts at one address of a host and at the next: a dead address costs no more than this.
pub const NEXT_ADDRESS_DELAY: Duration = Duration::from_millis(100);

/// The time for which a node whose connection to the server broke dials it at its old address before it also searches
/// elsewhere: less than a dial takes to fail, more than one takes to succeed.
pub const SEARCH_DELAY: Duration = Duration::from_millis(300);

/// The time that a peer has to identify itself once it has connected.
pub const PREFACE_TIMEOUT: Duration = Duration::from_secs(3);

/// The time for which a child that dialled may wait until a view names it.
pub const OFFER_TIMEOUT: Duration = Duration::from_secs(5);

/// The time for which a client looks for its session unless told otherwise.
pub const DISCOVER_TIMEOUT: Duration = Duration::from_secs(300);

/// The time for which a server asks whether another one serves its session's name.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// The time that a command which is told to stop has before it is killed.
pub const STOP_GRACE: Duration = Duration::from_secs(2);

// ---- slow nodes ----

/// A node's rate is measured over so long, and is too low when it has been so long.
pub const RATE_INTERVAL: Duration = Duration::from_secs(1);

/// A node that was as fast as others once is too slow when it has been so for so long.
pub const SLOW_AFTER: Duration = Duration::from_secs(3);

/// A node this far behind its parent, in bytes, though it has room, has a slow link.
pub const BEHIND_BYTES: u64 = 8 << 20;

/// A sink that has this much more than it has taken, in bytes, takes what it can.
pub const BACKLOG_BYTES: u64 = 1 << 20;

/// A sink that has taken nothing for so long is named.
pub const STUCK_AFTER: Duration = Duration::from_secs(5);

/// A node that is stuck or far too slow, and holds up the others for so long, is done without.
pub const BYPASS_AFTER: Duration = Duration::from_secs(30);

/// A node that nothing has reached for so long, though it is heard and its parent has something for it, fails: bytes that
/// arrive are progress, a link that comes up is not. After [`STUCK_AFTER`], half of this, the server feeds it itself.
pub const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Blocks that a slow link must have had the time for before a node counts as one that nothing reaches.
pub const ARRIVAL_BLOCKS: u64 = 4;

/// A node that has something to do takes at least this part of what it may be expected to get, over each
/// [`FINISH_TIMEOUT`]: so no node holds a session that long …
pub const CRAWL_FACTOR: u64 = 64;

/// … nor, where nobody is faster, by fewer bytes per second than these.
pub const CRAWL_BYTES_PER_S: u64 = 16 << 10;

/// The time that the sink of a node has to end once it was given everything: what a file's end makes last may be
/// gigabytes that wait in memory for a slow disk.
pub const FINISH_TIMEOUT: Duration = Duration::from_secs(600);

// ---- ports ----

/// Control TCP port of the original, and the first that a server tries.
pub const CONTROL_PORT: u16 = 30765;
/// Data TCP port of the original, and the first that a node tries.
pub const DATA_PORT: u16 = 30764;
/// UDP port on which servers hear questions, as in the original.
pub const DISCOVERY_PORT: u16 = 4957;
/// The last port of the range from which further data and control ports are taken: 512 in all, so that two
/// hundred nodes may share one host and a firewall rule still names one short range.
pub const PORT_RANGE_LAST: u16 = 31275;

/// Addresses of one host that are tried, at most.
pub const ADDRS: usize = 16;

// ---- what a stranger may cost ----

/// Connections that have not said who they are, at most, per listener.
pub const HALF_OPEN: usize = 256;

/// … of which so many are of one host, unless that is this one.
pub const HALF_OPEN_PER_HOST: usize = 32;

/// If there is no place, one of these connections goes for one that comes, once in so long at most. So each has as many
/// times this as there are places to say who it is, and a LAN's handshake takes a few milliseconds.
pub const EVICT_INTERVAL: Duration = Duration::from_millis(1);
