//! A machine that is a clone already, and was started into the rescue system once more: it starts from its own disk.
//!
//! A machine that UEFI starts has a boot entry for its disk, which comes first; there it is enough to start again. One that
//! a BIOS starts from the network would come back here for ever, so its own kernel is started by kexec.

use std::fs;
use std::path::{Path, PathBuf};

use ka_desc::disk::Machine;
use ka_desc::run::{Call, Runner};

/// Where its file systems are looked into.
const LOOK: &str = "/run/ka/own";

/// Where GRUB's configuration is, below a file system's top or below a subvolume that is mounted as `/`.
const CONFIGURATIONS: [&str; 8] = [
    "boot/grub/grub.cfg",
    "grub/grub.cfg",
    "boot/grub2/grub.cfg",
    "grub2/grub.cfg",
    "@rootfs/boot/grub/grub.cfg",
    "@/boot/grub/grub.cfg",
    "@rootfs/boot/grub2/grub.cfg",
    "@/boot/grub2/grub.cfg",
];

/// How file systems are looked into such that not even their journals are written.
const QUIETLY: [(&str, &str); 6] = [
    ("ext4", "ro,noload"),
    ("xfs", "ro,norecovery"),
    ("btrfs", "ro,rescue=nologreplay"),
    ("vfat", "ro"),
    ("jfs", "ro"),
    ("f2fs", "ro"),
];

/// What GRUB would start first.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    kernel: String,
    initrd: Option<String>,
    words: String,
}

/// Makes this machine's own kernel ready to be started; [`start`] does that.
///
/// # Errors
/// A sentence: there is no kexec, or nothing that could be started.
pub(super) fn load(machine: &Machine, runner: &mut dyn Runner) -> Result<(), String> {
    if !runner.has("kexec") {
        return Err("there is no kexec (Debian's package kexec-tools) to do that with".into());
    }
    fs::create_dir_all(LOOK).map_err(|e| format!("{LOOK}: {e}"))?;
    let disks = machine.disks().map_err(|e| e.to_string())?;
    // What the rescue system came from may look like a system, too.
    let fixed = |disk: &&PathBuf| machine.facts(disk, 512).is_ok_and(|facts| !facts.usb && !facts.removable);
    for node in disks.iter().filter(fixed).flat_map(|disk| partitions(machine, disk)) {
        let node = node.display().to_string();
        let mounted = QUIETLY.iter().any(|(fs, options)| {
            runner.write(&Call::new("mount", ["-t", fs, "-o", options, &node, LOOK])).is_ok()
        });
        if !mounted {
            continue;
        }
        let loaded = loads(runner, Path::new(LOOK));
        let unmounted = runner.write(&Call::new("umount", [LOOK]));
        if let Some(loaded) = loaded {
            return loaded.and_then(|()| unmounted.map(drop).map_err(|e| e.to_string()));
        }
    }
    Err("none of its file systems has a configuration of GRUB".into())
}

/// Starts what was loaded. If it works, nothing comes after it.
///
/// # Errors
/// What kexec said.
pub(super) fn start(runner: &mut dyn Runner) -> Result<(), String> {
    rustix::fs::sync();
    runner.write(&Call::new("kexec", ["--exec"])).map(drop).map_err(|e| e.to_string())
}

fn partitions(machine: &Machine, disk: &Path) -> Vec<PathBuf> {
    let name = disk.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    machine.partitions(&name).iter().map(|partition| machine.node(partition)).collect()
}

/// Loads what the file system at `root` would start; `None` if it would start nothing.
fn loads(runner: &mut dyn Runner, root: &Path) -> Option<Result<(), String>> {
    let text = CONFIGURATIONS.iter().find_map(|path| fs::read(root.join(path)).ok())?;
    let entry = first(&String::from_utf8_lossy(&text))?;
    let at = |path: &str| root.join(path.trim_start_matches('/')).display().to_string();
    let mut args = vec!["--load".to_owned(), at(&entry.kernel), format!("--command-line={}", entry.words)];
    args.extend(entry.initrd.as_deref().map(|initrd| format!("--initrd={}", at(initrd))));
    Some(runner.write(&Call::new("kexec", args)).map(drop).map_err(|e| e.to_string()))
}

/// The first entry that starts a Linux.
fn first(configuration: &str) -> Option<Entry> {
    let mut lines = configuration.lines().map(str::trim);
    let linux = ["linux", "linuxefi", "linux16"];
    let words = lines.find_map(|line| {
        let mut words = line.split_whitespace();
        words.next().filter(|word| linux.contains(word)).map(|_| words)
    })?;
    let mut words = words.map(str::to_owned);
    let kernel = words.next()?;
    // GRUB's own variables mean nothing to a kernel.
    let words: Vec<String> = words.filter(|word| !word.starts_with('$')).collect();
    let initrd = lines
        .take_while(|line| *line != "}")
        .find_map(|line| {
            Some(line.split_once(char::is_whitespace).filter(|(word, _)| word.starts_with("initrd"))?.1)
        })
        .and_then(|paths| paths.split_whitespace().next_back().map(str::to_owned));
    Some(Entry { kernel, initrd, words: words.join(" ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_entry_is_what_grub_would_start() {
        let text = "set default=0\nmenuentry 'Debian' {\n\tinsmod ext2\n\techo\t'Loading'\n\
                    \tlinux\t/boot/vmlinuz-6.1.0 root=UUID=abc ro $extra quiet\n\
                    \tinitrd\t/boot/amd-ucode.img /boot/initrd.img-6.1.0\n}\n\
                    menuentry 'other' {\n linux /other\n}\n";
        let entry = first(text).unwrap();
        assert_eq!(
            (entry.kernel.as_str(), entry.words.as_str()),
            ("/boot/vmlinuz-6.1.0", "root=UUID=abc ro quiet")
        );
        assert_eq!(entry.initrd.as_deref(), Some("/boot/initrd.img-6.1.0"));
        let entry =
            first("menuentry x {\nlinux /vmlinuz root=/dev/sda1\n}\nmenuentry y {\ninitrd /no\n}").unwrap();
        assert_eq!(entry, Entry { kernel: "/vmlinuz".into(), initrd: None, words: "root=/dev/sda1".into() });
        assert_eq!(first("menuentry 'Windows' {\n chainloader +1\n}"), None);
    }
}
