//! The command line of `ka-d clone`: the options of the original's `ka-d.sh`, and what came since.

use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{ArgAction, ArgMatches, CommandFactory, FromArgMatches, Parser};
use ka_core::console::exit::Exit;
use ka_core::console::units;
use ka_core::types::{NodeId, SessionName};
use ka_desc::cli::pages::Page;
use ka_desc::error::Error;

use super::console::{Outlets, Serving, Words};
use super::server::ENVIRONMENT;
use super::session::{Given, SessionArgs, given};
use crate::clone::{Cloning, Config, SESSION, System};
use crate::golden::plan::choice::Typed;
use crate::serve;

/// Makes clones of this machine: THE DISKS OF ALL NODES THAT JOIN ARE ERASED.
///
/// It looks at this golden node, shows what its clones become, and waits for the nodes (ka-d-install). They partition
/// their disks, and get each file once; each node passes them on to the next. It succeeds only if every node says that
/// it is a clone.
#[derive(Parser, Clone, Debug)]
#[command(
    name = "ka-d clone",
    version,
    disable_help_flag = true,
    disable_version_flag = true,
    override_usage = "ka-d clone [OPTIONS]"
)]
pub struct Options {
    /// Leave out what is in this directory; may be given several times. The directory itself comes, with its mode and owner
    #[arg(short = 'x', long = "exclude", value_name = "DIR")]
    pub exclude: Vec<PathBuf>,

    /// Leave out these disks, such as 'sdb|sdc'
    #[arg(short = 'X', long = "exclude-disks", value_name = "DISKS")]
    pub exclude_disks: Vec<String>,

    /// Copy the boot code of this drive's MBR, whoever wrote it, such as that of Windows
    #[arg(short = 'm', long = "mbr", value_name = "DRIVE")]
    pub mbr: Vec<String>,

    /// Take the boot code of this drive's MBR from FILE (440 or 446 bytes)
    #[arg(short = 'M', long = "mbr-file", value_names = ["DRIVE", "FILE"], num_args = 2)]
    pub mbr_file: Vec<String>,

    /// Also copy this partition, block by block; of a file system of Windows what it uses, if all have partclone
    #[arg(short = 'D', long = "raw", value_name = "PARTITION")]
    pub raw: Vec<String>,

    /// Partition this drive as the desc in FILE says [default: as it is partitioned here]
    #[arg(short = 'p', long = "desc", value_names = ["DRIVE", "FILE"], num_args = 2)]
    pub desc: Vec<String>,

    /// Have the clones' own tools install the boot loader: 'grub', and modules for the initramfs (--with=MODULE)
    /// [default: it is copied]
    #[arg(short = 'r', long = "bootloader", value_name = "LOADER")]
    pub bootloader: Option<String>,

    /// Without -p: the largest partition takes what a node's disk has
    #[arg(long)]
    pub flexible: bool,

    /// Give the clones' file systems new UUIDs, and rewrite what refers to the old ones
    #[arg(long)]
    pub new_uuids: bool,

    /// Clone the system in this directory instead of the running one
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,

    /// Clone the system on this image of a whole disk instead of the running one
    #[arg(long, value_name = "FILE", conflicts_with = "root")]
    pub image: Option<PathBuf>,

    /// Run this command (by sh) before the files are read, such as one that makes a database write everything
    #[arg(long, value_name = "COMMAND")]
    pub quiesce: Option<String>,

    /// Run this command (by sh) once they are read, whatever happens
    #[arg(long, value_name = "COMMAND")]
    pub resume: Option<String>,

    /// How long nodes may take to partition and format their disks; then the others go on without those that are not ready,
    /// and after 3 minutes without those that say nothing
    #[arg(long, value_name = "TIME", value_parser = units::parse_duration, default_value = "15m")]
    pub format_timeout: Duration,

    /// How long a node that has all files may take to make itself bootable; then the session ends without it
    #[arg(long, value_name = "TIME", value_parser = units::parse_duration, default_value = "30m")]
    pub finish_timeout: Duration,

    /// Write the nodes' logs below DIR [default: /var/log/ka]
    #[arg(long, value_name = "DIR")]
    pub log_dir: Option<PathBuf>,

    /// Show what would be done, and check it; serve nothing
    #[arg(long)]
    pub dry_run: bool,

    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become help")]
    pub session: SessionArgs,

    /// Print help
    #[arg(short = 'h', long, action = ArgAction::Help)]
    help: Option<bool>,

    /// Print version
    #[arg(short = 'v', visible_short_alias = 'V', long, action = ArgAction::Version)]
    version: Option<bool>,

    #[arg(skip)]
    given: Vec<Given>,
}

/// The words of help and manual page besides the options.
pub(crate) fn page() -> Page {
    Page {
        examples: &[
            ("ka-d clone --dry-run", "shows what the clones would become"),
            ("ka-d clone -n 30", "makes thirty clones, whose boot entries `ka-d rescue` has printed"),
            ("ka-d clone -n 30 -s lab3", "makes thirty clones of this machine"),
            (
                "ka-d clone -n 30 -p sda lab.desc -X 'sdb|sdc'",
                "with partitions as lab.desc says, without sdb and sdc",
            ),
            (
                "ka-d clone -n 2 -x /scratch -d 20 -r grub",
                "/scratch comes empty; the nodes leave two seconds apart",
            ),
        ],
        exits: Exit::rows(),
        environment: ENVIRONMENT,
        files: &[("/var/log/ka", "the nodes' logs, unless --log-dir says otherwise")],
        see_also: &["ka-d-rescue(1)", "ka-d-install(1)", "ka-desc(1)", "docs/json.md"],
    }
}

impl Options {
    /// Reads a command line.
    ///
    /// # Errors
    /// What is wrong with it, ready to be printed; or the help that was asked for.
    pub fn read(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut options = Self::from_arg_matches(matches)?;
        options.given = given(&Self::command(), matches);
        let wrong = |why: Error| Self::command().error(ErrorKind::ValueValidation, why);
        options.session.check().map_err(wrong)?;
        if options.session.session.is_none() {
            options.session.session = SessionName::new(SESSION).ok();
        }
        Ok(options)
    }

    /// For help, man page and completions.
    #[must_use]
    pub fn command() -> clap::Command {
        // -p and -P are drives and ports elsewhere; here the original's -p is the drive's desc.
        <Self as CommandFactory>::command()
            .mut_arg("port", |arg| arg.short(None))
            .mut_arg("data_port", |arg| arg.short(None))
    }

    /// What was typed of the clones.
    #[must_use]
    pub fn typed(&self, time_s: u64) -> Typed {
        let pairs = |words: &[String]| -> Vec<(String, PathBuf)> {
            words.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone().into())).collect()
        };
        Typed {
            exclude: self.exclude.clone(),
            exclude_disks: self.exclude_disks.clone(),
            mbr: self.mbr.clone(),
            mbr_file: pairs(&self.mbr_file),
            raw: self.raw.clone(),
            descs: pairs(&self.desc),
            flexible: self.flexible,
            bootloader: self.bootloader.clone(),
            new_uuids: self.new_uuids,
            time_s,
        }
    }

    /// The same command line, for so many nodes.
    pub(crate) fn again(&self, nodes: u32) -> String {
        let mut words = vec!["ka-d clone".to_owned(), "-n".into(), nodes.to_string()];
        let fits = |g: &&Given| match g.id.as_str() {
            "nodes" => false,
            "min_nodes" => self.session.min_nodes <= Some(nodes),
            _ => true,
        };
        words.extend(self.given.iter().filter(fits).flat_map(Given::words));
        words.join(" ")
    }

    /// The system that is cloned.
    fn system(&self) -> System {
        match (&self.root, &self.image) {
            (Some(dir), _) => System::Tree(dir.clone()),
            (_, Some(file)) => System::Image(file.clone()),
            _ => System::Running,
        }
    }

    /// What to clone, and how.
    #[must_use]
    pub fn config(&self, time_s: u64) -> Config {
        Config {
            system: self.system(),
            typed: self.typed(time_s),
            quiesce: self.quiesce.clone(),
            resume: self.resume.clone(),
            format_timeout: self.format_timeout,
            log_dir: self.log_dir.clone(),
            session: serve::Config { finish_timeout: Some(self.finish_timeout), ..self.session.config() },
        }
    }
}

/// A session that makes clones, as it is shown.
pub(crate) struct Served {
    options: Options,
    config: serve::Config,
    cloning: Cloning,
}

impl Served {
    pub(crate) fn new(options: Options, config: &Config, cloning: Cloning) -> Self {
        Self { options, config: config.session.clone(), cloning }
    }
}

impl Serving for Served {
    fn session(&self) -> &serve::Config {
        &self.config
    }

    fn outlets(&self) -> Outlets {
        self.options.session.outlets()
    }

    fn source(&self) -> (&'static str, Option<String>) {
        match self.options.system() {
            System::Running => ("system", None),
            System::Tree(dir) => ("tree", Some(dir.display().to_string())),
            System::Image(file) => ("image", Some(file.display().to_string())),
        }
    }

    fn invite(&self, words: &Words) -> String {
        let Words { options, kernel } = words;
        format!("on each node: boot what `ka-d rescue` makes, with {kernel}; or run ka-d-install {options}")
    }

    fn again(&self, nodes: u32) -> String {
        self.options.again(nodes)
    }

    fn remarks(&self, node: NodeId) -> Vec<String> {
        self.cloning.remarks(node)
    }

    fn doubt(&self) -> Option<String> {
        self.cloning.doubt()
    }

    fn epilogue(&self) -> Vec<String> {
        self.cloning.epilogue()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Options {
        let all = [&["ka-d clone"], args].concat();
        Options::read(&Options::command().get_matches_from(all)).unwrap()
    }

    #[test]
    fn the_definition_is_sound() {
        Options::command().debug_assert();
    }

    #[test]
    fn the_command_lines_of_2001() {
        let options = parse(&[
            "-n",
            "1",
            "-p",
            "sda",
            "/root/desc",
            "-X",
            "sdb",
            "-r",
            "grub --with=jfs --with=ata_piix",
        ]);
        let typed = options.typed(7);
        assert_eq!(typed.descs, [("sda".to_owned(), PathBuf::from("/root/desc"))]);
        assert_eq!((typed.exclude_disks, typed.time_s), (vec!["sdb".to_owned()], 7));
        assert_eq!(typed.bootloader.as_deref(), Some("grub --with=jfs --with=ata_piix"));
        assert_eq!(options.session.session.as_ref().unwrap().as_str(), SESSION);
        // An embedder gets the same.
        let (config, own) = (options.config(0), Config::new(System::Running));
        assert_eq!(config.format_timeout, own.format_timeout);
        assert_eq!(config.session.finish_timeout, own.session.finish_timeout);
        let options = parse(&[
            "-n", "3", "-p", "sda", "a", "-p", "sdb", "b", "-x", "/tmp", "-x", "/srv", "-d", "20", "-D",
            "sda3",
        ]);
        assert_eq!(options.typed(0).descs.len(), 2);
        assert_eq!(options.session.config().release_delay, Duration::from_secs(2));
    }

    #[test]
    fn what_failed_is_tried_again_with_the_same_words() {
        let options = parse(&["-n", "9", "-p", "sda", "my desc", "-x", "/tmp", "--flexible"]);
        assert_eq!(options.again(2), "ka-d clone -n 2 -x /tmp -p sda 'my desc' --flexible");
    }
}
