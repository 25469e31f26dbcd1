//! Which commands make a file system, and which tools a plan needs. Pure.

use crate::language::{Fs, Partition};
use crate::layout::Plan;
use crate::run::Call;

/// A program, and the Debian package that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tool {
    /// The program.
    pub program: &'static str,
    /// The package.
    pub package: &'static str,
}

const fn tool(program: &'static str, package: &'static str) -> Tool {
    Tool { program, package }
}

/// The tools that are needed to read a disk.
pub const READERS: [Tool; 2] = [tool("sfdisk", "fdisk"), tool("blkid", "util-linux")];

/// The tools that are needed to write `plan`. `loops`: there are no nodes for partitions. `deep`: not the table alone.
#[must_use]
pub fn tools(plan: &Plan, device: bool, loops: bool, deep: bool) -> Vec<Tool> {
    let mut list = vec![tool("wipefs", "util-linux")];
    list.extend(device.then_some(tool("blockdev", "util-linux")));
    if deep {
        list.extend(loops.then_some(tool("losetup", "mount")));
        for line in plan.partitions.iter().map(|p| &p.line) {
            list.extend(line.formatted().map(maker));
            if !line.subvolumes.is_empty() && line.formatted().is_some() {
                list.extend([tool("btrfs", "btrfs-progs"), tool("mount", "mount"), tool("umount", "mount")]);
            }
            if line.formatted() == Some(Fs::Jfs) && line.uuid.is_some() {
                list.push(tool("jfs_tune", "jfsutils"));
            }
        }
    }
    list.sort_unstable();
    list.dedup();
    list
}

/// The tool that makes such a file system.
#[must_use]
pub(super) fn maker(fs: Fs) -> Tool {
    match fs {
        Fs::Ext2 => tool("mkfs.ext2", "e2fsprogs"),
        Fs::Ext3 => tool("mkfs.ext3", "e2fsprogs"),
        Fs::Ext4 => tool("mkfs.ext4", "e2fsprogs"),
        Fs::Xfs => tool("mkfs.xfs", "xfsprogs"),
        Fs::Btrfs => tool("mkfs.btrfs", "btrfs-progs"),
        Fs::Vfat => tool("mkfs.vfat", "dosfstools"),
        Fs::Swap => tool("mkswap", "util-linux"),
        Fs::Jfs => tool("mkfs.jfs", "jfsutils"),
        Fs::F2fs => tool("mkfs.f2fs", "f2fs-tools"),
        Fs::Ntfs => tool("mkfs.ntfs", "ntfs-3g"),
    }
}

/// The commands that make the file system of `line` on `node`, of so many sectors; without the subvolumes.
#[must_use]
pub fn format(line: &Partition, node: &str, sectors: u64) -> Vec<Call> {
    let Some(fs) = line.formatted() else { return Vec::new() };
    let program = maker(fs).program;
    let mut args: Vec<String> = Vec::new();
    let mut say = |words: &[&str]| args.extend(words.iter().map(|w| (*w).to_owned()));
    let label = |flag: &'static str| line.label.as_deref().map(|label| [flag, label]);
    let uuid = |flag: &'static str| line.uuid.as_deref().map(|uuid| [flag, uuid]);
    match fs {
        Fs::Ext2 | Fs::Ext3 | Fs::Ext4 => {
            say(&["-F", "-q"]);
            label("-L").into_iter().chain(uuid("-U")).for_each(|pair| say(&pair));
        }
        Fs::Xfs => {
            say(&["-f", "-q"]);
            label("-L").into_iter().for_each(|pair| say(&pair));
            if let Some(uuid) = &line.uuid {
                say(&["-m", &format!("uuid={uuid}")]);
            }
        }
        Fs::Btrfs => {
            say(&["-f", "-q"]);
            label("-L").into_iter().chain(uuid("-U")).for_each(|pair| say(&pair));
        }
        Fs::Vfat => {
            // Firmware expects FAT32 on an ESP; with fewer clusters than this it is no FAT32, so mkfs decides.
            if sectors >= 66_000 {
                say(&["-F", "32"]);
            }
            label("-n").into_iter().for_each(|pair| say(&pair));
            if let Some(uuid) = &line.uuid {
                say(&["-i", &uuid.replace('-', "")]);
            }
        }
        Fs::Swap => label("-L").into_iter().chain(uuid("-U")).for_each(|pair| say(&pair)),
        Fs::Jfs => {
            say(&["-q"]);
            label("-L").into_iter().for_each(|pair| say(&pair));
        }
        Fs::F2fs => {
            say(&["-f", "-q"]);
            label("-l").into_iter().chain(uuid("-U")).for_each(|pair| say(&pair));
        }
        Fs::Ntfs => {
            say(&["-Q", "-F", "-q"]);
            label("-L").into_iter().for_each(|pair| say(&pair));
        }
    }
    say(&[node]);
    let mut calls = vec![Call::new(program, args)];
    // mkfs.jfs takes no UUID.
    let jfs_uuid = line.uuid.as_ref().filter(|_| fs == Fs::Jfs);
    calls.extend(jfs_uuid.map(|uuid| Call::new("jfs_tune", ["-U", uuid, node])));
    calls
}
