//! Finding a session's server by name and key, over UDP: who asks (`ask`, by a `search`), and who answers (`answer`).
//!
//! ```text
//!  ask ── limited and directed broadcast, multicast, from every wired interface ──▶ Responder
//!      ◀── unicast: session id, control port, and who says so ──────────────────────┘
//!  ask ── unicast to a host ──▶ one Responder of several ── 127.255.255.255 ──▶ all others there
//!      ◀── unicast ──────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Who does not hold the session's key learns only that a server is here; who holds it, but not the server's own
//! secret, cannot answer for the server. (With [`Key::insecure`](crate::crypto::session_key::Key::insecure), which everybody holds,
//! everybody can.) Two servers of one name hear of each other only if they have one key.
//!
//! There is no handshake: a question may be sent many times and answered by several servers, so neither side keeps a state.
//! A server asks for rivals of its own name while its session gathers, so that the probe delays no start; of two servers
//! that ask at the same time, the one with the greater session identity yields.
//!
//! A question goes out over IPv4 and IPv6 alike, and a server that answers to both is one. It is listed by the address that
//! reaches farthest: this host's own, else one that is good beyond the link, IPv4 before IPv6, else a link-local one.
//!
//! Absent: proof that a server is where its answer came from (who hears a question can carry it and its answer to and
//! fro; the control connection finds that out), and names of hosts. A question to one IPv6 host
//! reaches one of the servers there, another one at the next attempt; it is not passed on, because a question has room
//! for an IPv4 asker only.
//!
//! ## What Linux does
//! Found by experiment on 6.18, in network namespaces with and without routes:
//! - Of several sockets bound to `0.0.0.0:port` with SO_REUSEPORT a unicast reaches one, chosen by a hash of
//!   both ends; broadcasts of every kind and multicast reach all. Hence the passing on.
//! - What is sent to 127.255.255.255 from the wildcard socket comes from 127.0.0.1, and reaches the sender, too.
//!   While `lo` is down it reaches nobody.
//! - Without a default route, 255.255.255.255 and multicast are unreachable from an unbound socket, and
//!   IP_MULTICAST_IF helps the latter only. From a socket bound to an interface's address all leave by that
//!   interface.
//! - A broadcast is heard by the host that sends it as well, so that a server on the asker's own host is found
//!   from any interface. Its answer needs `lo` to be up, whatever address it goes to.
//! - An answer from the wildcard socket takes the route to the asker, and the address of the interface it leaves
//!   by. No default route is needed: whoever is heard on a link is on that link. A server with two links into
//!   the same subnet answers by the first of them, and so would its TCP.
//! - An IPv6 multicast reaches all sockets of a port, and those of the host that sends it: nothing need be passed on. It
//!   needs no route, but a link-local address that is ready (a second or two after the link is); `lo` has none.
//! - `SO_BINDTODEVICE` would keep out who comes by another interface, but the host's own programs, too, which
//!   come by `lo`; and it is by number, so that a card that was plugged again is another one.

mod answer;
mod ask;
mod fair;
mod found;
mod search;
mod socket;

pub use answer::{Responder, Unanswered};
pub(super) use ask::follow;
pub use ask::{ask, rival};
pub(super) use found::other_name;
pub use found::{AskError, Found, Other, Target, UnknownKey};
pub use socket::{GROUP, GROUP_V6};
