//! The settings of a session that is served, whatever it serves.

use std::path::PathBuf;
use std::time::Duration;

use ka_core::net::{Ports, ServerConfig};
use ka_core::proto::coordinator::Slow;
use ka_core::types::SessionName;

use crate::keys::Keys;

/// Which nodes, how they are fed, and what becomes of slow ones.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name by which nodes find the session; without one they need this host's address.
    pub session: Option<SessionName>,
    /// The session starts when so many nodes are there.
    pub nodes: u32,
    /// The number of nodes that each node feeds.
    pub fan_out: u32,
    /// The session starts with fewer nodes when so much time has passed …
    pub start_after: Option<Duration>,
    /// … and at least so many are there.
    pub min_nodes: u32,
    /// The treatment of a node that holds up all others.
    pub slow: Slow,
    /// Bytes per second that are never too slow; `None`: a quarter of what the fastest node gets.
    pub min_rate: Option<u64>,
    /// The pause between two nodes that are let go after having waited.
    pub release_delay: Duration,
    /// Bytes in flight to hold in memory; `None`: by the memory there is.
    pub window_bytes: Option<u64>,
    /// Bytes per second to send at most to each child of the server.
    pub rate: Option<u64>,
    /// The ports and interfaces on which to listen and ask.
    pub ports: Ports,
    /// The settings by which nodes are let in.
    pub keys: Keys,
    /// A directory or a new file that keeps what the source gives.
    pub spool: Option<PathBuf>,
    /// The time for which a node that has everything may work on it; `None`: as long as any slow one.
    pub finish_timeout: Option<Duration>,
}

impl Default for Config {
    fn default() -> Self {
        let ServerConfig {
            session,
            nodes,
            fan_out,
            start_after,
            min_nodes,
            slow,
            min_rate,
            release_delay,
            ..
        } = ServerConfig::default();
        Self {
            session,
            nodes,
            fan_out,
            start_after,
            min_nodes,
            slow,
            min_rate,
            release_delay,
            window_bytes: None,
            rate: None,
            ports: Ports::default(),
            keys: Keys::default(),
            spool: None,
            finish_timeout: None,
        }
    }
}

impl Config {
    /// The session's name, for people.
    #[must_use]
    pub fn title(&self) -> String {
        self.session.as_ref().map_or("the session".into(), |name| format!("session `{name}`"))
    }

    /// The same for the library; without what is opened or made for it: key, spool and threads.
    #[must_use]
    pub fn server(&self) -> ServerConfig {
        ServerConfig {
            session: self.session.clone(),
            nodes: self.nodes,
            fan_out: self.fan_out,
            start_after: self.start_after,
            min_nodes: self.min_nodes,
            slow: self.slow,
            min_rate: self.min_rate,
            release_delay: self.release_delay,
            window_bytes: self.window_bytes,
            rate: self.rate,
            ports: self.ports.clone(),
            encrypt: self.keys.encrypts(),
            finish: self.finish_timeout,
            ..ServerConfig::default()
        }
    }
}
