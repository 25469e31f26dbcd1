//! The command line of `ka-desc`.

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use super::exit::Exit;
use crate::disk::{DeviceName, Expectation, Named, expectations};
use crate::language::bytes;

/// Partitions disks as a desc file says: a few lines of text.
///
/// A desc has a line for each partition, such as `linux 20G ext4 mount /` or `swap 4G`; LANGUAGE.md is its manual.
/// Nothing is written but by `apply`, and that refuses whatever might be the wrong disk.
#[derive(Parser, Clone, Debug)]
#[command(name = "ka-desc", version, arg_required_else_help = true, after_help = after_help())]
pub struct Options {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Print the man page
    #[arg(long, hide = true, exclusive = true)]
    pub man: bool,

    /// Print the completions for a shell
    #[arg(long, hide = true, exclusive = true, value_name = "SHELL")]
    pub completions: Option<Shell>,
}

fn after_help() -> String {
    format!(
        "Examples:\n  \
           printf 'esp 512M\\nlinux fill ext4 label root mount /\\nswap 1G\\n' > lab.desc\n  \
           ka-desc check lab.desc\n  \
           ka-desc plan lab.desc --size 20G\n  \
           truncate -s 20G disk.img && ka-desc apply lab.desc --disk disk.img\n  \
           ka-desc apply lab.desc --expect serial=S3Z9NB0K --dry-run\n  \
           ka-desc capture /dev/sda --flexible > golden.desc\n\n{}",
        Exit::table()
    )
}

/// What can be done.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Say what is wrong with a desc, all at once
    Check(Check),
    /// Show what a desc makes of a disk; nothing is changed
    Plan(Plan),
    /// Partition and format a disk as a desc says
    Apply(Apply),
    /// Write the desc that makes a disk like this one
    Capture(Capture),
    /// Mount the tree that a desc describes
    Mount(Mount),
    /// Unmount such a tree
    Umount(Umount),
}

/// Which file.
#[derive(Args, Clone, Debug)]
pub struct Check {
    /// The desc; `-` is standard input
    pub file: PathBuf,
}

/// Which disks are meant.
#[derive(Args, Clone, Debug)]
pub struct Disks {
    /// The disk or image; with its name in the desc if that has several
    #[arg(long, value_name = "[NAME=]DEVICE", value_parser = Named::device)]
    pub disk: Vec<Named<DeviceName>>,

    /// What the disk must be; without --disk, the one that is so
    #[arg(long, value_name = "[NAME:]serial=…,size=…,model=…,wwn=…", value_parser = named_expectations)]
    pub expect: Vec<Named<Vec<Expectation>>>,

    /// The sectors of an image, in bytes: 512 or 4096 (devices say it themselves)
    #[arg(long, value_name = "BYTES", default_value_t = 512, value_parser = sector)]
    pub sector_size: u32,
}

/// Which desc, and for what.
#[derive(Args, Clone, Debug)]
pub struct Plan {
    /// The desc; `-` is standard input
    pub file: PathBuf,

    #[command(flatten)]
    pub disks: Disks,

    /// The size of a disk that is not there
    #[arg(long, value_name = "[NAME=]SIZE", value_parser = named_size, conflicts_with_all = ["disk", "expect"])]
    pub size: Vec<Named<u64>>,

    /// Print it on standard output as JSON
    #[arg(long)]
    pub json: bool,
}

/// Which desc, for which disk, and how.
#[derive(Args, Clone, Debug)]
pub struct Apply {
    /// The desc; `-` is standard input
    pub file: PathBuf,

    #[command(flatten)]
    pub disks: Disks,

    /// Do not ask
    #[arg(long)]
    pub yes: bool,

    /// Print every command, and change nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Take a disk that is on USB or removable, too
    #[arg(long)]
    pub removable: bool,

    /// Stop swap, arrays and volumes that lie wholly on the disk
    #[arg(long)]
    pub deactivate: bool,

    /// Write the table, and make no file systems; for an image, this needs no root
    #[arg(long)]
    pub table_only: bool,

    /// Then mount the tree below this directory
    #[arg(long, value_name = "DIR", conflicts_with = "table_only")]
    pub mount: Option<PathBuf>,
}

/// Which disk, and how.
#[derive(Args, Clone, Debug)]
pub struct Capture {
    /// The disk or image
    #[arg(value_parser = DeviceName::parse)]
    pub device: DeviceName,

    /// Have the largest partition take what is left, so that it fits other disks
    #[arg(long)]
    pub flexible: bool,

    /// Where things are mounted [default: the fstab that is found on the disk; looking needs root]
    #[arg(long, value_name = "FILE")]
    pub fstab: Option<PathBuf>,

    /// The sectors of an image, in bytes: 512 or 4096 (devices say it themselves)
    #[arg(long, value_name = "BYTES", default_value_t = 512, value_parser = sector)]
    pub sector_size: u32,
}

/// Which desc, on which disk, and where.
#[derive(Args, Clone, Debug)]
pub struct Mount {
    /// The desc that was applied; `-` is standard input
    pub file: PathBuf,

    /// Where to
    pub dir: PathBuf,

    #[command(flatten)]
    pub disks: Disks,

    /// Take a disk that is on USB or removable, too
    #[arg(long)]
    pub removable: bool,
}

/// Where.
#[derive(Args, Clone, Debug)]
pub struct Umount {
    /// Where it is mounted
    pub dir: PathBuf,
}

impl Options {
    /// For help, man page and completions.
    #[must_use]
    pub fn command() -> clap::Command {
        <Self as CommandFactory>::command()
    }

    /// The text that a packager asks for, if one does.
    #[must_use]
    pub fn generated(&self) -> Option<Vec<u8>> {
        let mut command = Self::command();
        let mut text = Vec::new();
        if let Some(shell) = self.completions {
            clap_complete::generate(shell, &mut command, "ka-desc", &mut text);
            return Some(text);
        }
        self.man.then(|| man_page(command))
    }
}

/// One page, with a section for each command; the exit statuses where readers of man pages look for them.
fn man_page(mut command: clap::Command) -> Vec<u8> {
    command.build();
    let man = clap_mangen::Man::new(command.clone());
    let mut text = Vec::new();
    man.render_title(&mut text)
        .and_then(|()| man.render_name_section(&mut text))
        .and_then(|()| man.render_synopsis_section(&mut text))
        .and_then(|()| man.render_description_section(&mut text))
        .expect("a vector takes everything");
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
        text.extend(format!(".SH \"{}\"\n{about}.\n", sub.get_name().to_uppercase()).bytes());
        let page = clap_mangen::Man::new(sub.clone());
        let mut part = Vec::new();
        page.render_synopsis_section(&mut part)
            .and_then(|()| page.render_options_section(&mut part))
            .expect("as above");
        // They are parts of this command's section.
        text.extend(String::from_utf8_lossy(&part).replace(".SH ", ".SS ").bytes());
    }
    text.extend(b".SH \"EXIT STATUS\"\n");
    for (exit, says) in Exit::ALL {
        text.extend(format!(".TP\n{}\n{says}\n", exit as u8).bytes());
    }
    man.render_version_section(&mut text).expect("a vector takes everything");
    text
}

fn named_size(text: &str) -> Result<Named<u64>, String> {
    let how = || "a size is written like 20G, 500GB or 20480 (mebibytes)".into();
    Named::parse(text, '=', |size| bytes::parse(size).filter(|bytes| *bytes > 0).ok_or_else(how))
}

fn named_expectations(text: &str) -> Result<Named<Vec<Expectation>>, String> {
    Named::parse(text, ':', expectations)
}

fn sector(text: &str) -> Result<u32, String> {
    let known = crate::limits::SECTOR_BYTES.into_iter().find(|bytes| bytes.to_string() == text);
    known.ok_or_else(|| "sectors have 512 or 4096 bytes".into())
}
