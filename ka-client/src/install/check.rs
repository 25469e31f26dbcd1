//! `--check`: is everything here that a clone may need?

use ka_core::console::units;
use ka_desc::machine::Machine;
use ka_desc::run::{Here, Runner};
use ka_desc::write::READERS;

/// The programs that some plans need, and others do not; with Debian's package.
const SOMETIMES: [(&str, &str); 13] = [
    ("sfdisk", "fdisk"),
    ("blockdev", "util-linux"),
    ("mkswap", "util-linux"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mkfs.xfs", "xfsprogs"),
    ("mkfs.btrfs", "btrfs-progs"),
    ("btrfs", "btrfs-progs"),
    ("mkfs.vfat", "dosfstools"),
    ("mkfs.f2fs", "f2fs-tools"),
    ("mkfs.jfs", "jfsutils"),
    ("mkfs.ntfs", "ntfs-3g"),
    ("partclone.ntfs", "partclone"),
    ("efibootmgr", "efibootmgr"),
];

/// The programs that every plan needs, besides [`READERS`].
const ALWAYS: [(&str, &str); 4] =
    [("tar", "tar"), ("mount", "mount"), ("umount", "mount"), ("wipefs", "util-linux")];

/// The programs that every plan needs, each with its package.
pub(super) fn needed() -> Vec<(&'static str, &'static str)> {
    let readers = READERS.iter().map(|tool| (tool.program, tool.package));
    let mut always: Vec<_> = ALWAYS.into_iter().chain(readers).collect();
    always.sort_unstable();
    always.dedup();
    always
}

/// The result of a check of this machine for what clones need.
pub struct Checked {
    /// The programs that are missing or absent, and the disks, a line each.
    pub text: String,
    /// The number of missing programs that are always needed.
    pub missing: usize,
}

/// Lists what is missing on this machine, and its disks.
#[must_use]
pub fn check() -> Checked {
    let always = needed();
    let mut text = String::new();
    let mut missing = 0;
    for (program, package) in &always {
        if !Here.has(program) {
            missing += 1;
            text += &format!("MISSING  {program}, which is always needed: install {package}\n");
        }
    }
    for (program, package) in SOMETIMES.iter().filter(|tool| !always.contains(tool)) {
        if !Here.has(program) {
            text += &format!("absent   {program}, of use for some golden nodes: install {package}\n");
        }
    }
    let machine = Machine::default();
    for path in machine.disks().unwrap_or_default() {
        if let Ok(facts) = machine.facts(&path, 512) {
            let bus = if facts.usb { ", USB" } else { "" };
            let model = facts.model.first().map_or_else(String::new, |model| format!(", {model}"));
            let size = units::size(facts.geometry.disk_bytes);
            text += &format!("disk     {} {size}{model}{bus}\n", path.display());
            for u in &facts.uses {
                text += &format!("           in use: {u}\n");
            }
        }
    }
    text += if missing == 0 { "ok       everything that is always needed is here\n" } else { "" };
    Checked { text, missing }
}
