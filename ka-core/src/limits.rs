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
pub const SEGMENT_PACE: Duration = Duration::from_millis(20);

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
pub const CONTROL_BYTES: usize = 64 << 10;

/// Bytes of an encoded statement at most: a stream's metadata and name, with room for the fixed fields.
pub const STATEMENT_BYTES: usize = STREAM_METADATA_BYTES + 1024;

/// Bytes of free text (a reason, a host's label) in any message at most.
pub const TEXT_BYTES: usize = 512;

// ---- the session ----

/// Nodes of a session at most. More than any LAN's broadcast domain holds; bounds what a gate may wait for.
pub const NODES: u32 = 65_536;

/// Children of a node at most.
pub const FAN_OUT: u32 = 64;

/// The smallest window, in bytes.
pub const WINDOW_BYTES_MIN: u64 = 1 << 20;
/// The window taken by default when memory is scarce, in bytes.
pub const WINDOW_BYTES_DEFAULT_MIN: u64 = 64 << 20;
/// The window taken by default when memory is plentiful, in bytes.
pub const WINDOW_BYTES_DEFAULT_MAX: u64 = 4 << 30;

/// A node tells its parent how far it is at least this often, in bytes, so that the parent can forget.
///
/// Small enough that a relay without a stall keeps its buffers hot, large enough to cost nothing:
/// 24 bytes per 512 KiB.
pub const GRANT_STEP_BYTES: u64 = 512 << 10;

// ---- delays ----

/// How often a node tells the coordinator how far it is, and the coordinator tells a node that it lives.
pub const BEAT: Duration = Duration::from_millis(500);

/// How long a control connection may be silent before its other end is taken for lost.
///
/// Twenty beats: a disk that stalls a whole machine for ten seconds is no death.
pub const SILENCE: Duration = Duration::from_secs(10);

/// How long the parent's end of a data link may take to come up, redials included, before the node gives up.
pub const LINK_UP: Duration = Duration::from_secs(10);

/// The pause before a data link is dialled again.
pub const REDIAL: Duration = Duration::from_millis(500);

/// How long one attempt to connect may take.
pub const CONNECT: Duration = Duration::from_secs(1);

/// How long a peer may take to say who it is once it has connected.
pub const PREFACE: Duration = Duration::from_secs(3);

/// How long a child that dialled may wait until a view names it.
pub const OFFER: Duration = Duration::from_secs(5);

/// How long a client looks for its session unless told otherwise.
pub const DISCOVER: Duration = Duration::from_secs(300);

/// How long a server asks whether another one serves its session's name.
pub const PROBE: Duration = Duration::from_secs(1);

/// How long a command that is told to stop may take before it is killed.
pub const STOP_GRACE: Duration = Duration::from_secs(2);

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

// ---- what a stranger may cost ----

/// Connections that have not said who they are, at most, per listener.
pub const HALF_OPEN: usize = 256;
