//! A rescue system for the nodes: a kernel and an initrd, made from this system, with our programs and what they need.
//!
//! ```text
//! tree ──▶ kernel (modules, firmware) ──┐
//!     └──▶ programs (elf: libraries) ───┼──▶ cpio ──▶ initrd ──▶ iso
//! init.sh, udhcpc.sh, our own programs ─┘            entry: what boot loaders are told
//! ```
//!
//! Nothing needs root or a network, and nothing is changed but the directory that is named. What is absent: loaders
//! that are signed for Secure Boot, Wi-Fi, kernels of other processors than this one's.

mod cpio;
mod elf;
mod entry;
mod iso;
mod kernel;
mod modules;
mod programs;
mod tools;
mod tree;

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use clap::Args;
use cpio::{Archive, Content, Entry, Mode};
use entry::Secret;
use ka_client::console::{args, key, units};
use ka_core::types::SessionName;
use ka_desc::run::{Call, Runner};
use kernel::{Kernel, Sizes};
use programs::Programs;
use tree::Tree;
use zeroize::Zeroizing;

/// The first program that runs on the node.
const INIT: &str = include_str!("init.sh");

/// What becomes of an address that DHCP gives.
const UDHCPC: &str = include_str!("udhcpc.sh");

/// Directories that something is mounted on, or that programs expect.
const EMPTY: [&str; 7] = ["dev", "mnt", "proc", "root", "run", "sys", "tmp"];

/// What to build, and from what.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The directory to put vmlinuz and initrd into; made if there is none
    #[arg(value_name = "OUT")]
    pub out: PathBuf,

    /// Also make OUT/rescue.iso, which boots by BIOS and UEFI, from CD and USB
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

    /// The session that nodes join
    #[arg(short, long, value_name = "NAME", value_parser = args::session, default_value = "ka")]
    pub session: SessionName,

    /// Put the key in FILE, written by ka-d-server --make-key, into the boot entries; otherwise it is left to be filled in
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    pub key_file: Option<PathBuf>,

    /// The boot entries are for sessions without a key
    #[arg(long)]
    pub insecure: bool,

    /// More words for the kernel's command line, such as 'console=ttyS0 ka.then=poweroff'
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    pub append: Vec<String>,
}

/// Builds the rescue system; `tell` hears how it goes. Gives the boot entries.
///
/// # Errors
/// Something is missing, or cannot be read or written: sentences, one a line.
pub fn build(
    options: &Options,
    runner: &mut dyn Runner,
    tell: &mut dyn FnMut(&str),
) -> Result<Zeroizing<String>, String> {
    let tree = Tree::new(options.root.as_deref().unwrap_or(Path::new("/")));
    let key = options.key_file.as_deref().map(key::read).transpose()?;
    let key = key.and_then(|key| key.text());
    let binaries = binaries(options.bin.as_deref());
    let kernel = kernel(options, &tree);
    let tools = required(&tree);
    let disc = if options.iso { iso::missing(runner) } else { Vec::new() };
    let (binaries, kernel, tools) = match (binaries, kernel, tools) {
        (Ok(binaries), Ok(kernel), Ok(tools)) if disc.is_empty() => (binaries, kernel, tools),
        (binaries, kernel, tools) => {
            let mut all = binaries.err().unwrap_or_default();
            all.extend(kernel.err());
            all.extend(tools.err().unwrap_or_default());
            all.extend(disc.iter().map(|missing| format!("a disc needs {missing}")));
            return Err(all.join("\n"));
        }
    };

    let (absent, optional) = optional(&tree);
    if !absent.is_empty() {
        tell(&format!("not there, and so not in the rescue: {}", tools::sentences(&absent).join(", ")));
    }
    let mut archive = skeleton();
    for (name, file) in &binaries {
        archive.add(&format!("usr/bin/{name}"), Entry::File(Content::Copy(file.clone()), Mode::Program));
    }
    let mut programs = Programs::new(&tree, &mut archive);
    for path in tools.iter().chain(&optional) {
        programs.add(path)?;
    }
    programs.add_library(tools::LOADED_LATER, &tools[0])?;
    let sizes = kernel.add(&tree, runner, &options.module, &mut archive)?;

    let named = |path: &Path, e: &io::Error| format!("{}: {e}", path.display());
    let out = &options.out;
    fs::create_dir_all(out).map_err(|e| named(out, &e))?;
    let [vmlinuz, initrd] = ["vmlinuz", "initrd"].map(|name| out.join(name));
    fs::copy(&kernel.image, part(&vmlinuz))
        .and_then(|_| fs::set_permissions(part(&vmlinuz), fs::Permissions::from_mode(0o644)))
        .and_then(|()| fs::rename(part(&vmlinuz), &vmlinuz))
        .map_err(|e| named(&kernel.image, &e))?;
    let zstd = kernel.is_set(&tree, "CONFIG_RD_ZSTD") && runner.has("zstd");
    let unpacked = compress(&archive, runner, zstd, &initrd)?;
    tell(&said(&kernel, &vmlinuz, &initrd, unpacked, sizes));

    let secret = match &key {
        Some(text) => Secret::Known(text),
        None if options.insecure => Secret::Insecure,
        None => Secret::Later,
    };
    let append = Zeroizing::new(entry::append(options.session.as_str(), secret, &options.append));
    if options.iso {
        let disc = out.join("rescue.iso");
        // With the key in it, it is its owner's alone.
        let mode = if key.is_some() { 0o600 } else { 0o644 };
        private(&part(&disc), mode).map_err(|e| named(&disc, &e))?;
        iso::make(runner, [&vmlinuz, &initrd], &entry::disc(&append), &part(&disc))?;
        fs::rename(part(&disc), &disc).map_err(|e| named(&disc, &e))?;
        tell(&format!("{}: {}", disc.display(), units::size(length(&disc))));
    }
    tell(match secret {
        Secret::Known(_) => "the session's key is in these entries: who can read them can join the session",
        Secret::Later => "fill in the session's key for the dots, or give --key-file",
        Secret::Insecure => "without a key anybody on the network can join and forge the session",
    });
    Ok(Zeroizing::new(entry::network(&append)))
}

/// Directories, devices and scripts that every rescue has.
fn skeleton() -> Archive {
    let mut archive = Archive::default();
    for name in programs::MERGED {
        archive.add(name, Entry::Link(format!("usr/{name}")));
        archive.add(&format!("usr/{name}"), Entry::Directory);
    }
    for name in EMPTY {
        archive.add(name, Entry::Directory);
    }
    // The kernel opens the one for the first program; the other is there until its own devices are.
    archive.add("dev/console", Entry::Device(5, 1));
    archive.add("dev/null", Entry::Device(1, 3));
    archive.add("etc/mtab", Entry::Link("/proc/self/mounts".into()));
    let texts = [("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"), ("etc/group", "root:x:0:\n")];
    for (path, text) in texts {
        archive.add(path, Entry::File(Content::Bytes(text.into()), Mode::Plain));
    }
    for (path, text) in [("init", INIT), ("etc/udhcpc.sh", UDHCPC)] {
        archive.add(path, Entry::File(Content::Bytes(text.into()), Mode::Program));
    }
    archive.add("usr/bin/sh", Entry::Link("busybox".into()));
    archive
}

/// Our own programs, which must be static: a rescue has no loader that would be sure to fit.
fn binaries(folder: Option<&Path>) -> Result<Vec<(&'static str, PathBuf)>, Vec<String>> {
    let own = std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_path_buf));
    let folder = folder.map(Path::to_path_buf).or(own).unwrap_or_default();
    let way_out = format!("build it with `{}`, and name its directory by --bin", tools::BUILD);
    let one = |name: &'static str| {
        let file = folder.join(name);
        let bytes = fs::read(&file).map_err(|e| format!("{}: {e}: {way_out}", file.display()))?;
        match elf::Elf::read(&bytes) {
            None => Err(format!("{} is no program for 64 bits: {way_out}", file.display())),
            Some(elf) if !elf.is_static() => Err(format!("{} is not static: {way_out}", file.display())),
            Some(_) => Ok((name, file)),
        }
    };
    all(tools::BINARIES.into_iter().map(one))
}

fn kernel(options: &Options, tree: &Tree) -> Result<Kernel, String> {
    let uname = rustix::system::uname();
    let running = options.root.is_none().then(|| uname.release().to_string_lossy());
    Kernel::find(tree, options.kernel.as_deref(), running.as_deref())
}

/// The paths of the tools that every rescue has, busybox first.
fn required(tree: &Tree) -> Result<Vec<String>, Vec<String>> {
    let (missing, paths) = lookup(tree, tools::REQUIRED);
    let mut wrong: Vec<String> =
        tools::sentences(&missing).into_iter().map(|what| format!("the rescue needs {what}")).collect();
    let busybox = tree.program("busybox").and_then(|path| fs::read(tree.file(&path).ok()?).ok());
    let lacking = busybox.map_or_else(Vec::new, |bytes| tools::lacking(&bytes));
    if !lacking.is_empty() {
        wrong.push(format!(
            "this busybox has no {}: install another one (Debian's package busybox-static)",
            lacking.join(", ")
        ));
    }
    if wrong.is_empty() { Ok(paths) } else { Err(wrong) }
}

/// The optional tools that are not there, and the paths of the others.
fn optional(tree: &Tree) -> (Vec<ka_desc::write::Tool>, Vec<String>) {
    let (missing, mut paths) = lookup(tree, tools::OPTIONAL);
    let family = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].iter().flat_map(|folder| tree.names(folder));
    let names: std::collections::BTreeSet<String> =
        family.filter(|name| name.starts_with(tools::FAMILY)).collect();
    paths.extend(names.iter().filter_map(|name| tree.program(name)));
    (missing, paths)
}

fn lookup(tree: &Tree, list: &[ka_desc::write::Tool]) -> (Vec<ka_desc::write::Tool>, Vec<String>) {
    let found = list.iter().map(|tool| (tool, tree.program(tool.program)));
    let (there, missing): (Vec<_>, Vec<_>) = found.partition(|(_, path)| path.is_some());
    (
        missing.into_iter().map(|(tool, _)| *tool).collect(),
        there.into_iter().filter_map(|(_, path)| path).collect(),
    )
}

/// All of them, or everything that is wrong.
fn all<T>(results: impl Iterator<Item = Result<T, String>>) -> Result<Vec<T>, Vec<String>> {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    results.for_each(|result| match result {
        Ok(one) => good.push(one),
        Err(why) => bad.push(why),
    });
    if bad.is_empty() { Ok(good) } else { Err(bad) }
}

/// Writes the archive, compressed. How large it was before.
fn compress(archive: &Archive, runner: &mut dyn Runner, zstd: bool, initrd: &Path) -> Result<u64, String> {
    let plain = initrd.with_extension("cpio");
    let write = || {
        let mut file = BufWriter::new(File::create(&plain)?);
        archive.write(&mut file)?;
        file.into_inner()?.metadata().map(|about| about.len())
    };
    let bytes = write().map_err(|e| format!("{}: {e}", plain.display()))?;
    let [from, to] = [&plain, &part(initrd)].map(|path| path.display().to_string());
    let packed = if zstd {
        runner.write(&Call::new("zstd", ["-q", "-f", "-15", "-T0", "--rm", "-o", &to, &from]))
    } else {
        runner.write(&Call::new("gzip", ["-9", "-n", "-f", "-S", ".part", &from]))
    };
    packed.map_err(|e| e.to_string())?;
    let packed = if zstd { part(initrd) } else { plain.with_extension("cpio.part") };
    fs::rename(&packed, initrd).map_err(|e| format!("{}: {e}", initrd.display()))?;
    Ok(bytes)
}

/// Where a file grows until it is whole.
fn part(path: &Path) -> PathBuf {
    path.with_extension("part")
}

/// A new, empty file that only those may read.
fn private(path: &Path, mode: u32) -> io::Result<()> {
    if let Err(e) = fs::remove_file(path)
        && e.kind() != io::ErrorKind::NotFound
    {
        return Err(e);
    }
    File::options().write(true).create_new(true).mode(mode).open(path)?.flush()
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |about| about.len())
}

fn said(kernel: &Kernel, vmlinuz: &Path, initrd: &Path, unpacked: u64, sizes: Sizes) -> String {
    format!(
        "kernel {}: {} in {}\n{}: {}; {} in memory, of them modules {} and firmware {}",
        kernel.version,
        units::size(length(vmlinuz)),
        vmlinuz.display(),
        initrd.display(),
        units::size(length(initrd)),
        units::size(unpacked),
        units::size(sizes.modules),
        units::size(sizes.firmware),
    )
}
