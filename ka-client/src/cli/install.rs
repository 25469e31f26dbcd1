//! The command line of `ka-d-install`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, CommandFactory, FromArgMatches, Parser, ValueEnum};
use ka_core::cli::args::wrong;
use ka_core::console::exit::Exit;
use ka_desc::cli::pages::{Generate, Page};
use ka_desc::machine::{DeviceName, Named};
use ka_desc::write;

use super::join::JoinArgs;
use super::receive::{ENVIRONMENT, FILES};
use crate::install::ROOT;

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
    /// The disk to write, such as sda, /dev/sda or /dev/disk/by-id/…, for the one that the golden node calls NAME; may be
    /// given several times [default: the only one there is, if there is one disk here and one there]
    #[arg(long, value_name = "[NAME=]DEVICE", value_parser = Named::device)]
    pub disk: Vec<Named<DeviceName>>,

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
    #[arg(long, value_name = "DIR", default_value = ROOT)]
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
        let options = Self::from_arg_matches(&Self::command().try_get_matches_from(args)?)?;
        each_for_one(&options.disk).map_err(|why| wrong::<Self>(&why))?;
        Ok(options)
    }

    /// How the disks are looked at and written.
    pub(crate) fn how(&self) -> write::Options {
        write::Options { removable: self.removable, deactivate: self.deactivate, ..write::Options::default() }
    }

    /// For help, man page and completions.
    #[must_use]
    pub fn command() -> clap::Command {
        let alone = ["host", "man", "completions", "check"];
        <Self as CommandFactory>::command().mut_arg("session", |arg| arg.required_unless_present_any(alone))
    }
}

/// Whether each device is for a disk of its own, as far as the names tell.
fn each_for_one(given: &[Named<DeviceName>]) -> Result<(), String> {
    for (at, disk) in given.iter().enumerate() {
        if disk.name.is_none() && given.len() > 1 {
            return Err(format!(
                "--disk {disk}: where several are given, say which of the golden node's disks each is for: --disk NAME={disk}"
            ));
        }
        if let Some(other) = given[..at].iter().find(|other| other.name == disk.name) {
            return Err(format!("--disk {disk} and --disk {other} are for the same disk: give one of them"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Options::command().debug_assert();
    }

    #[test]
    fn each_disk_is_for_one() {
        let given = |words: &[&str]| -> Result<(), String> {
            each_for_one(&words.iter().map(|word| Named::device(word).unwrap()).collect::<Vec<_>>())
        };
        for right in [&[][..], &["vda"], &["sda=vda"], &["sda=vda", "sdb=vdb"]] {
            assert_eq!(given(right), Ok(()));
        }
        assert!(given(&["vda", "vdb"]).unwrap_err().contains("--disk NAME=vda"));
        assert!(given(&["sda=vda", "vdb"]).unwrap_err().contains("--disk NAME=vdb"));
        assert!(given(&["sda=vda", "/dev/sda=vdb"]).unwrap_err().contains("the same disk"));
    }
}
