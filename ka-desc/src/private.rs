//! A mount namespace of one's own: what is mounted in it is seen by nobody else, and goes with the last process in it,
//! however that ends.

use std::io;

use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Moves this thread into a mount namespace of its own. A program does that before it starts other threads, which would
/// stay outside; its children are inside. What is unmounted outside is unmounted inside, too.
///
/// # Errors
/// The system's: this needs root.
pub fn enter() -> io::Result<()> {
    unshare()?;
    // Else each mount here would be one there, too. What is unmounted there goes here as well, where mounts are shared,
    // as systemd makes them: nobody's stick is held.
    Ok(mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?)
}

#[allow(unsafe_code)]
fn unshare() -> io::Result<()> {
    // SAFETY: what makes this function unsafe is a table of file descriptors that is no longer shared, and that flag is
    // not given.
    Ok(unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?)
}
