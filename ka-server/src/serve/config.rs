//! The settings of a session that is served, whatever it serves.

use std::path::PathBuf;
use std::time::Duration;

use ka_core::net::{Ports, ServerConfig, ServerEvent};
use ka_core::proto::coordinator::Slow;
use ka_core::types::{NodeId, SessionName};

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
    /// A Unix socket that hears commands.
    pub control_socket: Option<PathBuf>,
    /// The file to which the outcome is written, as JSON.
    pub report: Option<PathBuf>,
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
            control_socket: None,
            report: None,
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
            ..ServerConfig::default()
        }
    }
}

/// A session that is served, as views and reports need it.
pub trait Serving: Send + Sync {
    /// Returns the settings of the session.
    fn session(&self) -> &Config;

    /// Returns the kind of its source, in one word, and which source it is.
    fn source(&self) -> (&'static str, Option<String>);

    /// Returns how a node joins with these words, as a sentence.
    fn invite(&self, words: &Words) -> String;

    /// Whether the source is standard input.
    fn reads_stdin(&self) -> bool {
        false
    }

    /// The command that serves it again, for so many nodes.
    fn again(&self, nodes: u32) -> String;

    /// Something happened. Must not block.
    fn hear(&self, _: &ServerEvent) {}

    /// Returns how long a node that has everything may work on it; `None`: as long as any slow one.
    fn finish(&self) -> Option<Duration> {
        None
    }

    /// Returns further lines for the end of the report, before the command that tries again.
    fn epilogue(&self) -> Vec<String> {
        Vec::new()
    }

    /// Returns further lines on a node for the end of the report: its last stage, what it did.
    fn remarks(&self, _: NodeId) -> Vec<String> {
        Vec::new()
    }
}

/// The words with which a node joins a session.
#[derive(Debug)]
pub struct Words {
    /// Options of a client.
    pub options: String,
    /// Words of a rescue system's kernel.
    pub kernel: String,
}
