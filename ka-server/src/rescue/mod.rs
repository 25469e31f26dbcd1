//! A rescue system for the nodes: a kernel and an initrd, made from this system, with our programs and what they need.
//!
//! ```text
//! tree ──▶ parts ─┬▶ kernel (modules, firmware) ──┐
//!                 └▶ programs (elf: libraries) ───┼──▶ cpio ──▶ initrd ──▶ iso
//!            init.sh, udhcpc.sh, our own programs ┘             entry: what boot loaders are told, with the secret
//! ```
//!
//! Nothing needs root or a network, and nothing is changed but the directory that is named. What is absent: loaders
//! that are signed for Secure Boot, Wi-Fi, kernels of other processors than this one's.
//!
//! It is the golden node's own system, so that it needs no upkeep of ours, its mkfs makes what the golden node's boot
//! loader can read, and an unusual driver that was needed once is there.

mod config;
mod cpio;
mod elf;
mod entry;
mod iso;
mod kernel;
mod parts;
mod programs;
mod secret;
mod tools;

use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

pub use config::Config;
use cpio::{Archive, Content, Entry, Mode};
use ka_core::console::units;
use ka_core::stream::ours;
use ka_desc::error::Error;
use ka_desc::run::{Call, Runner};
use ka_desc::system::tree::Tree;
use kernel::{Kernel, Sizes};
use parts::Parts;
use programs::Programs;
use secret::Origin;
use tempfile::TempDir;
use zeroize::Zeroizing;

/// The first program that runs on the node.
const INIT: &str = include_str!("init.sh");

/// The script that sets the address that DHCP gives.
const UDHCPC: &str = include_str!("udhcpc.sh");

/// Directories that something is mounted on, or that programs expect.
const EMPTY: [&str; 7] = ["dev", "mnt", "proc", "root", "run", "sys", "tmp"];

/// Settings of this system that change what tools make: which features a new ext4 has, and its boot loader can read.
const SETTINGS: [&str; 1] = ["/etc/mke2fs.conf"];

/// Builds the rescue system; `tell` hears how it goes. Gives the boot entries.
///
/// # Errors
/// Something is missing, or cannot be read or written: sentences, one a line.
pub fn build(
    config: &Config,
    runner: &mut dyn Runner,
    tell: &mut dyn FnMut(&str),
) -> Result<Zeroizing<String>, Error> {
    let tree = Tree::open(config.root.as_deref().unwrap_or(Path::new("/")), "the system")?;
    let origin = Origin::of(config)?;
    let Parts { binaries, kernel, tools, absent } =
        parts::find(config, origin.is_known(), &tree, runner).map_err(|wrong| wrong.join("\n"))?;
    let key = origin.text()?;
    if !absent.is_empty() {
        tell(&format!("not there, and so not in the rescue: {}", tools::sentences(&absent).join(", ")));
    }
    let mut archive = skeleton();
    for (name, file) in &binaries {
        archive.add(&format!("usr/bin/{name}"), Entry::File(Content::Copy(file.clone()), Mode::Program));
    }
    let mut programs = Programs::new(&tree, &mut archive);
    for path in &tools {
        programs.add(path)?;
    }
    programs.add_library(tools::LOADED_LATER, &tools[0])?;
    for path in SETTINGS {
        if let Ok(file) = tree.file(path) {
            archive.add(path, Entry::File(Content::Copy(file), Mode::Plain));
        }
    }
    let sizes = kernel.add(&tree, runner, &config.modules, &mut archive)?;

    let named = |path: &Path, e: &io::Error| format!("{}: {e}", path.display());
    let out = &config.out;
    fs::create_dir_all(out).map_err(|e| named(out, &e))?;
    let stage = Stage::new(out).map_err(|e| named(out, &e))?;
    let [vmlinuz, initrd] = ["vmlinuz", "initrd"].map(|name| out.join(name));
    stage.put(&vmlinuz, 0o644, |part| {
        fs::copy(&kernel.image, part).map(drop).map_err(|e| named(&kernel.image, &e).into())
    })?;
    let zstd = kernel.is_set(&tree, "CONFIG_RD_ZSTD") && runner.has("zstd");
    let unpacked = stage.put(&initrd, 0o644, |part| compress(&archive, runner, zstd, part))?;
    tell(&said(&kernel, &vmlinuz, &initrd, unpacked, sizes));

    let secret = origin.secret(key.as_deref().map(String::as_str));
    let append = Zeroizing::new(entry::append(config.session.as_str(), secret, &config.append));
    if config.iso {
        let disc = out.join("rescue.iso");
        // With the key in it, it is its owner's alone.
        let mode = if key.is_some() { 0o600 } else { 0o644 };
        stage.put(&disc, mode, |part| iso::make(runner, [&vmlinuz, &initrd], &entry::disc(&append), part))?;
        tell(&format!("{}: {}", disc.display(), units::size(length(&disc))));
        if key.is_some() {
            let folder = out.display();
            tell(&format!(
                "the key is in the disc, too: clones of this machine have it, unless -x leaves {folder} out"
            ));
        }
    }
    tell(&origin.says());
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

/// Writes the archive, compressed. How large it was before.
fn compress(archive: &Archive, runner: &mut dyn Runner, zstd: bool, part: &Path) -> Result<u64, Error> {
    let plain = part.with_extension("cpio");
    let write = || {
        let mut file = BufWriter::new(File::create_new(&plain)?);
        archive.write(&mut file)?;
        file.into_inner()?.metadata().map(|about| about.len())
    };
    let bytes = write().map_err(|e| format!("{}: {e}", plain.display()))?;
    let [from, to] = [&plain, part].map(|path| path.display().to_string());
    let packed = if zstd {
        runner.write(&Call::new("zstd", ["-q", "-f", "-15", "-T0", "--rm", "-o", &to, &from]))
    } else {
        runner.write(&Call::new("gzip", ["-9", "-n", "-f", "-S", ".part", &from]))
    };
    packed.map_err(|e| e.to_string())?;
    if !zstd {
        let packed = plain.with_extension("cpio.part");
        fs::rename(packed, part).map_err(|e| format!("{to}: {e}"))?;
    }
    Ok(bytes)
}

/// A directory that nobody else can enter, beside the files that are made in it and get their places when they are whole.
struct Stage(TempDir);

impl Stage {
    fn new(beside: &Path) -> io::Result<Self> {
        let only_ours = Permissions::from_mode(0o700);
        tempfile::Builder::new().prefix(".ka-rescue-").permissions(only_ours).tempdir_in(beside).map(Self)
    }

    /// Has a file made, which gets this mode and this place.
    fn put<T>(
        &self,
        place: &Path,
        mode: u32,
        make: impl FnOnce(&Path) -> Result<T, Error>,
    ) -> Result<T, Error> {
        ours::check_place(place)?;
        let part = self.0.path().join(place.file_name().unwrap_or_default());
        let made = make(&part)?;
        fs::set_permissions(&part, Permissions::from_mode(mode))
            .and_then(|()| fs::rename(&part, place))
            .map_err(|e| format!("{}: {e}", place.display()))?;
        Ok(made)
    }
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

#[cfg(test)]
mod tests {
    use super::entry::Secret;
    use super::*;
    use std::io::Write;
    use std::process::Command;

    #[test]
    fn shells_understand_the_scripts() {
        for shell in [&["sh"][..], &["busybox", "sh"]] {
            if Command::new(shell[0]).arg("-c").arg(":").output().is_err() {
                let _ = writeln!(io::stderr(), "not tested: there is no {}", shell[0]);
                assert!(std::env::var_os("KA_EVERYTHING").is_none(), "{} is missing", shell[0]);
                continue;
            }
            for script in [INIT, UDHCPC] {
                let file = tempfile::NamedTempFile::new().unwrap();
                fs::write(file.path(), script).unwrap();
                let status =
                    Command::new(shell[0]).args(&shell[1..]).arg("-n").arg(file.path()).status().unwrap();
                assert!(status.success());
            }
        }
    }

    #[test]
    fn each_word_that_the_entries_have_is_one_that_the_first_script_reads() {
        let lines = [entry::append("x", Secret::Later, &[]), entry::append("x", Secret::Insecure, &[])];
        for word in lines.iter().flat_map(|line| line.split(' ')).filter(|word| *word != "quiet") {
            let name = word.split('=').next().unwrap();
            assert!(INIT.contains(&format!("{name}=")), "{word}");
        }
        assert!(INIT.contains("BOOTIF=*)"));
    }
}
