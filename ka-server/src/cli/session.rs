//! What a session that is served has to be told, whatever it serves: options that all programs here have.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command};
use ka_core::cli::args::{NetArgs, OutputArgs, number, session};
use ka_core::console::shell::quoted;
use ka_core::console::units;
use ka_core::limits;
use ka_core::proto::coordinator::Slow;
use ka_core::types::SessionName;
use ka_desc::error::Error;

use super::console::Outlets;
use super::keys::KeyArgs;
use crate::serve::Config;

/// More than an hour between two nodes that leave is a slip of the finger.
const DELAY_TENTHS_MAX: u64 = 36_000;

/// Which nodes, how they are fed, and what becomes of slow ones.
#[derive(Args, Clone, Debug)]
pub struct SessionArgs {
    /// The name by which nodes find this session; without one they need this host's address
    #[arg(short, long, value_name = "NAME", value_parser = session)]
    pub session: Option<SessionName>,

    /// Start when so many nodes are there
    #[arg(short, long, value_name = "NUM", value_parser = nodes, default_value = "1")]
    pub nodes: u32,

    /// How many nodes each node feeds: 1 makes a chain, the fastest where the switch is the limit
    #[arg(short, long, visible_alias = "fan-out", value_name = "NUM", value_parser = fan_out, default_value = "1")]
    pub arity: u32,

    /// Start with fewer nodes when so much time has passed, such as 10m
    #[arg(long, value_name = "TIME", value_parser = units::parse_duration)]
    pub start_after: Option<Duration>,

    /// With --start-after: at least so many nodes [default: 1]
    #[arg(long, value_name = "NUM", value_parser = nodes, requires = "start_after")]
    pub min_nodes: Option<u32>,

    /// Keep what the source gives in this directory, or in this new file, so that slow and late nodes are served after
    /// the others; it must have room for all of it. Not needed with --source FILE
    #[arg(long, value_name = "FILE|DIR")]
    pub spool: Option<PathBuf>,

    /// When a node holds up all others, and the source cannot be read again: wait for it, bypass it after 30 s, or drop it after 5 s
    #[arg(long, value_name = "POLICY", value_enum, default_value = "bypass")]
    pub slow: Policy,

    /// A slow node that takes at least so much per second is not bypassed [default: a quarter of what the others take]
    #[arg(long, value_name = "RATE", value_parser = units::parse_rate)]
    pub min_rate: Option<u64>,

    /// Let the nodes that wait (ka-d-client -w) go one by one, so many tenths of a second apart
    #[arg(short, long, value_name = "TENTHS", value_parser = delay, default_value = "0")]
    pub delay: u32,

    /// Send at most so much per second to each node fed directly, such as 50M (MiB) or 400mbit
    #[arg(long, value_name = "RATE", value_parser = units::parse_rate)]
    pub rate: Option<u64>,

    /// Hear commands on this Unix socket: `rate 20M`, `rate off`, `go`, `stop`, `status`
    #[arg(long, value_name = "PATH")]
    pub control_socket: Option<PathBuf>,

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

/// What to do about a node that holds up all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[expect(missing_docs, reason = "a doc comment would become help")]
pub enum Policy {
    Wait,
    Bypass,
    Drop,
}

impl SessionArgs {
    /// Holds what was said against itself.
    ///
    /// # Errors
    /// A sentence.
    pub fn check(&self) -> Result<(), Error> {
        match self.min_nodes {
            Some(least) if least > self.nodes => Err(format!(
                "--min-nodes {least} is more than --nodes {}: lower the one or raise the other",
                self.nodes
            )
            .into()),
            _ => self.key.check(),
        }
    }

    /// What session to serve.
    #[must_use]
    pub fn config(&self) -> Config {
        Config {
            session: self.session.clone(),
            nodes: self.nodes,
            fan_out: self.arity,
            start_after: self.start_after,
            min_nodes: self.min_nodes.unwrap_or(1),
            slow: match self.slow {
                Policy::Wait => Slow::Wait,
                Policy::Bypass => Slow::Bypass,
                Policy::Drop => Slow::Drop,
            },
            min_rate: self.min_rate,
            release_delay: Duration::from_millis(100) * self.delay,
            window_bytes: self.net.window,
            rate: self.rate,
            ports: self.net.ports(),
            keys: self.key.keys(),
            spool: self.spool.clone(),
            finish_timeout: None,
        }
    }

    /// Where the program tells of the session.
    #[must_use]
    pub fn outlets(&self) -> Outlets {
        Outlets { control_socket: self.control_socket.clone(), report: self.tell.report.clone() }
    }
}

/// An option as it was given, so that it can be given again.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    pub(crate) id: String,
    flag: String,
    values: Vec<OsString>,
}

impl Given {
    /// As a shell takes it.
    pub(crate) fn words(&self) -> impl Iterator<Item = String> {
        std::iter::once(self.flag.clone()).chain(self.values.iter().map(|value| quoted(value)))
    }
}

/// What was given, in the order of the help.
pub(crate) fn given(command: &Command, matches: &ArgMatches) -> Vec<Given> {
    let from_user = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
    let mut all = Vec::new();
    for arg in command.get_arguments().filter(|a| from_user(a.get_id().as_str())) {
        let id = arg.get_id().to_string();
        let short = arg.get_short().map(|c| format!("-{c}"));
        let Some(flag) = short.or_else(|| arg.get_long().map(|l| format!("--{l}"))) else { continue };
        let one = |values: Vec<OsString>| Given { id: id.clone(), flag: flag.clone(), values };
        if arg.get_action().takes_values() {
            let raw: Vec<OsString> = matches.get_raw(&id).into_iter().flatten().map(Into::into).collect();
            let each = arg.get_num_args().map_or(1, |range| range.max_values()).max(1);
            all.extend(raw.chunks(each).map(|values| one(values.into())));
        } else {
            all.push(one(Vec::new()));
        }
    }
    all
}

fn nodes(text: &str) -> Result<u32, String> {
    number(text, 1..=limits::NODES.into()).map_err(|range| format!("a session has {range} nodes"))
}

fn fan_out(text: &str) -> Result<u32, String> {
    number(text, 1..=limits::FAN_OUT.into()).map_err(|range| format!("a node feeds {range} others"))
}

fn delay(text: &str) -> Result<u32, String> {
    number(text, 0..=DELAY_TENTHS_MAX).map_err(|range| format!("a delay is {range} tenths of a second"))
}
