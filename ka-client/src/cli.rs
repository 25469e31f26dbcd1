//! The command line of `ka-d-client`: the options of 2001, and what came since.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{ArgAction, CommandFactory, Parser};

use crate::console::args::{Generate, wrong};
use crate::console::exit::Exit;
use crate::session::JoinArgs;

/// Where the default command unpacks.
const STAGE2: &str = "/tmp/stage2";

/// The sink of the original.
const DEFAULT_COMMAND: &str = "(cd /tmp/stage2; tar --extract --file -)";

/// Receives what a golden node streams, and passes it on to other nodes.
///
/// It finds the session's server (ka-d-server), waits until the session starts, and feeds the stream to a command
/// or a file. It succeeds only if every byte arrived, was checked, and was taken.
#[derive(Parser, Clone, Debug)]
#[command(
    name = "ka-d-client",
    version,
    disable_help_flag = true,
    disable_version_flag = true,
    override_usage = "ka-d-client <-s NAME | -h HOST> [OPTIONS]",
    after_help = Exit::table(),
)]
pub struct Options {
    /// Feed the stream to this command, run by sh [default: (cd /tmp/stage2; tar --extract --file -)]
    #[arg(short, long, value_name = "COMMAND")]
    pub exec: Option<String>,

    /// Write the stream to FILE (a new one appears when it is whole), or to standard output if it is `-`
    #[arg(long, value_name = "FILE", conflicts_with = "exec")]
    pub output: Option<PathBuf>,

    /// Stay until the whole session has ended and the server lets this node go
    #[arg(short, long)]
    pub wait: bool,

    /// Receive nothing: have the session start now, with the nodes that are there; on the server's own host its user needs no key
    #[arg(short, long, conflicts_with_all = ["exec", "output", "wait", "data_port", "port_range", "window", "report"])]
    pub go: bool,

    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become help")]
    pub join: JoinArgs,

    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,

    /// Print version
    #[arg(short = 'v', visible_short_alias = 'V', long, action = ArgAction::Version)]
    version: Option<bool>,

    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become help")]
    pub generate: Generate,
}

/// Where the stream goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// To a command's standard input.
    Command(String),
    /// To a file.
    File(PathBuf),
    /// To our standard output.
    Stdout,
}

impl Options {
    /// Reads a command line, the program's name first.
    ///
    /// # Errors
    /// What is wrong with it, ready to be printed; or the help that was asked for.
    pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let options = Self::try_parse_from(args)?;
        options.check()?;
        Ok(options)
    }

    /// For help, man page and completions.
    #[must_use]
    pub fn command() -> clap::Command {
        <Self as CommandFactory>::command()
    }

    fn check(&self) -> Result<(), clap::Error> {
        if self.join.tell.json && self.output() == Output::Stdout {
            return Err(wrong::<Self>(
                "--json and --output - both want standard output: give --output a file, or use --report instead of --json",
            ));
        }
        let receives = !self.go && !self.generate.is_asked();
        if receives && self.exec.is_none() && self.output.is_none() && !Path::new(STAGE2).is_dir() {
            return Err(wrong::<Self>(&format!(
                "without --exec and --output the stream is unpacked into {STAGE2}, and there is no such directory: \
                 make it, or say where the stream goes"
            )));
        }
        Ok(())
    }

    /// Where the stream goes.
    #[must_use]
    pub fn output(&self) -> Output {
        match &self.output {
            Some(path) if path.as_os_str() == "-" => Output::Stdout,
            Some(path) => Output::File(path.clone()),
            None => Output::Command(self.exec.clone().unwrap_or_else(|| DEFAULT_COMMAND.into())),
        }
    }
}
