//! A file that is not whole yet: `FILE.part` beside `FILE`, ours alone, and gone unless it becomes `FILE`.
//!
//! It is always a new file, so that nothing that has another name is written over, and locked while it is open. One
//! without a lock was left by a process that was killed, and is removed. What its directory is called is looked up
//! once: whatever becomes of that name, the file that takes the place of `FILE` is the one that was written. Neither file
//! is taken from another user: see [`ours`](super::ours).

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use rustix::fs::{
    AtFlags, Mode, OFlags, StatxAttributes, StatxFlags, fchmod, renameat, statat, statx, unlinkat,
};
use rustix::io::Errno;

use super::fd::{cannot, sync};
use super::lock::{For, lock};
use super::ours::{check_owner, folder_of, make, open, strangers};

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
    /// Names the part: somebody writes it (who), it is something other than a regular file of this user, or the system's
    /// reason. Or names the target: it is another user's, or cannot be replaced.
    pub(super) fn create(target: PathBuf, old: Option<&Metadata>, private: bool) -> io::Result<Self> {
        let failed = |e| cannot(format_args!("write {}.part", target.display()), &e);
        let (directory, name) = folder_of(&target).map_err(failed)?;
        let (mut part, name) = (name.to_owned(), name.to_owned());
        part.push(".part");
        if old.is_some() {
            let refused = |e| cannot(format_args!("write {}", target.display()), &e);
            check_replaceable(&directory, &name).map_err(refused)?;
        }
        let file = claim(&directory, &part, private).map_err(failed)?;
        let part = Self { file, directory, name: part, target: name, path: target };
        if let Some(old) = old
            && let Err(e) = part.resemble(old)
        {
            part.remove();
            return Err(e);
        }
        Ok(part)
    }

    /// Takes the permissions of the old target, which another user might choose if it were his. Not all file systems have
    /// owners as they are in this process, so the new file tells whose is ours.
    fn resemble(&self, old: &Metadata) -> io::Result<()> {
        let new = self.file.metadata().map_err(|e| self.cannot_write(&e))?;
        if new.uid() != old.uid() {
            return Err(cannot(format_args!("write {}", self.path.display()), &strangers(old.uid())));
        }
        // Not the set-id bits: the new file's group may be another.
        let mode = Mode::from_bits_truncate(old.permissions().mode() & 0o777);
        fchmod(&self.file, mode).map_err(|e| self.cannot_write(&e.into()))
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
    let why = if old.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
        "it is mounted there, so no other file can take its place; a command may write it: cat >FILE"
    } else if old.stx_attributes.intersects(StatxAttributes::IMMUTABLE | StatxAttributes::APPEND) {
        "it may not be replaced (see lsattr)"
    } else {
        return Ok(());
    };
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
}

/// Makes a new file of this name, and locks it.
fn claim(directory: &File, name: &OsString, private: bool) -> io::Result<File> {
    let mode = Mode::from_bits_truncate(if private { 0o600 } else { 0o666 });
    for _ in 0..TRIES {
        let (file, new) = match make(directory, name, OFlags::RDWR, mode) {
            Ok(file) => (file, true),
            // Non-blocking for the case of a fifo, which would wait; a regular file does not care.
            Err(Errno::EXIST) => match open(directory, name, OFlags::RDWR | OFlags::NONBLOCK) {
                Ok(file) => (file, false),
                Err(Errno::NOENT) => continue,
                Err(Errno::LOOP | Errno::NXIO | Errno::ISDIR) => return Err(odd()),
                Err(e) => return Err(e.into()),
            },
            Err(e) => return Err(e.into()),
        };
        let about = file.metadata()?;
        if !about.is_file() {
            return Err(odd());
        }
        if !new {
            check_owner(&about)?;
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
    io::Error::other("it is not a regular file: remove it")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::chown;
    use std::path::Path;

    use rustix::process::geteuid;

    use super::*;

    /// A user that is not this one.
    const STRANGER: u32 = 1 << 30;

    #[test]
    fn nothing_is_taken_from_another_user() {
        let dir = tempfile::tempdir().unwrap();
        let allow = |mode| fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
        let (path, part) = (dir.path().join("f"), dir.path().join("f.part"));
        let create = || Part::create(path.clone(), fs::metadata(&path).ok().as_ref(), false);
        let refused = |file: &Path, text: &str| {
            let error = create().unwrap_err().to_string();
            assert!(error.starts_with(&format!("cannot write {}: ", file.display())), "{error}");
            assert!(error.contains(text), "{error}");
        };
        allow(0o1777);
        assert!(create().unwrap().remove());
        for file in [&path, &part] {
            fs::write(file, "theirs").unwrap();
            fs::set_permissions(file, fs::Permissions::from_mode(0o666)).unwrap();
            if geteuid().is_root() {
                chown(file, Some(STRANGER), None).unwrap();
                refused(file, "of another user (number 1073741824): remove it, or give another name");
                assert_eq!(fs::read(file).unwrap(), b"theirs");
            }
            fs::remove_file(file).unwrap();
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        }
        allow(0o777);
        refused(&part, "everybody may replace files in its directory: chmod +t that");
    }
}
