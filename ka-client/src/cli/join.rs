//! What a node that joins has to be told, whatever it receives: options that all programs here have.

use std::time::Duration;

use clap::Args;
use ka_core::cli::args::{NetArgs, OutputArgs, session};
use ka_core::cli::key::KeyArgs;
use ka_core::console::units;
use ka_core::crypto::session_key::Key;
use ka_core::net::{ClientConfig, Host, Threads};
use ka_core::types::{Invalid, SessionName};

use super::console::Config;

/// Which session, how to find it and get in.
#[derive(Args, Clone, Debug)]
pub struct JoinArgs {
    /// The session to join, found by asking the network
    #[arg(short, long, value_name = "NAME", value_parser = session)]
    #[arg(required_unless_present_any = ["host", "man", "completions"])]
    pub session: Option<SessionName>,

    /// The server's address (`fe80::1%eth0` with its interface) or name, instead of asking the network
    #[arg(short = 'h', long, value_name = "HOST")]
    pub host: Option<Host>,

    /// How long to look for the server, such as 30s or 5m
    #[arg(long, value_name = "TIME", value_parser = units::parse_duration, default_value = "5m")]
    pub discover_timeout: Duration,

    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become help")]
    pub key: KeyArgs,

    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become help")]
    pub net: NetArgs,

    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become help")]
    pub tell: OutputArgs,
}

impl JoinArgs {
    /// What is joined, in words.
    #[must_use]
    pub fn title(&self) -> String {
        match (&self.session, &self.host) {
            (Some(name), Some(host)) => format!("session `{name}` at {host}"),
            (Some(name), None) => format!("session `{name}`"),
            (None, Some(host)) => format!("the session at {host}"),
            (None, None) => "a session".into(),
        }
    }

    /// What to receive, for a host that calls itself `label`; and whether to `wait` until it is let go.
    ///
    /// # Errors
    /// There is no key, or there are several; in words.
    pub fn config(&self, label: String, wait: bool) -> Result<Config, Invalid> {
        let client = self.client(self.key.key()?, label, wait);
        Ok(Config { client, title: self.title(), report: self.tell.report.clone() })
    }

    /// The session to join with this key.
    #[must_use]
    pub fn client(&self, key: Key, label: String, wait: bool) -> ClientConfig {
        ClientConfig {
            session: self.session.clone(),
            server: self.host.clone(),
            key: Some(key),
            wait,
            window_bytes: self.net.window,
            discover_timeout: Some(self.discover_timeout),
            label,
            about: Vec::new(),
            done: Vec::new(),
            ports: self.net.ports(),
            threads: Threads::default(),
        }
    }
}
