//! Files in folders where other users of this host may write, too.
//!
//! A file is made anew (`O_EXCL`), below the descriptor of its folder, and no link is followed. One that is there already
//! is written or replaced only if it is this user's own. A folder in which everybody may replace everybody's files is
//! refused. Absent: protection from who owns the folder, or is in a group that may write there.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::fd::cannot;

/// The permission to write, for the group and for everybody.
const OTHERS_WRITE: u32 = 0o022;

/// The same, for everybody.
const EVERYBODY_WRITES: u32 = 0o002;

/// The bit of a folder in which only a file's owner may remove it, as in `/tmp`.
const STICKY: u32 = 0o1000;

/// Opens the file at `path` to add to its end; a new one is for its owner alone.
///
/// # Errors
/// Names the path: it is a link, another user's file, neither a file nor a terminal or the like, or everybody may replace
/// files in its folder.
pub fn append(path: &Path) -> io::Result<File> {
    let failed = |e| cannot(format_args!("write {}", path.display()), &e);
    let (folder, name) = folder_of(path).map_err(failed)?;
    let flags = OFlags::WRONLY | OFlags::APPEND;
    let file = match make(&folder, name, flags, Mode::RUSR | Mode::WUSR) {
        // Nobody waits for the reader of a fifo.
        Err(Errno::EXIST) => open(&folder, name, flags | OFlags::NONBLOCK),
        made => made,
    };
    let file = file.map_err(|e| failed(reason(e)))?;
    let about = file.metadata().map_err(failed)?;
    if about.is_file() {
        check_file(&about).map_err(failed)?
    } else {
        check_character_device(&about).map_err(failed)?
    }
    Ok(file)
}

/// Finds that `path` is a directory of this user, or of root, that nobody else can write or exchange for a link.
///
/// # Errors
/// Names the path and the way out.
pub fn check_directory(path: &Path) -> io::Result<()> {
    let failed = |e| cannot(format_args!("use {}", path.display()), &e);
    let why = |text: &str| Err(failed(io::Error::new(io::ErrorKind::PermissionDenied, text)));
    let about = fs::symlink_metadata(path).map_err(failed)?;
    if !about.is_dir() {
        return why("it is a link or a file: remove it, and make a directory");
    }
    if !is_ours_or_roots(&about) || about.mode() & OTHERS_WRITE != 0 {
        return why(
            "other users may write there: make it anew, as this user, or chmod go-w a directory of this user's",
        );
    }
    let above = fs::metadata(above(path)).map_err(failed)?;
    if !is_ours_or_roots(&above) || above.mode() & OTHERS_WRITE != 0 && above.mode() & STICKY == 0 {
        return why("other users may replace it: choose a directory below one of root's or this user's");
    }
    Ok(())
}

/// Whether `path` is a regular file of this user, that has no other name and that nobody else can write.
#[must_use]
pub fn is_own_file(path: &Path) -> bool {
    let own = |about: Metadata| {
        about.is_file() && is_ours(&about) && about.nlink() == 1 && about.mode() & OTHERS_WRITE == 0
    };
    let folder = folder_of(path).is_ok();
    folder && fs::symlink_metadata(path).is_ok_and(own)
}

/// Refuses what is at `path` unless it is nothing, or a file of this user that another one may take the place of.
///
/// # Errors
/// Names the path and the way out.
pub fn check_place(path: &Path) -> io::Result<()> {
    let failed = |e| cannot(format_args!("write {}", path.display()), &e);
    folder_of(path).map_err(failed)?;
    match fs::symlink_metadata(path) {
        Ok(about) if about.is_file() => check_owner(&about).map_err(failed),
        Ok(_) => Err(failed(io::Error::other("it is not a regular file: remove it, or give another name"))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(failed(e)),
    }
}

/// Opens the folder of a file, and gives the file's name in it.
///
/// # Errors
/// The path ends in no name, or everybody may replace files in the folder.
pub(super) fn folder_of(path: &Path) -> io::Result<(File, &OsStr)> {
    let name = path.file_name().filter(|_| !path.as_os_str().as_bytes().ends_with(b"/"));
    let name = name.ok_or_else(|| io::Error::other("that is no file's name"))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = File::from(rustix::fs::open(above(path), flags, Mode::empty())?);
    let mode = folder.metadata()?.mode();
    if mode & EVERYBODY_WRITES != 0 && mode & STICKY == 0 {
        let why = "everybody may replace files in its directory: chmod +t that, or name a file elsewhere";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    Ok((folder, name))
}

/// The folder that a path is in.
fn above(path: &Path) -> &Path {
    match path.parent() {
        None => Path::new("/"),
        Some(above) if above == Path::new("") => Path::new("."),
        Some(above) => above,
    }
}

/// Makes a new file.
pub(super) fn make(folder: &File, name: &OsStr, flags: OFlags, mode: Mode) -> Result<File, Errno> {
    let new = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(folder, name, flags | new, mode).map(File::from)
}

/// Opens a file that is there, but no link.
pub(super) fn open(folder: &File, name: &OsStr, flags: OFlags) -> Result<File, Errno> {
    openat(folder, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).map(File::from)
}

/// Refuses another user's file.
pub(super) fn check_owner(about: &Metadata) -> io::Result<()> {
    if is_ours(about) { Ok(()) } else { Err(strangers(about.uid())) }
}

/// The error of another user's file.
pub(super) fn strangers(uid: u32) -> io::Error {
    let why =
        format!("it is there already, and of another user (number {uid}): remove it, or give another name");
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

fn check_file(about: &Metadata) -> io::Result<()> {
    check_owner(about)?;
    if about.nlink() > 1 {
        return Err(io::Error::other(
            "it has another name, too (a hard link): remove it, or give another name",
        ));
    }
    Ok(())
}

/// A console is root's, a terminal its user's.
fn check_character_device(about: &Metadata) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt;
    match about.file_type().is_char_device() {
        true => Ok(()),
        false => Err(io::Error::other("it is not a regular file: give another name")),
    }
}

fn reason(e: Errno) -> io::Error {
    match e {
        Errno::LOOP => io::Error::other("it is a symbolic link: name the file itself"),
        Errno::NXIO => io::Error::other("it is not a regular file: give another name"),
        e => e.into(),
    }
}

fn is_ours(about: &Metadata) -> bool {
    about.uid() == geteuid().as_raw()
}

fn is_ours_or_roots(about: &Metadata) -> bool {
    is_ours(about) || about.uid() == 0
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_bare_name_is_in_the_working_directory() {
        let cases = [("golden", "."), ("./golden", "."), ("a/b", "a"), ("/a", "/"), ("/", "/")];
        cases.into_iter().for_each(|(path, is)| assert_eq!(above(Path::new(path)), Path::new(is), "{path}"));
    }

    use std::io::Write;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};
    use std::path::PathBuf;

    use super::*;

    /// A user that is not this one.
    const STRANGER: u32 = 1 << 30;

    fn allow(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// A folder that is as `/tmp`.
    fn shared() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let shared = dir.path().join("shared");
        fs::create_dir(&shared).unwrap();
        allow(&shared, 0o1777);
        (dir, shared)
    }

    #[test]
    fn a_log_goes_into_a_file_of_ours_only() {
        let (dir, shared) = shared();
        let (log, precious) = (shared.join("log"), dir.path().join("precious"));
        for text in ["one ", "two"] {
            append(&log).unwrap().write_all(text.as_bytes()).unwrap();
        }
        assert_eq!(fs::read(&log).unwrap(), b"one two");
        assert_eq!(fs::metadata(&log).unwrap().mode() & 0o777, 0o600);
        append(Path::new("/dev/null")).unwrap();

        fs::write(&precious, "old").unwrap();
        let says = |text: &str| {
            let error = append(&log).unwrap_err().to_string();
            let start = format!("cannot write {}: ", log.display());
            assert!(error.starts_with(&start) && error.contains(text), "{error}");
            assert_eq!(fs::read(&precious).unwrap(), b"old");
            fs::remove_file(&log).unwrap();
        };
        let with = |make: &dyn Fn()| {
            let _ = fs::remove_file(&log);
            make();
        };
        with(&|| symlink(&precious, &log).unwrap());
        says("it is a symbolic link: name the file itself");
        with(&|| symlink("nothing", &log).unwrap());
        says("it is a symbolic link: name the file itself");
        with(&|| fs::hard_link(&precious, &log).unwrap());
        says("it has another name");
        with(&|| super::super::fd::tests::fifo(&log));
        says("it is not a regular file");
        if geteuid().is_root() {
            with(&|| {
                fs::write(&log, "").unwrap();
                chown(&log, Some(STRANGER), None).unwrap();
            });
            says("of another user (number 1073741824): remove it, or give another name");
        }
        allow(&shared, 0o777);
        let error = append(&log).unwrap_err().to_string();
        assert!(error.contains("everybody may replace files in its directory"), "{error}");
    }

    #[test]
    fn a_directory_is_used_if_nobody_else_can_change_it() {
        let (_dir, shared) = shared();
        let (ours, link) = (shared.join("ours"), shared.join("link"));
        fs::create_dir(&ours).unwrap();
        allow(&ours, 0o755);
        symlink(&ours, &link).unwrap();
        let says = |path: &Path, text: &str| {
            let error = check_directory(path).unwrap_err().to_string();
            assert!(error.starts_with(&format!("cannot use {}: ", path.display())), "{error}");
            assert!(error.contains(text), "{error}");
        };
        check_directory(&ours).unwrap();
        says(&link, "it is a link or a file");
        says(&shared.join("none"), "No such file");
        for mode in [0o775, 0o757, 0o1777] {
            allow(&ours, mode);
            says(&ours, "other users may write there");
        }
        allow(&ours, 0o755);
        allow(&shared, 0o777);
        says(&ours, "other users may replace it");
        allow(&shared, 0o1777);
        if geteuid().is_root() {
            chown(&ours, Some(STRANGER), None).unwrap();
            says(&ours, "other users may write there");
        }
    }

    #[test]
    fn a_file_is_our_own_if_nobody_else_has_written_it() {
        let (_dir, shared) = shared();
        let (file, link) = (shared.join("file"), shared.join("link"));
        fs::write(&file, "").unwrap();
        allow(&file, 0o600);
        assert!(is_own_file(&file) && check_place(&file).is_ok());
        assert!(!is_own_file(&link) && check_place(&link).is_ok());
        symlink(&file, &link).unwrap();
        assert!(!is_own_file(&link) && check_place(&link).is_err());
        allow(&file, 0o622);
        assert!(!is_own_file(&file));
        allow(&file, 0o600);
        allow(&shared, 0o777);
        assert!(!is_own_file(&file) && check_place(&file).is_err());
        allow(&shared, 0o1777);
        if geteuid().is_root() {
            chown(&file, Some(STRANGER), None).unwrap();
            assert!(!is_own_file(&file) && check_place(&file).is_err());
        }
    }
}
