//! A small system tree that a rescue system is made of.
#![allow(dead_code, reason = "each file of tests takes what it needs")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use tempfile::TempDir;

pub(crate) const VERSION: &str = "6.1.0-test";

/// A system with all that is required, and static programs of ours in `bin`.
pub(crate) struct System(pub(crate) TempDir);

impl System {
    pub(crate) fn new() -> Self {
        let system = Self(tempfile::tempdir().unwrap());
        for tool in ["modprobe", "blkid", "blockdev", "losetup", "mkfs.ext2", "mkfs.ext3", "mkswap", "sfdisk"]
            .into_iter()
            .chain(["wipefs", "partclone.restore"])
        {
            system.program(&format!("root/usr/sbin/{tool}"), b"#!/bin/sh\n");
        }
        for tool in ["chroot", "mount", "tar", "umount"] {
            system.program(&format!("root/usr/bin/{tool}"), b"#!/bin/sh\n");
        }
        system.program("root/usr/bin/busybox", b"\0ash\0cttyhack\0ip\0setsid\0udhcpc\0xargs\0");
        symlink("mkfs.ext2", system.path("root/usr/sbin/mkfs.ext4")).unwrap();
        for (link, target) in [("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib")] {
            symlink(target, system.path("root").join(link)).unwrap();
        }
        let modules = format!("root/usr/lib/modules/{VERSION}");
        let card = "kernel/drivers/net/ethernet/x/card.ko";
        system.file(&format!("{modules}/{card}"), b"\x7fELF\0firmware=x/card.fw\0firmware=x/none.fw\0");
        system.file(&format!("{modules}/kernel/lib/sums.ko"), b"");
        system.file(&format!("{modules}/kernel/drivers/gpu/picture.ko"), b"");
        let dep =
            format!("{card}: kernel/lib/sums.ko\nkernel/lib/sums.ko:\nkernel/drivers/gpu/picture.ko:\n");
        system.file(&format!("{modules}/modules.dep"), dep.as_bytes());
        for index in ["modules.dep.bin", "modules.alias.bin"] {
            system.file(&format!("{modules}/{index}"), b"");
        }
        system.file("root/usr/lib/firmware/x/card.fw", b"firmware");
        system.file(&format!("root/boot/vmlinuz-{VERSION}"), b"kernel");
        // The beginning of a program that needs nothing.
        let mut program = b"\x7fELF\x02\x01".to_vec();
        program.resize(64, 0);
        for name in ["ka-d-install", "ka-d-client", "ka-desc"] {
            system.program(&format!("bin/{name}"), &program);
        }
        system
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    pub(crate) fn file(&self, path: &str, bytes: &[u8]) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), bytes).unwrap();
    }

    pub(crate) fn program(&self, path: &str, bytes: &[u8]) {
        self.file(path, bytes);
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(0o755)).unwrap();
    }
}
