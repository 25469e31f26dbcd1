//! The command line of `ka-d-client`: the options of 2001, and what came since.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use clap::{ArgAction, CommandFactory, Parser};
use ka_core::cli::args::wrong;
use ka_core::console::exit::Exit;
use ka_core::stream::{StdoutSink, ours};
use ka_desc::cli::pages::{Generate, Page, Rows};

use super::join::JoinArgs;

/// Where the default command unpacks.
const STAGE2: &str = "/tmp/stage2";

/// The sink of the original.
const DEFAULT_COMMAND: &str = "(cd /tmp/stage2 && tar --extract --file -)";

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
    after_help = page().help(),
)]
pub struct Options {
    /// Feed the stream to this command, run by sh [default: (cd /tmp/stage2 && tar --extract --file -)]
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

/// The words of help and manual page besides the options.
#[must_use]
pub fn page() -> Page {
    Page {
        examples: &[
            (
                "ka-d-client -s lab3 --key-file key -e '(cd /mnt && tar xpf -)'",
                "unpacks what comes below /mnt",
            ),
            ("ka-d-client -s lab3 --key-file key --output /dev/sda1", "writes it to a partition"),
            (
                "ka-d-client -h 10.0.0.1 --key-file key --output disk.img --report report.json",
                "asks this server instead of the network, and leaves a report",
            ),
            (
                "ka-d-client -g -s lab3 --key-file key",
                "has the session start now, with the nodes that are there",
            ),
        ],
        exits: Exit::rows(),
        environment: ENVIRONMENT,
        files: FILES,
        see_also: &["ka-d-server(1)", "ka-d-install(1)", "docs/json.md"],
    }
}

/// Where any node's key may come from.
pub(crate) const ENVIRONMENT: Rows = &[
    ("KA_KEY", "the key, as --key"),
    ("KA_KEY_FILE", "the file with the key, as --key-file"),
    ("KA_INSECURE", "1 does without a key, as --insecure"),
];

/// Where else it may come from.
pub(crate) const FILES: Rows = &[("/proc/cmdline", "the kernel's command line, with the key in ka.key=")];

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
        let report = self.join.tell.report.as_deref().is_some_and(StdoutSink::is_named);
        let wanted = [self.join.tell.json, report, self.output() == Output::Stdout];
        if wanted.into_iter().filter(|wants| *wants).count() > 1 {
            return Err(wrong::<Self>(
                "only one of --json, --report /dev/stdout and --output - can have standard output: give the others a file",
            ));
        }
        let receives = !self.go && !self.generate.is_asked();
        if receives && self.exec.is_none() && self.output.is_none() {
            check_stage2(Path::new(STAGE2)).map_err(|why| wrong::<Self>(&why))?;
        }
        Ok(())
    }

    /// Where the stream goes.
    #[must_use]
    pub fn output(&self) -> Output {
        match &self.output {
            Some(path) if path.as_os_str() == "-" || StdoutSink::is_named(path) => Output::Stdout,
            Some(path) => Output::File(path.clone()),
            None => Output::Command(self.exec.clone().unwrap_or_else(|| DEFAULT_COMMAND.into())),
        }
    }
}

/// Whether it is a directory into which nobody else has put links: it lies where everybody may make one of that name.
fn check_stage2(path: &Path) -> Result<(), String> {
    let into = format!("without --exec and --output the stream is unpacked into {}", path.display());
    match ours::check_directory(path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            Err(format!("{into}, and there is no such directory: make it, or say where the stream goes"))
        }
        Err(e) => Err(format!("{into}: {e}; or say where the stream goes")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, DirBuilder};
    use std::os::unix::fs::{DirBuilderExt, symlink};

    use super::*;

    #[test]
    fn the_default_command_unpacks_where_nobody_else_can_put_links() {
        let dir = tempfile::tempdir().unwrap();
        let (stage, theirs) = (dir.path().join("stage2"), dir.path().join("theirs"));
        let says = |text: &str| {
            let why = check_stage2(&stage).unwrap_err();
            assert!(why.contains(text) && why.ends_with("or say where the stream goes"), "{why}");
        };
        says("there is no such directory: make it");
        DirBuilder::new().mode(0o755).create(&theirs).unwrap();
        symlink(&theirs, &stage).unwrap();
        says("it is a link or a file: remove it");
        fs::remove_file(&stage).unwrap();
        DirBuilder::new().mode(0o755).create(&stage).unwrap();
        check_stage2(&stage).unwrap();
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&stage, Some(1 << 30), None).unwrap();
            says("other users may write there");
        }
    }
}
