//! The command line of `ka-d-server`: the options of 2001, and what came since.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, CommandFactory, FromArgMatches, Parser};
use ka_core::cli::args::wrong;
use ka_core::console::exit::Exit;
use ka_core::console::shell::quoted;
use ka_core::stream::ours;
use ka_desc::cli::pages::{Generate, Page, Rows};

use super::console::{Outlets, Serving, Words};
use super::session::{Given, SessionArgs, given};
use crate::serve::Config;

/// The program's name.
pub const PROGRAM: &str = "ka-d-server";

/// The source of the original, without what a machine keeps for itself.
const DEFAULT_COMMAND: &str =
    "(cd /; tar --create --one-file-system --sparse --anchored --exclude=/etc/ka /)";

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
    after_help = page().help(),
)]
pub struct Options {
    /// Send what this command prints, run by sh [default: (cd /; tar --create --one-file-system
    /// --sparse --anchored --exclude=/etc/ka /)]
    #[arg(short, long, value_name = "COMMAND")]
    pub exec: Option<String>,

    /// Send a file or a device, or standard input if it is `-`
    #[arg(long, value_name = "FILE", conflicts_with = "exec")]
    pub source: Option<PathBuf>,

    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become help")]
    pub session: SessionArgs,

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
    pub generate: Generate,

    #[arg(skip)]
    given: Vec<Given>,
}

/// The words of help and manual page besides the options.
#[must_use]
pub fn page() -> Page {
    Page {
        examples: &[
            (
                "ka-d-server -s lab3 -n 2 -e '(cd /srv/golden && tar c .)'",
                "sends a tree to two nodes, and prints their key",
            ),
            (
                "ka-d-server -s lab3 -n 30 --source disk.img --start-after 10m --min-nodes 20",
                "sends an image; after ten minutes, twenty nodes are enough",
            ),
            (
                "ka-d-server -s lab3 -n 30 -e 'zstd -c disk.img' --spool /var/tmp",
                "keeps what the command prints, so that slow and late nodes are served after the others",
            ),
            ("ka-d-server --identity id --make-key key", "makes, once, a key that nodes have beforehand"),
            (
                "ka-d-server -s lab3 -n 30 --source disk.img --identity id --key-file key",
                "serves those that have it",
            ),
        ],
        exits: Exit::rows(),
        environment: ENVIRONMENT,
        files: &[],
        see_also: &["ka-d-client(1)", "ka-d(1)", "docs/json.md"],
    }
}

/// Where a server's keys may come from.
pub(crate) const ENVIRONMENT: Rows = &[
    ("KA_IDENTITY", "the file with the server's identity, as --identity"),
    ("KA_KEY_FILE", "the file with the nodes' key, as --key-file"),
    ("KA_INSECURE", "1 does without a key, as --insecure"),
];

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
        options.given = given(&Self::command(), &matches);
        options.session.check().map_err(|why| wrong::<Self>(&why.to_string()))?;
        Ok(options)
    }

    /// For help, man page and completions.
    #[must_use]
    pub fn command() -> clap::Command {
        <Self as CommandFactory>::command()
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
}

/// A stream as it is served.
#[derive(Clone, Debug)]
pub struct Served {
    options: Options,
    config: Config,
}

impl From<Options> for Served {
    fn from(options: Options) -> Self {
        Self { config: options.session.config(), options }
    }
}

impl Serving for Served {
    fn session(&self) -> &Config {
        &self.config
    }

    fn outlets(&self) -> Outlets {
        self.options.session.outlets()
    }

    fn source(&self) -> (&'static str, Option<String>) {
        match self.options.source() {
            Source::Command(command) => ("command", Some(command)),
            Source::File(path) => ("file", Some(path.display().to_string())),
            Source::Stdin => ("stdin", None),
        }
    }

    fn invite(&self, words: &Words) -> String {
        let sink =
            if matches!(self.options.source(), Source::File(_)) { "--output FILE" } else { "-e COMMAND" };
        format!("on each node: ka-d-client {} {sink}", words.options)
    }

    fn reads_stdin(&self) -> bool {
        self.options.source() == Source::Stdin
    }

    /// From the spool, if that is a file with everything in it, and not another user's of that name.
    fn again(&self, nodes: u32) -> String {
        let mut words = vec![PROGRAM.to_owned(), "-n".into(), nodes.to_string()];
        let spooled = self.options.session.spool.as_deref().filter(|path| ours::is_own_file(path));
        if let Some(path) = spooled {
            words.extend(["--source".into(), quoted(path.as_os_str())]);
        }
        let fits = |g: &&Given| match g.id.as_str() {
            "nodes" => false,
            "min_nodes" => self.options.session.min_nodes <= Some(nodes),
            "exec" | "source" | "spool" => spooled.is_none(),
            _ => true,
        };
        for given in self.options.given.iter().filter(fits) {
            words.extend(given.words());
        }
        words.join(" ")
    }
}
