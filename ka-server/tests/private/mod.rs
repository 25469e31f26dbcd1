//! Programs that see a test's directories in the place of the system's: `/etc`, where a key may be kept.
#![allow(dead_code, reason = "each file of tests takes what it needs")]

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

/// Whether these tests are run by root.
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

/// Whether there are such programs. If not, it is said, past the test runner; with `KA_EVERYTHING` it is a failure.
pub(crate) fn can_run(test: &str) -> bool {
    let can =
        Command::new("unshare").args(["--mount", "true"]).output().is_ok_and(|out| out.status.success());
    if !can {
        assert!(std::env::var_os("KA_EVERYTHING").is_none(), "{test}: no mount namespace is to be had");
        let _ = writeln!(io::stderr(), "test {test} cannot run here: no mount namespace is to be had");
    }
    can
}

/// A command to be completed by a program's path and arguments. Each of `shown` is a directory or file of the test's, and
/// the place where the program sees it.
pub(crate) fn with(shown: &[(&Path, &str)]) -> Command {
    let mut script = String::from("set -e; ");
    for (at, (_, place)) in (1..).zip(shown) {
        script += &format!("mount --bind \"${at}\" {place}; ");
    }
    script += &format!("shift {}; exec \"$@\"", shown.len());
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]);
    command.args(shown.iter().map(|(path, _)| path));
    command
}
