//! The command line of `ka-d-server`: the options of 2001, and what came since.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, CommandFactory, FromArgMatches, Parser};
use ka_client::console::args::{Generate, NetArgs, TellArgs, number, session, wrong};
use ka_client::console::exit::Exit;
use ka_client::console::units;
use ka_core::limits;
use ka_core::net::{ServerConfig, Threads};
use ka_core::proto::coordinator::Slow;
use ka_core::types::SessionName;

use crate::PROGRAM;
use crate::keys::KeyArgs;

/// The source of the original.
const DEFAULT_COMMAND: &str = "(cd /; tar --create --one-file-system --sparse /)";

/// More than an hour between two nodes that leave is a slip of the finger.
const DELAY_TENTHS_MAX: u64 = 36_000;

/// Streams a command's output or a file from this golden node to many nodes.
///
/// It waits until the nodes (ka-d-client) are there, sends each byte once, and lets the nodes pass it on. It
/// succeeds only if every node says that every byte arrived, was checked, and was taken.
#[derive(Parser, Clone, Debug)]
#[command(
    name = "ka-d-server",
    version,
    disable_help_flag = true,
    disable_version_flag = true,
    after_help = Exit::table(),
)]
pub struct Options {
    /// The name by which nodes find this session; without one they need this host's address
    #[arg(short, long, value_name = "NAME", value_parser = session)]
    pub session: Option<SessionName>,

    /// Start when so many nodes are there
    #[arg(short, long, value_name = "NUM", value_parser = nodes, default_value = "1")]
    pub nodes: u32,

    /// Send what this command prints, run by sh [default: (cd /; tar --create --one-file-system --sparse /)]
    #[arg(short, long, value_name = "COMMAND")]
    pub exec: Option<String>,

    /// Send a file or a device, or standard input if it is `-`
    #[arg(long, value_name = "FILE", conflicts_with = "exec")]
    pub source: Option<PathBuf>,

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

    /// A slow node that takes at least so much per second is not bypassed [default: a quarter of the fastest one's]
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

    /// Accepted for old scripts, and always on: the server stays until the last node has ended
    #[arg(short = 'l', long)]
    pub wait_last_client: bool,

    /// Print help
    #[arg(short = 'h', long, action = ArgAction::Help)]
    help: Option<bool>,

    /// Print version
    #[arg(short = 'v', visible_short_alias = 'V', long, action = ArgAction::Version)]
    version: Option<bool>,

    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become help")]
    pub key: KeyArgs,

    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become help")]
    pub net: NetArgs,

    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become help")]
    pub tell: TellArgs,

    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become help")]
    pub generate: Generate,

    #[arg(skip)]
    given: Vec<Given>,
}

/// What to do about a node that holds up all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[expect(missing_docs, reason = "a doc comment would become help")]
pub enum Policy {
    Wait,
    Bypass,
    Drop,
}

/// An option as it was given, so that it can be given again.
#[derive(Clone, Debug)]
struct Given {
    id: String,
    flag: String,
    value: Option<OsString>,
}

/// Where the stream comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// From a command's standard output.
    Command(String),
    /// From a file or a device.
    File(PathBuf),
    /// From our standard input.
    Stdin,
}

impl Options {
    /// Reads a command line, the program's name first.
    ///
    /// # Errors
    /// What is wrong with it, ready to be printed; or the help that was asked for.
    pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let matches = Self::command().try_get_matches_from(args)?;
        let mut options = Self::from_arg_matches(&matches)?;
        options.given = given(&matches);
        options.check()?;
        Ok(options)
    }

    /// For help, man page and completions.
    #[must_use]
    pub fn command() -> clap::Command {
        <Self as CommandFactory>::command()
    }

    fn check(&self) -> Result<(), clap::Error> {
        match self.min_nodes {
            Some(least) if least > self.nodes => Err(wrong::<Self>(&format!(
                "--min-nodes {least} is more than --nodes {}: lower the one or raise the other",
                self.nodes
            ))),
            _ => Ok(()),
        }
    }

    /// Where the stream comes from.
    #[must_use]
    pub fn source(&self) -> Source {
        match &self.source {
            Some(path) if path.as_os_str() == "-" => Source::Stdin,
            Some(path) => Source::File(path.clone()),
            None => Source::Command(self.exec.clone().unwrap_or_else(|| DEFAULT_COMMAND.into())),
        }
    }

    /// Whether it is the default: the whole file system of `/`.
    #[must_use]
    pub fn sends_everything(&self) -> bool {
        self.exec.is_none() && self.source.is_none()
    }

    /// What session to serve.
    #[must_use]
    pub fn config(&self) -> ServerConfig {
        ServerConfig {
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
            spool: None,
            ports: self.net.ports(),
            key: None,
            encrypt: self.key.encrypts(),
            threads: Threads::default(),
            admit: None,
        }
    }

    /// The same command line, for so many nodes; from the spool, if that is a file with everything in it.
    #[must_use]
    pub fn again(&self, nodes: u32) -> String {
        let mut words = vec![PROGRAM.to_owned(), "-n".into(), nodes.to_string()];
        let spooled = self.spool.as_deref().filter(|path| path.is_file());
        if let Some(path) = spooled {
            words.extend(["--source".into(), quoted(path.as_os_str())]);
        }
        let fits = |g: &&Given| match g.id.as_str() {
            "nodes" => false,
            "min_nodes" => self.min_nodes <= Some(nodes),
            "exec" | "source" | "spool" => spooled.is_none(),
            _ => true,
        };
        for given in self.given.iter().filter(fits) {
            words.push(given.flag.clone());
            words.extend(given.value.as_deref().map(quoted));
        }
        words.join(" ")
    }
}

/// What was given, in the order of the help.
fn given(matches: &ArgMatches) -> Vec<Given> {
    let command = Options::command();
    let from_user = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
    let mut all = Vec::new();
    for arg in command.get_arguments().filter(|a| from_user(a.get_id().as_str())) {
        let id = arg.get_id().to_string();
        let short = arg.get_short().map(|c| format!("-{c}"));
        let Some(flag) = short.or_else(|| arg.get_long().map(|l| format!("--{l}"))) else { continue };
        let value = |value: Option<OsString>| Given { id: id.clone(), flag: flag.clone(), value };
        if arg.get_action().takes_values() {
            all.extend(matches.get_raw(&id).into_iter().flatten().map(|raw| value(Some(raw.into()))));
        } else {
            all.push(value(None));
        }
    }
    all
}

/// A word as a shell takes it.
fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else if word.chars().any(char::is_control) {
        let escaped: String =
            word.chars().map(|c| if c == '\'' { r"\'".into() } else { escaped(c) }).collect();
        format!("$'{escaped}'")
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn escaped(c: char) -> String {
    match c {
        '\\' => r"\\".into(),
        c if c.is_control() => format!(r"\u{:04x}", u32::from(c)),
        c => c.into(),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_through_a_shell() {
        for (word, text) in [
            ("abc-1.2", "abc-1.2"),
            ("", "''"),
            ("(cd /dir && tar c *)", "'(cd /dir && tar c *)'"),
            ("it's", r"'it'\''s'"),
            ("a\nb'\\", r"$'a\u000ab\'\\'"),
        ] {
            assert_eq!(quoted(OsStr::new(word)), text);
        }
    }
}
