//! Which programs a rescue system has, and the Debian packages they come from.

use ka_desc::write::Tool;

/// Our own; they are static, and so need nothing else.
pub(super) const BINARIES: [&str; 3] = ["ka-d-install", "ka-d-client", "ka-desc"];

/// The command that builds static ones.
pub(super) const BUILD: &str = "cargo static";

/// Without these, no rescue.
pub(super) const REQUIRED: &[Tool] = &[
    tool("busybox", "busybox-static"),
    tool("modprobe", "kmod"),
    tool("blkid", "util-linux"),
    tool("blockdev", "util-linux"),
    tool("chroot", "coreutils"),
    tool("losetup", "mount"),
    tool("mkfs.ext2", "e2fsprogs"),
    tool("mkfs.ext3", "e2fsprogs"),
    tool("mkfs.ext4", "e2fsprogs"),
    tool("mkswap", "util-linux"),
    tool("mount", "mount"),
    tool("sfdisk", "fdisk"),
    tool("tar", "tar"),
    tool("umount", "mount"),
    tool("wipefs", "util-linux"),
];

/// The programs that some clones need, and others do not. There is nothing for arrays and mapped devices: without the
/// kernel's modules for them, no old one of a disk can be in use.
pub(super) const OPTIONAL: &[Tool] = &[
    tool("btrfs", "btrfs-progs"),
    tool("mkfs.btrfs", "btrfs-progs"),
    tool("mkfs.f2fs", "f2fs-tools"),
    tool("mkfs.jfs", "jfsutils"),
    tool("jfs_tune", "jfsutils"),
    tool("mkfs.ntfs", "ntfs-3g"),
    tool("mkfs.vfat", "dosfstools"),
    tool("mkfs.xfs", "xfsprogs"),
    tool("efibootmgr", "efibootmgr"),
    tool("kexec", "kexec-tools"),
    tool("partclone.restore", "partclone"),
];

/// Programs whose names begin so go along, too.
pub(super) const FAMILY: &str = "partclone.";

/// Programs load this one when a thread of theirs ends early; their headers do not say so.
pub(super) const LOADED_LATER: &str = "libgcc_s.so.1";

/// The applets of busybox that the first script needs.
const APPLETS: [&str; 6] = ["ash", "cttyhack", "ip", "setsid", "udhcpc", "xargs"];

const fn tool(program: &'static str, package: &'static str) -> Tool {
    Tool { program, package }
}

/// Returns the applets that this busybox lacks. The names of its applets are in it, one after another.
pub(super) fn lacking(busybox: &[u8]) -> Vec<&'static str> {
    let has = |name: &str| {
        let text = [b"\0", name.as_bytes(), b"\0"].concat();
        busybox.windows(text.len()).any(|bytes| bytes == text)
    };
    APPLETS.into_iter().filter(|name| !has(name)).collect()
}

/// Programs by package, as in `apt install`'s line: a sentence each.
pub(super) fn sentences(missing: &[Tool]) -> Vec<String> {
    let mut packages: Vec<&str> = missing.iter().map(|tool| tool.package).collect();
    packages.sort_unstable();
    packages.dedup();
    let programs = |package: &str| {
        let of = missing.iter().filter(|tool| tool.package == package).map(|tool| tool.program);
        of.collect::<Vec<_>>().join(", ")
    };
    packages.iter().map(|package| format!("{} (Debian's package {package})", programs(package))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_by_package() {
        let missing = [tool("mount", "mount"), tool("tar", "tar"), tool("umount", "mount")];
        let expected = ["mount, umount (Debian's package mount)", "tar (Debian's package tar)"];
        assert_eq!(sentences(&missing), expected);
    }

    #[test]
    fn a_busybox_says_its_applets() {
        assert_eq!(lacking(b"\0ash\0cttyhack\0ip\0setsid\0xargs\0"), ["udhcpc"]);
    }
}
