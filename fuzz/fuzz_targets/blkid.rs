//! The output of blkid for udev: any text is read, and what is read is no longer than the text.
#![no_main]

use ka_desc::machine::contents;
use ka_fuzz::{begin_with, image, output};
use libfuzzer_sys::fuzz_target;

/// A label of two words, a backslash, and an end in the middle of an escape.
const EXT4: &str = "ID_FS_LABEL=My_Disk\nID_FS_LABEL_ENC=My\\x20\\x5cDisk\\x\nID_FS_UUID=8d3f2c1e\n\
                    ID_FS_UUID_ENC=8d3f2c1e\nID_FS_VERSION=1.0\nID_FS_TYPE=ext4\nID_FS_USAGE=filesystem\n";

fn made(program: &str, args: &[&str]) -> Option<Vec<u8>> {
    let probe = ["--probe", "--output", "udev"];
    image(64 << 20, program, args, |path| output("blkid", &[&probe[..], &[path]].concat()))
}

fn seeds() -> impl Iterator<Item = Vec<u8>> {
    let disks = [
        made("mkfs.ext4", &["-q", "-F", "-L", "a b\\c"]),
        made("mkfs.vfat", &["-n", "A B"]),
        made("mkfs.ntfs", &["--quiet", "--fast", "--force", "--label", "a/b"]),
        made("mkswap", &["--label", "\u{e9}"]),
    ];
    std::iter::once(EXT4.as_bytes().to_vec()).chain(disks.into_iter().flatten())
}

fuzz_target!(init: begin_with(seeds()), |bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let Some(contents) = contents(&text) else {
        assert!(!text.lines().any(|line| line.starts_with("ID_FS_TYPE=")));
        return;
    };
    // A byte that is no UTF-8 takes four characters as it is escaped, and three bytes as it is replaced.
    let values = [Some(contents.fs), contents.label, contents.uuid];
    assert!(values.iter().flatten().map(String::len).sum::<usize>() <= text.len());
});
