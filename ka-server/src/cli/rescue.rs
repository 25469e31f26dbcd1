//! The command line of `ka-d rescue`.

use std::path::PathBuf;

use clap::Args;
use ka_core::cli::args;
use ka_core::cli::key::InsecureArgs;
use ka_core::console::key;
use ka_core::types::SessionName;
use ka_desc::cli::pages::Page;

use crate::clone::SESSION;
use crate::rescue::Config;

/// What to build, and from what.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The directory to put vmlinuz and initrd into; made if there is none
    #[arg(value_name = "OUT")]
    pub out: PathBuf,

    /// Also make OUT/rescue.iso, which boots by BIOS and UEFI, from CD and USB; the key is in it
    #[arg(long)]
    pub iso: bool,

    /// The kernel's version, as `uname -r` says it [default: the one that runs; with --root, the only one]
    #[arg(long, value_name = "VERSION")]
    pub kernel: Option<String>,

    /// Also this kernel module, such as one of DKMS; may be given several times
    #[arg(long, value_name = "NAME")]
    pub module: Vec<String>,

    /// Take kernel, modules, firmware and tools from the system tree in DIR instead of from this system
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,

    /// Take the static ka-d-install, ka-d-client and ka-desc from DIR [default: where this program is]
    #[arg(long, value_name = "DIR")]
    pub bin: Option<PathBuf>,

    /// The session that nodes join, as ka-d clone calls it
    #[arg(short, long, value_name = "NAME", value_parser = args::session, default_value = SESSION)]
    pub session: SessionName,

    /// Put the key in FILE, written by ka-d-server --make-key, into the boot entries (or name it in KA_KEY_FILE)
    /// [default: the one that ka-d clone serves with, in /etc/ka, for root only, and made if there is none]
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    pub key_file: Option<PathBuf>,

    /// More words for the kernel's command line, such as 'console=ttyS0 ka.then=poweroff'
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    pub append: Vec<String>,

    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become help")]
    pub insecure: InsecureArgs,
}

impl Options {
    /// What to build.
    #[must_use]
    pub fn config(&self) -> Config {
        Config {
            out: self.out.clone(),
            iso: self.iso,
            kernel: self.kernel.clone(),
            modules: self.module.clone(),
            root: self.root.clone(),
            bin: self.bin.clone(),
            session: self.session.clone(),
            key_file: self.key_file.clone().or_else(|| key::env("KA_KEY_FILE").map(Into::into)),
            append: self.append.clone(),
            insecure: self.insecure.insecure(),
        }
    }
}

/// The words of help and manual page besides the options.
pub(crate) fn page() -> Page {
    Page {
        examples: &[
            (
                "ka-d rescue /srv/tftp/ka",
                "vmlinuz and initrd for PXE; the boot entries come on standard output",
            ),
            (
                "ka-d rescue stick --session lab3 --key-file key --iso",
                "also stick/rescue.iso, for CD and USB",
            ),
            (
                "ka-d rescue out --append 'console=ttyS0 ka.then=poweroff' --module r8125",
                "more words for the kernel, and a module of DKMS",
            ),
            (
                "ka-d rescue out --root /srv/golden --bin /srv/static",
                "from another system, with programs from elsewhere",
            ),
        ],
        exits: vec![
            (0, "the rescue system is in OUT, and its boot entries are on standard output"),
            (1, "it could not be built: what is missing is said, and how to get it"),
            (2, "the command line is wrong"),
        ],
        environment: &[],
        files: &[],
        see_also: &["ka-d-clone(1)", "ka-d-install(1)"],
    }
}
