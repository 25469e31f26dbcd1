//! The command line of `ka-desc`.

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand};

use super::exit::Exit;
use super::pages::{Page, Rows, with_pages};
use crate::error::Error;
use crate::language::bytes;
use crate::machine::{DeviceName, Expectation, Named, expectations};

/// Partitions disks as a desc file says: a few lines of text.
///
/// A desc has a line for each partition, such as `linux 20G ext4 mount /` or `swap 4G`; LANGUAGE.md is its manual.
/// Nothing is written but by `apply`, and that refuses whatever might be the wrong disk.
#[derive(Parser, Clone, Debug)]
#[command(
    name = "ka-desc",
    version,
    arg_required_else_help = true,
    subcommand_value_name = "check|plan|apply|capture|mount|umount"
)]
pub struct Options {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
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

/// For help, manual pages and completions.
#[must_use]
pub fn command() -> clap::Command {
    with_pages(Options::command(), page)
}

/// The words of help and manual pages besides the options.
#[must_use]
pub fn page(subcommand: Option<&str>) -> Page {
    let (examples, exits) = match subcommand {
        Some("check") => CHECK,
        Some("plan") => PLAN,
        Some("apply") => APPLY,
        Some("capture") => CAPTURE,
        Some("mount") => MOUNT,
        Some(_) => UMOUNT,
        None => ALL,
    };
    let exits = exits.iter().map(|(exit, says)| (*exit as u8, *says)).collect();
    let see_also = match subcommand {
        None => SEE_ALSO,
        Some("plan") => &["ka-desc(1)", "ka-desc-apply(1)", "ka-desc/LANGUAGE.md", "docs/json.md"],
        Some(_) => &["ka-desc(1)", "ka-desc/LANGUAGE.md"],
    };
    Page { examples, exits, see_also, ..Page::default() }
}

/// Examples, and exit statuses.
type Words = (Rows, &'static [(Exit, &'static str)]);

const CHECK: Words = (
    &[
        ("ka-desc check lab.desc", "says all that is wrong with it, each with its place and the way out"),
        ("ka-desc check -", "reads it from standard input"),
    ],
    &[
        (Exit::Fine, "the desc has no errors"),
        (Exit::NoStart, "the file cannot be read"),
        USAGE,
        (Exit::Source, "the desc is wrong"),
    ],
);

const PLAN: Words = (
    &[
        ("ka-desc plan lab.desc --size 20G", "for a disk that is not there"),
        ("ka-desc plan lab.desc --disk /dev/sda", "before and after, for one that is"),
        ("ka-desc plan lab.desc --size a=20G --size b=1T --json", "for the two disks a and b, for a program"),
    ],
    &[
        (Exit::Fine, "the desc fits"),
        (Exit::NoStart, "a file or a disk cannot be read, or a tool is missing"),
        USAGE,
        (Exit::Refused, "that is no disk, or it is not clear which one is meant"),
        (Exit::Source, "the desc is wrong, or does not fit the disk"),
    ],
);

const APPLY: Words = (
    &[
        (
            "ka-desc apply lab.desc --disk disk.img --table-only",
            "shows what will be lost, asks, and writes the table",
        ),
        (
            "ka-desc apply lab.desc --expect serial=S3Z9NB0K --dry-run",
            "finds the disk by what it is, and changes nothing",
        ),
        (
            "ka-desc apply lab.desc --disk /dev/sda --yes --mount /mnt",
            "does not ask, and mounts the tree below /mnt",
        ),
    ],
    &[
        (Exit::Fine, "the disk is as the desc says"),
        (
            Exit::NoStart,
            "it could not start: a file or a disk cannot be read, a tool is missing; nothing was written",
        ),
        USAGE,
        (Exit::Refused, "refused: it might be the wrong disk; nothing was written"),
        (Exit::Source, "the desc is wrong, or does not fit the disk; nothing was written"),
        (Exit::Sink, "a tool failed on the way: the disk is unfinished, and can be written again"),
    ],
);

const CAPTURE: Words = (
    &[
        ("ka-desc capture /dev/sda --flexible > golden.desc", "fits disks of other sizes, too"),
        ("ka-desc capture disk.img --fstab /mnt/etc/fstab", "with mount points from that file"),
    ],
    &[
        (Exit::Fine, "the desc is on standard output"),
        (Exit::NoStart, "the disk cannot be read, or a tool is missing"),
        USAGE,
        (Exit::Refused, "that is no disk, or a part of one"),
        (Exit::Source, "what is on the disk is nothing that a desc can make"),
    ],
);

const MOUNT: Words = (
    &[
        ("ka-desc mount lab.desc /mnt --disk /dev/sda", "each file system at its place below /mnt"),
        ("ka-desc mount lab.desc /mnt --disk disk.img", "the same from an image"),
    ],
    &[
        (Exit::Fine, "all is mounted"),
        (Exit::NoStart, "a file or a disk cannot be read, or a tool is missing; nothing is mounted"),
        USAGE,
        (Exit::Refused, "that is no disk, or it is in use; nothing is mounted"),
        (Exit::Source, "the desc is wrong, or the disk is not as it says; nothing is mounted"),
        (Exit::Sink, "a file system cannot be mounted; none is left mounted"),
    ],
);

const UMOUNT: Words = (
    &[("ka-desc umount /mnt", "all that is mounted there and below")],
    &[
        (Exit::Fine, "nothing is mounted there any more"),
        (Exit::NoStart, "nothing was mounted there"),
        USAGE,
        (Exit::Sink, "something cannot be unmounted: it is in use"),
    ],
);

const ALL: Words = (
    &[
        ("ka-desc check lab.desc", "says all that is wrong with a desc"),
        ("ka-desc plan lab.desc --size 20G", "shows what it makes of a disk"),
        ("ka-desc apply lab.desc --disk disk.img --table-only", "writes the table of an image"),
        ("ka-desc capture /dev/sda --flexible > golden.desc", "writes the desc of a disk"),
        ("ka-desc help apply", "says all about one of them, as `ka-desc apply --help` does"),
    ],
    &Exit::ALL,
);

const USAGE: (Exit, &str) = (Exit::Usage, "the command line is wrong");

const SEE_ALSO: &[&str] = &[
    "ka-desc-check(1)",
    "ka-desc-plan(1)",
    "ka-desc-apply(1)",
    "ka-desc-capture(1)",
    "ka-desc-mount(1)",
    "ka-desc-umount(1)",
    "ka-desc/LANGUAGE.md",
];

fn named_size(text: &str) -> Result<Named<u64>, Error> {
    let how = || "a size is written like 20G, 500GB or 20480 (mebibytes)".into();
    Named::parse(text, '=', |size| bytes::parse(size).filter(|bytes| *bytes > 0).ok_or_else(how))
}

fn named_expectations(text: &str) -> Result<Named<Vec<Expectation>>, Error> {
    Named::parse(text, ':', expectations)
}

fn sector(text: &str) -> Result<u32, String> {
    let known = crate::limits::SECTOR_BYTES.into_iter().find(|bytes| bytes.to_string() == text);
    known.ok_or_else(|| "sectors have 512 or 4096 bytes".into())
}
