//! The options that mount a file system such that nothing is written, not even its journal. Pure.

/// The options with which a file system of this type is mounted without a write, of a btrfs what is topmost; `None` if it
/// is none that can be looked into.
#[must_use]
pub fn quiet_options(fs: &str) -> Option<&'static str> {
    Some(match fs {
        "ext3" | "ext4" => "ro,noload",
        "xfs" => "ro,norecovery,nouuid",
        "btrfs" => "ro,rescue=nologreplay",
        "ext2" | "vfat" | "f2fs" | "jfs" => "ro",
        _ => return None,
    })
}
