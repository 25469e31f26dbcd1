//! The command line of `ka-d-install`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, CommandFactory, FromArgMatches, Parser, ValueEnum};

use crate::cli::{ENVIRONMENT, FILES};
use crate::console::args::{Generate, Page};
use crate::console::exit::Exit;
use crate::session::JoinArgs;

/// Makes this machine a clone of a golden node: ITS DISK IS ERASED.
///
/// It joins the session of `ka-d clone`, learns what the golden node's disks are like, makes sure that its own disk is
/// the right one and large enough, partitions and formats it, unpacks the files as they arrive, and makes the clone
/// bootable. It succeeds only if every byte arrived, was checked, and is on the disk.
#[derive(Parser, Clone, Debug)]
#[command(
    name = "ka-d-install",
    version,
    disable_help_flag = true,
    disable_version_flag = true,
    override_usage = "ka-d-install <-s NAME | -h HOST> [OPTIONS]",
    after_help = page().help(),
)]
pub struct Options {
    /// The disk to write, for the one that the golden node calls NAME; may be given several times [default: the only one
    /// there is, if there is one disk here and one there]
    #[arg(long, value_name = "[NAME=]DEVICE", value_parser = disk)]
    pub disk: Vec<(Option<String>, PathBuf)>,

    /// Disks on USB, and those whose medium can be taken out, are meant
    #[arg(long)]
    pub removable: bool,

    /// Stop swap, arrays and mappings that lie wholly on the disk
    #[arg(long)]
    pub deactivate: bool,

    /// What to do once this machine is a clone, and the golden node lets it go
    #[arg(long, value_name = "WHAT", value_enum)]
    pub then: Option<Then>,

    /// Keep a log in FILE, too
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,

    /// Where the clone is mounted while it is made; an empty directory, made if it is not there
    #[arg(long, value_name = "DIR", default_value = "/mnt/ka")]
    pub root: PathBuf,

    /// Join nothing: list the programs that are needed, those that are missing, and the disks that are here
    #[arg(long)]
    pub check: bool,

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

/// What to do at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "a doc comment would become help")]
pub enum Then {
    Reboot,
    Poweroff,
    Shell,
}

/// The words of help and manual page besides the options.
#[must_use]
pub fn page() -> Page {
    Page {
        examples: &[
            (
                "ka-d-install -s lab3",
                "writes the only disk; the key is from ka.key= on the kernel's command line",
            ),
            (
                "ka-d-install -s lab3 --key-file key --disk nvme0n1 --then reboot",
                "says which disk, and what comes then",
            ),
            ("ka-d-install -s lab3 --disk sda=/dev/vda --disk sdb=/dev/vdb", "says which is which, of two"),
            ("ka-d-install --check", "lists what is missing here, and the disks"),
        ],
        exits: Exit::rows(),
        environment: ENVIRONMENT,
        files: FILES,
        see_also: &["ka-d-clone(1)", "ka-d-rescue(1)", "ka-desc(1)", "docs/json.md"],
    }
}

impl Options {
    /// Reads a command line, the program's name first.
    ///
    /// # Errors
    /// What is wrong with it, ready to be printed; or the help that was asked for.
    pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        Self::from_arg_matches(&Self::command().try_get_matches_from(args)?)
    }

    /// For help, man page and completions.
    #[must_use]
    pub fn command() -> clap::Command {
        let alone = ["host", "man", "completions", "check"];
        <Self as CommandFactory>::command().mut_arg("session", |arg| arg.required_unless_present_any(alone))
    }
}

/// `sda=/dev/vda`, `/dev/vda` or `vda`.
fn disk(text: &str) -> Result<(Option<String>, PathBuf), String> {
    let (name, device) = match text.split_once('=') {
        Some((name, device)) => (Some(name.to_owned()), device),
        None => (None, text),
    };
    if device.is_empty() || name.as_ref().is_some_and(String::is_empty) {
        return Err("a disk is DEVICE or NAME=DEVICE, such as sda=/dev/vda".into());
    }
    let path = if device.contains('/') { device.into() } else { PathBuf::from("/dev").join(device) };
    Ok((name, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Options::command().debug_assert();
    }

    #[test]
    fn a_disk_has_a_name_or_none() {
        assert_eq!(disk("vda"), Ok((None, "/dev/vda".into())));
        assert_eq!(disk("sda=nvme0n1"), Ok((Some("sda".into()), "/dev/nvme0n1".into())));
        assert_eq!(disk("sda=./image"), Ok((Some("sda".into()), "./image".into())));
        assert!(disk("=vda").is_err() && disk("sda=").is_err() && disk("").is_err());
    }
}
