//! A file that is not whole yet: `FILE.part` beside `FILE`, ours alone, and gone unless it becomes `FILE`.
//!
//! It is always a new file, so that nothing that has another name is written over, and locked while it is open. One
//! without a lock was left by a process that was killed, and is removed. What its directory is called is looked up
//! once: whatever becomes of that name, the file that takes the place of `FILE` is the one that was written.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Mode, OFlags, StatxAttributes, StatxFlags, fchmod, openat, renameat, statat, statx, unlinkat,
};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::fd::{cannot, sync};
use super::lock::{For, lock};

/// The number of times that somebody else may be faster before we give up.
const TRIES: usize = 16;

/// `FILE.part`, open for reading and writing.
#[derive(Debug)]
pub(super) struct Part {
    file: File,
    directory: File,
    name: OsString,
    target: OsString,
    /// The target's path, for messages.
    path: PathBuf,
}

impl Part {
    /// Makes `target` with `.part` behind its name; with the permissions of the `old` target, if there is one, and
    /// otherwise for its owner alone if it is `private`.
    ///
    /// # Errors
    /// Names the part: somebody writes it (who), it is something other than a regular file, or the system's reason.
    pub(super) fn create(target: PathBuf, old: Option<&Metadata>, private: bool) -> io::Result<Self> {
        let failed = |e| cannot(format_args!("write {}.part", target.display()), &e);
        let name = target.file_name().filter(|_| !target.as_os_str().as_bytes().ends_with(b"/"));
        let name = name.ok_or_else(|| failed(io::Error::other("that is no file's name")))?.to_owned();
        let mut part = name.clone();
        part.push(".part");
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(directory_of(&target), flags, Mode::empty());
        let directory = File::from(directory.map_err(|e| failed(e.into()))?);
        if old.is_some() {
            let refused = |e| cannot(format_args!("write {}", target.display()), &e);
            check_replaceable(&directory, &name).map_err(refused)?;
        }
        let file = claim(&directory, &part, private).map_err(failed)?;
        let part = Self { file, directory, name: part, target: name, path: target };
        if let Some(old) = old {
            // Not the set-id bits: the new file's owner may be another.
            let mode = Mode::from_bits_truncate(old.permissions().mode() & 0o777);
            if let Err(e) = fchmod(&part.file, mode) {
                part.remove();
                return Err(part.cannot_write(&e.into()));
            }
        }
        Ok(part)
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Makes it its target, for good. It must have been synced.
    ///
    /// # Errors
    /// Names what cannot be written.
    pub(super) fn keep(&self) -> io::Result<()> {
        let failed = |e| cannot(format_args!("write {}", self.path.display()), &e);
        let is_here = |name| is_at(&self.directory, name, &self.file);
        let replaced = || self.cannot_write(&io::Error::other("somebody removed or replaced it meanwhile"));
        if !is_here(&self.name).map_err(failed)? {
            return Err(replaced());
        }
        renameat(&self.directory, &self.name, &self.directory, &self.target).map_err(|e| failed(e.into()))?;
        if !is_here(&self.target).map_err(failed)? {
            return Err(replaced());
        }
        sync(&self.directory).map_err(failed)
    }

    /// Removes it unless it has become its target, and says whether nothing of it is left. A thread with fewer rights
    /// may be unable to.
    pub(super) fn remove(&self) -> bool {
        match is_at(&self.directory, &self.name, &self.file) {
            Ok(true) => unlinkat(&self.directory, &self.name, AtFlags::empty()).is_ok(),
            Ok(false) => true,
            Err(_) => false,
        }
    }

    pub(super) fn cannot_write(&self, error: &io::Error) -> io::Error {
        cannot(format_args!("write {}.part", self.path.display()), error)
    }
}

/// Refuses a file whose place cannot be taken: better now than when all bytes are here. What the kernel does not tell now,
/// it tells then.
fn check_replaceable(directory: &File, name: &OsString) -> io::Result<()> {
    let (flags, mask) = (AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS);
    let Ok(old) = statx(directory, name, flags, mask) else { return Ok(()) };
    let directory = directory.metadata()?;
    let (us, owners) = (geteuid(), [directory.uid(), old.stx_uid]);
    let sticky = directory.mode() & 0o1000 != 0;
    let why = if old.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
        "it is mounted there, so no other file can take its place; a command may write it: cat >FILE"
    } else if old.stx_attributes.intersects(StatxAttributes::IMMUTABLE | StatxAttributes::APPEND) {
        "it may not be replaced (see lsattr)"
    } else if sticky && !us.is_root() && !owners.contains(&us.as_raw()) {
        "it is somebody else's, and in its directory only its owner may replace it"
    } else {
        return Ok(());
    };
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
}

/// Makes a new file of this name, and locks it.
fn claim(directory: &File, name: &OsString, private: bool) -> io::Result<File> {
    let mode = Mode::from_bits_truncate(if private { 0o600 } else { 0o666 });
    for _ in 0..TRIES {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = openat(directory, name, flags | OFlags::CREATE | OFlags::EXCL, mode);
        let (file, new) = match made {
            Ok(file) => (File::from(file), true),
            // Non-blocking for the case of a fifo, which would wait; a regular file does not care.
            Err(Errno::EXIST) => match openat(directory, name, flags | OFlags::NONBLOCK, Mode::empty()) {
                Ok(file) => (file.into(), false),
                Err(Errno::NOENT) => continue,
                Err(Errno::LOOP | Errno::NXIO | Errno::ISDIR) => return Err(odd()),
                Err(e) => return Err(e.into()),
            },
            Err(e) => return Err(e.into()),
        };
        if !file.metadata()?.is_file() {
            return Err(odd());
        }
        let locked = lock(&file, For::Writing)?;
        // Before it was locked, it may have become its target, or been taken for a dead one.
        if !is_at(directory, name, &file)? {
            continue;
        }
        if new {
            return Ok(file);
        }
        if !locked {
            let why = "it is there already, and nothing tells here whether somebody still writes it: remove it if not";
            return Err(io::Error::other(why));
        }
        unlinkat(directory, name, AtFlags::empty())?;
    }
    Err(io::Error::new(io::ErrorKind::ResourceBusy, "others make and remove it all the time"))
}

/// Whether this name is that of this open file.
fn is_at(directory: &File, name: &OsString, file: &File) -> io::Result<bool> {
    let ours = file.metadata()?;
    match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(there) => Ok((there.st_dev, there.st_ino) == (ours.dev(), ours.ino())),
        Err(Errno::NOENT) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

fn odd() -> io::Error {
    io::Error::other("it is not a regular file")
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}
