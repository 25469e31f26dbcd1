//! A lock on what is written: one writer at a time, and who that is when it is somebody else.
//!
//! It is the kernel's (`flock`), and goes with the descriptor, however its process ends. Absent: any hold on those
//! who do not ask for it, such as a shell's `>`, and what everybody may write at once, such as `/dev/null`.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::process;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock, major, minor};
use rustix::io::Errno;

use super::fd::{STEP, pause};

/// The time that others may look at a disk before it is in use: udev takes a lock for that whenever one has changed.
const PATIENCE: Duration = Duration::from_secs(3);

/// The major number of `/dev/null` and its kin.
const MEMORY: u32 = 1;

/// The purpose of a locked file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    /// Others may read it, too.
    Reading,
    /// Nobody else may have it.
    Writing,
}

/// Locks `file` for as long as it is open. False where there are no locks.
///
/// # Errors
/// Somebody else has it: who, as far as the kernel tells, and what to do.
pub(super) fn lock(file: &File, what: For) -> io::Result<bool> {
    let metadata = file.metadata()?;
    if metadata.file_type().is_char_device() && major(metadata.rdev()) == MEMORY {
        return Ok(false);
    }
    let operation = match what {
        For::Reading => FlockOperation::NonBlockingLockShared,
        For::Writing => FlockOperation::NonBlockingLockExclusive,
    };
    let mut left = if metadata.file_type().is_block_device() { PATIENCE } else { Duration::ZERO };
    loop {
        match flock(file, operation) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) if left.is_zero() => return Err(in_use(holder(file))),
            Err(Errno::WOULDBLOCK) => {
                pause(STEP);
                left = left.saturating_sub(STEP);
            }
            Err(Errno::INTR) => {}
            // Not every file system has locks.
            Err(_) => return Ok(false),
        }
    }
}

/// Gives the lock up, also where a process that is just being started has a copy of the descriptor.
pub(super) fn unlock(file: &File) {
    let _ = flock(file, FlockOperation::Unlock);
}

/// The error for a disk that the kernel does not give to us alone.
pub(super) fn busy() -> io::Error {
    let why =
        "it is in use: mounted, swap, part of an array or a volume, or written by somebody else (see lsblk)";
    io::Error::new(io::ErrorKind::ResourceBusy, why)
}

fn in_use(holder: Option<u32>) -> io::Error {
    let who = match holder {
        Some(pid) if pid == process::id() => {
            "this program itself uses it already: give it another name".into()
        }
        Some(pid) => format!("{} uses it: wait for its end, end it, or give another name", name(pid)),
        None => "another program uses it: wait for its end, or give another name".to_owned(),
    };
    io::Error::new(io::ErrorKind::ResourceBusy, who)
}

fn name(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    match name.trim() {
        "" => format!("process {pid}"),
        name => format!("process {pid} ({name})"),
    }
}

/// The process that has a lock on this file, if the kernel tells.
fn holder(file: &File) -> Option<u32> {
    let metadata = file.metadata().ok()?;
    let locks = fs::read_to_string("/proc/locks").ok()?;
    find(&locks, (major(metadata.dev()), minor(metadata.dev())), metadata.ino())
}

/// Looks for it in the kernel's table: `1: FLOCK  ADVISORY  WRITE 4711 fe:00:123 0 EOF`.
fn find(locks: &str, (major, minor): (u32, u32), inode: u64) -> Option<u32> {
    let file = format!("{major:02x}:{minor:02x}:{inode}");
    locks.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (kind, pid, of) = (words.next()?, words.nth(2)?, words.next()?);
        // A number of 0 is somebody in another container.
        (kind == "FLOCK" && of == file).then(|| pid.parse().ok().filter(|pid| *pid != 0))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_found_in_the_kernel_s_table() {
        let locks = "1: POSIX  ADVISORY  WRITE 7 fe:00:123 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 8 fe:01:123 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 4711 fe:00:123 0 EOF\n\
                     3: -> FLOCK  ADVISORY  WRITE 9 fe:00:123 0 EOF\n\
                     4: FLOCK  ADVISORY  READ  0 00:05:9 0 EOF\n";
        assert_eq!(find(locks, (0xfe, 0), 123), Some(4711));
        assert_eq!(find(locks, (0, 5), 9), None);
        assert_eq!(find(locks, (0xfe, 0), 12), None);
        assert_eq!(find("", (0, 0), 0), None);
    }

    #[test]
    fn a_second_writer_is_told_who_the_first_is() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let again = || File::options().read(true).write(true).open(file.path()).unwrap();
        let (first, second) = (again(), again());
        assert!(lock(&first, For::Reading).unwrap() && lock(&second, For::Reading).unwrap());
        let said = lock(&first, For::Writing).unwrap_err();
        assert_eq!(said.kind(), io::ErrorKind::ResourceBusy);
        assert_eq!(said.to_string(), "this program itself uses it already: give it another name");
        unlock(&second);
        assert!(lock(&first, For::Writing).unwrap());
        assert!(lock(&second, For::Reading).is_err());

        let pid = process::id();
        assert!(name(pid).starts_with(&format!("process {pid} (")));
        let somebody = in_use(Some(pid.wrapping_add(1))).to_string();
        assert!(somebody.ends_with("uses it: wait for its end, end it, or give another name"), "{somebody}");
    }

    #[test]
    fn whoever_throws_away_is_alone_with_nobody() {
        let null = || File::options().write(true).open("/dev/null").unwrap();
        let (first, second) = (null(), null());
        assert!(!lock(&first, For::Writing).unwrap() && !lock(&second, For::Writing).unwrap());
    }
}
