//! A machine that is a clone already, and was started into the rescue system once more: its own disk says so, and it
//! starts from that.
//!
//! A machine that UEFI starts has a boot entry for its disk, which comes first; there it is enough to start again. One that
//! a BIOS starts from the network would come back here for ever, so its own kernel is started by kexec.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use ka_core::types::SessionId;
use ka_desc::error::Error;
use ka_desc::machine::{Facts, Machine};
use ka_desc::run::{Call, Here, Runner};
use ka_desc::write;

use crate::finish::mark;

/// The mount point at which the machine's file systems are inspected.
const LOOK: &str = "/run/ka/own";

/// The longest that the disks are read for marks before the session is joined without them.
const LOOK_TIME: Duration = Duration::from_secs(30);

/// Subvolumes of a btrfs that are looked into.
const SUBVOLUMES_MAX: usize = 256;

/// The paths of GRUB's configuration, below a file system's top or below a subvolume.
const CONFIGURATIONS: [&str; 4] =
    ["boot/grub/grub.cfg", "grub/grub.cfg", "boot/grub2/grub.cfg", "grub2/grub.cfg"];

/// The entry that GRUB would start first.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    kernel: String,
    initrd: Option<String>,
    words: String,
}

/// The sessions of which these disks hold a finished clone; `None` if they cannot be read in time.
pub(super) fn sessions(machine: &Machine, disks: &[Facts]) -> Option<Vec<SessionId>> {
    let (machine, disks) = (machine.clone(), disks.to_vec());
    let (tx, rx) = channel();
    // A broken disk may block its reader for ever.
    thread::Builder::new()
        .name("ka-look".into())
        .spawn(move || {
            let mut found = Vec::new();
            into_each(&machine, &mut Here, &disks, |_, top| {
                found.extend(mark::read(top));
                None::<()>
            });
            let _ = tx.send(found);
        })
        .ok()?;
    rx.recv_timeout(LOOK_TIME).ok()
}

/// Makes this machine's own kernel ready to be started; [`start`] does that.
///
/// # Errors
/// A sentence: there is no kexec, or nothing that could be started.
pub(super) fn load(machine: &Machine, runner: &mut dyn Runner) -> Result<(), Error> {
    if !runner.has("kexec") {
        return Err("there is no kexec (Debian's package kexec-tools) to do that with".into());
    }
    let disks = machine.disks().map_err(|e| e.to_string())?;
    let facts = disks.iter().filter_map(|disk| machine.facts(disk, 512).ok());
    // What the rescue system came from may look like a system, too.
    let fixed: Vec<Facts> = facts.filter(|facts| !facts.usb && !facts.removable).collect();
    into_each(machine, runner, &fixed, loads)
        .unwrap_or_else(|| Err("none of its file systems has a configuration of GRUB".into()))
}

/// Starts what was loaded. If it works, nothing comes after it.
///
/// # Errors
/// What kexec said.
pub(super) fn start(runner: &mut dyn Runner) -> Result<(), Error> {
    rustix::fs::sync();
    runner.write(&Call::new("kexec", ["--exec"])).map(drop).map_err(Error::from)
}

/// Looks into each file system of these disks, and into each subvolume, until something is found.
fn into_each<T>(
    machine: &Machine,
    runner: &mut dyn Runner,
    disks: &[Facts],
    mut look: impl FnMut(&mut dyn Runner, &Path) -> Option<T>,
) -> Option<T> {
    fs::create_dir_all(LOOK).ok()?;
    for facts in disks {
        let Ok(Some(found)) = write::look(runner, facts) else { continue };
        for partition in &found.partitions {
            let btrfs = partition.contents.as_ref().is_some_and(|contents| contents.fs == "btrfs");
            let seen = write::peek(machine, runner, facts, partition, Path::new(LOOK), |runner, at| {
                let below = if btrfs { subvolumes(runner, at) } else { Vec::new() };
                let mut tops = [at.to_path_buf()].into_iter().chain(below);
                tops.find_map(|top| look(runner, &top))
            });
            if let Some(Some(seen)) = seen {
                return Some(seen);
            }
        }
    }
    None
}

/// The subvolumes of a btrfs.
fn subvolumes(runner: &mut dyn Runner, at: &Path) -> Vec<PathBuf> {
    let list = Call::new("btrfs", ["subvolume".into(), "list".into(), at.display().to_string()]);
    let text = runner.read(&list).unwrap_or_default();
    let paths = text.lines().filter_map(|line| Some(at.join(line.split_once(" path ")?.1)));
    paths.take(SUBVOLUMES_MAX).collect()
}

/// Loads what the system at `root` would start; `None` if it would start nothing.
fn loads(runner: &mut dyn Runner, root: &Path) -> Option<Result<(), Error>> {
    let text = CONFIGURATIONS.iter().find_map(|path| fs::read(root.join(path)).ok())?;
    let entry = first(&String::from_utf8_lossy(&text))?;
    // A subvolume's own path begins at the file system's top, if the configuration has it.
    let at = |path: &str| {
        let path = path.trim_start_matches('/');
        let tops = [root, Path::new(LOOK)].map(|top| top.join(path));
        tops.iter().find(|path| path.exists()).unwrap_or(&tops[0]).display().to_string()
    };
    let mut args = vec!["--load".to_owned(), at(&entry.kernel), format!("--command-line={}", entry.words)];
    args.extend(entry.initrd.as_deref().map(|initrd| format!("--initrd={}", at(initrd))));
    Some(runner.write(&Call::new("kexec", args)).map(drop).map_err(Error::from))
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
