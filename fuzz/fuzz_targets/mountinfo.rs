//! Lines of mountinfo: any text gives each mount point once, its last mount, in the order of the lines.
#![no_main]

use std::collections::BTreeSet;

use ka_desc::machine::{mountinfo, unescape};
use ka_fuzz::{begin_with, file};
use libfuzzer_sys::fuzz_target;

/// btrfs subvolumes, an automount, a blank in a name, a mount above another one.
const MOUNTS: &str = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw,errors=remount-ro
28 27 0:40 / /efi rw - autofs systemd-1 rw,fd=43
29 28 8:1 / /efi rw - vfat /dev/sda1 rw
30 27 0:44 /@home /home rw - btrfs /dev/sda3 rw,subvolid=257,subvol=/@home
31 27 0:44 /@home/a /srv/a\\040b rw - btrfs /dev/sda3 rw,subvolid=257,subvol=/@home
34 27 0:50 / /net rw - nfs4 host:/srv rw
";

/// The mounts of a host of many containers.
fn many() -> Vec<u8> {
    let line = |n: u32| format!("{n} 27 0:{n} / /var/lib/containers/{} rw - overlay overlay ro,a=b\n", n / 2);
    (100..300).map(line).collect::<String>().into_bytes()
}

fuzz_target!(
    init: begin_with([MOUNTS.as_bytes().to_vec(), many()].into_iter().chain(file("/proc/self/mountinfo"))),
    |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        let lines = mountinfo::read(&text);
        assert!(lines.len() <= text.lines().count());
        let places: BTreeSet<_> = lines.iter().map(|line| &line.at).collect();
        assert_eq!(places.len(), lines.len());
        for line in &lines {
            let subvolume = line.subvolume().unwrap_or_default();
            assert!(!line.is_partial() || line.root.to_string_lossy().trim_start_matches('/') != subvolume);
            let _ = (line.kind(), line.is_writable());
        }
        // The last line is above all others.
        let last = text.lines().rev().find_map(|line| mountinfo::read(line).pop());
        assert_eq!(lines.last(), last.as_ref());
        // Bytes that are not UTF-8 may become longer by that.
        assert!(unescape(&text).as_os_str().len() <= 3 * text.len());
    }
);
