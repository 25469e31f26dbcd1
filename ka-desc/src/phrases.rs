//! The texts of other tools by which programs decide, where no exit status says it. Tools run with `LC_ALL=C.UTF-8`.

use crate::run::Failure;

/// Whether sfdisk found no partition table.
#[must_use]
pub fn has_no_table(failure: &Failure) -> bool {
    failure.said.contains("does not contain a recognized partition table")
}

/// Whether umount found that somebody uses what is mounted.
#[must_use]
pub fn is_busy(failure: &Failure) -> bool {
    failure.said.contains("busy")
}

/// Whether a line of partclone only says that it failed, and not why.
#[must_use]
pub fn is_partclones_end(line: &str) -> bool {
    line.starts_with("Partclone fail")
}
