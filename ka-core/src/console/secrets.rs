//! The secrets of a process: those of its environment, which no command inherits, and its memory, which nobody reads.

use std::ffi::OsString;
use std::sync::OnceLock;
use std::{env, fs, io};

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// The variables that are a key, or say where it is.
const VARIABLES: [&str; 2] = ["KA_KEY", "KA_KEY_FILE"];

/// The values that the environment had.
static TAKEN: OnceLock<Vec<(&str, OsString)>> = OnceLock::new();

/// Makes this process one that holds secrets: a crash leaves no image of its memory, no other process of this user can
/// trace it or read its memory, and commands that it runs do not inherit the key. A program does this first of all.
///
/// A limit of core files would not do: commands would inherit it, and a system that pipes the images to a program ignores
/// it.
///
/// # Errors
/// There is a key in the environment, and it cannot be taken out any more, because there may be other threads.
pub fn keep() -> io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let found: Vec<_> = VARIABLES.into_iter().filter_map(|name| Some((name, env::var_os(name)?))).collect();
    if found.is_empty() {
        return Ok(());
    }
    let threads = fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    if threads != 1 {
        let why = "KA_KEY and KA_KEY_FILE are taken out of the environment by the only thread of a program, and /proc does \
                   not show that it is: give the key by --key-file";
        return Err(io::Error::other(why));
    }
    for (name, _) in &found {
        remove(name);
    }
    TAKEN.get_or_init(|| found);
    Ok(())
}

/// What the environment said, before or now.
pub(super) fn variable(name: &str) -> Option<OsString> {
    let taken = TAKEN.get().into_iter().flatten().find(|(taken, _)| *taken == name);
    taken.map(|(_, value)| value.clone()).or_else(|| env::var_os(name))
}

#[allow(unsafe_code)]
fn remove(name: &str) {
    // SAFETY: no other thread reads the environment meanwhile: the caller has seen that there is none.
    unsafe { env::remove_var(name) }
}
