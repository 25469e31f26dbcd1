//! What a node that joins has to be told, whatever it receives: options that all programs here have.

use std::net::{IpAddr, ToSocketAddrs};
use std::time::Duration;

use clap::Args;
use ka_core::key::Key;
use ka_core::net::{ClientConfig, Threads};
use ka_core::types::SessionName;

use crate::console::args::{NetArgs, TellArgs, session};
use crate::console::key::KeyArgs;
use crate::console::units;

/// Which session, how to find it and get in.
#[derive(Args, Clone, Debug)]
pub struct JoinArgs {
    /// The session to join, found by asking the network
    #[arg(short, long, value_name = "NAME", value_parser = session)]
    #[arg(required_unless_present_any = ["host", "man", "completions"])]
    pub session: Option<SessionName>,

    /// The server's address or name, instead of asking the network
    #[arg(short = 'h', long, value_name = "HOST", value_parser = host)]
    pub host: Option<IpAddr>,

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
    pub tell: TellArgs,
}

impl JoinArgs {
    /// What is joined, in words.
    #[must_use]
    pub fn title(&self) -> String {
        match (&self.session, self.host) {
            (Some(name), Some(host)) => format!("session `{name}` at {host}"),
            (Some(name), None) => format!("session `{name}`"),
            (None, Some(host)) => format!("the session at {host}"),
            (None, None) => "a session".into(),
        }
    }

    /// What to join with this key, for a host that calls itself `label`; and whether to `wait` until it is let go.
    #[must_use]
    pub fn config(&self, key: Key, label: String, wait: bool) -> ClientConfig {
        ClientConfig {
            session: self.session.clone(),
            server: self.host,
            key: Some(key),
            wait,
            window_bytes: self.net.window,
            discover_timeout: Some(self.discover_timeout),
            label,
            done: Vec::new(),
            ports: self.net.ports(),
            threads: Threads::default(),
        }
    }
}

/// An address, or the first that a name stands for; IPv4 before IPv6.
fn host(text: &str) -> Result<IpAddr, String> {
    if let Ok(ip) = text.parse() {
        return Ok(ip);
    }
    let found = (text, 0).to_socket_addrs().map_err(|e| no_such_host(text, &e.to_string()))?;
    let mut ips: Vec<_> = found.map(|addr| addr.ip()).collect();
    ips.sort_by_key(IpAddr::is_ipv6);
    ips.first().copied().ok_or_else(|| no_such_host(text, "no address"))
}

fn no_such_host(name: &str, why: &str) -> String {
    format!("the name {name} cannot be resolved ({why}); give the server's IP address, or --session")
}
