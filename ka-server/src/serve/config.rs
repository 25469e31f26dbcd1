//! What a session that is served has to be told, whatever it serves.

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
    /// How many nodes each node feeds.
    pub fan_out: u32,
    /// The session starts with fewer nodes when so much time has passed …
    pub start_after: Option<Duration>,
    /// … and at least so many are there.
    pub min_nodes: u32,
    /// What to do about a node that holds up all others.
    pub slow: Slow,
    /// Bytes per second that are never too slow; `None`: a quarter of what the fastest node gets.
    pub min_rate: Option<u64>,
    /// The pause between two nodes that are let go after having waited.
    pub release_delay: Duration,
    /// Bytes in flight to hold in memory; `None`: by the memory there is.
    pub window_bytes: Option<u64>,
    /// Bytes per second to send at most to each child of the server.
    pub rate: Option<u64>,
    /// Where to listen and ask.
    pub ports: Ports,
    /// What lets nodes in.
    pub keys: Keys,
    /// A directory or a new file that keeps what the source gives.
    pub spool: Option<PathBuf>,
    /// A Unix socket that hears commands.
    pub control_socket: Option<PathBuf>,
    /// Where to write how it ended, as JSON.
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

/// What is served, as views and reports have to say it.
pub trait Serving: Send + Sync {
    /// What the session was told.
    fn session(&self) -> &Config;

    /// What kind of source it has, in one word, and which one.
    fn source(&self) -> (&'static str, Option<String>);

    /// How a node joins with these words, as a sentence.
    fn invite(&self, words: &Words) -> String;

    /// Whether the source is standard input.
    fn reads_stdin(&self) -> bool {
        false
    }

    /// The command that serves it again, for so many nodes.
    fn again(&self, nodes: u32) -> String;

    /// Something happened. Must not block.
    fn hear(&self, _: &ServerEvent) {}

    /// How long a node that has everything may be at work on it; `None`: as long as any slow one.
    fn finish(&self) -> Option<Duration> {
        None
    }

    /// What else there is to say at the end, before the command that tries again.
    fn epilogue(&self) -> Vec<String> {
        Vec::new()
    }

    /// What else there is to say of a node at the end: where it stood, what it did.
    fn remarks(&self, _: NodeId) -> Vec<String> {
        Vec::new()
    }
}

/// What joins a session.
#[derive(Debug)]
pub struct Words {
    /// Options of a client.
    pub options: String,
    /// Words of a rescue system's kernel.
    pub kernel: String,
}
