//! A system's files: read and changed below its root, wherever its symbolic links point.
//!
//! Links are followed as that system itself would: an absolute one begins at its root, and none leads out of it.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, XattrFlags, fchmod, fchown, fgetxattr,
    flistxattr, fsetxattr, fstat, mkdirat, openat, openat2, readlinkat, renameat, statat, unlinkat,
};
use rustix::io::Errno;

use crate::error::Error;

/// The longest text of a system that is read. A `grub.cfg` of many kernels has a tenth of it.
pub const TEXT_BYTES_MAX: u64 = 4 << 20;

/// Links of a path's last name that are followed, as the kernel does.
const LINKS_MAX: usize = 40;

/// The suffix of a file's name before it takes the place of another one.
const NEW: &str = ".ka-new";

/// The directories with programs, those for root first.
pub const PROGRAMS: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// A file of a system that cannot be used.
#[derive(Debug)]
pub struct FileError {
    /// The path below the system's root.
    pub path: String,
    /// Which system it is, for people.
    pub system: &'static str,
    /// Why.
    pub cause: io::Error,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}: {}", self.path, self.system, self.cause)
    }
}

impl std::error::Error for FileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

/// A system's files.
#[derive(Debug)]
pub struct Tree {
    root: OwnedFd,
    /// The root's path on this machine, without symbolic links.
    path: PathBuf,
    system: &'static str,
}

impl Tree {
    /// The system below `root`, which errors call `system`: "the clone".
    ///
    /// # Errors
    /// There is no such directory.
    pub fn open(root: &Path, system: &'static str) -> Result<Self, FileError> {
        let open = || -> io::Result<Self> {
            let path = fs::canonicalize(root)?;
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            Ok(Self { root: openat(CWD, &path, flags, Mode::empty())?, path, system })
        };
        open().map_err(|cause| FileError { path: root.display().to_string(), system, cause })
    }

    /// The real path of `path` in the system, with all links followed; `None`: there is none.
    #[must_use]
    pub fn real(&self, path: &str) -> Option<String> {
        let file = self.at(path, OFlags::PATH).ok()?;
        let real = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()?;
        Some(format!("/{}", real.strip_prefix(&self.path).ok()?.to_str()?))
    }

    /// The path on this machine of what is in the system at `real`, which follows no links: one that
    /// [`real`](Self::real) has returned.
    #[must_use]
    pub fn host(&self, real: &str) -> PathBuf {
        self.path.join(real.trim_start_matches('/'))
    }

    /// The path on this machine of a regular file.
    ///
    /// # Errors
    /// There is none.
    pub fn file(&self, path: &str) -> Result<PathBuf, FileError> {
        let file = self.real(path).map(|real| self.host(&real)).filter(|file| file.is_file());
        file.ok_or_else(|| self.missing(path))
    }

    /// The contents of a text file; what is no UTF-8 is replaced.
    ///
    /// # Errors
    /// There is none, it is longer than [`TEXT_BYTES_MAX`], or it cannot be read.
    pub fn text(&self, path: &str) -> Result<String, FileError> {
        let bytes = self.read(path, TEXT_BYTES_MAX)?.ok_or_else(|| self.missing(path))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The path of an executable in one of [`PROGRAMS`].
    #[must_use]
    pub fn program(&self, name: &str) -> Option<String> {
        let can_start = |file: &Path| {
            fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
        };
        let mut paths = PROGRAMS.iter().map(|folder| format!("{folder}/{name}"));
        paths.find(|path| self.file(path).is_ok_and(|file| can_start(&file)))
    }

    /// A file's bytes; `None` if there is no such file.
    pub fn read(&self, path: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, FileError> {
        let Some(file) = self.absent(path, self.at(path, OFlags::RDONLY | OFlags::NONBLOCK))? else {
            return Ok(None);
        };
        let meta = fstat(&file).map_err(|e| self.error(path, e))?;
        if FileType::from_raw_mode(meta.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        if meta.st_size as u64 > bytes_max {
            return Err(self.error(path, io::Error::other(format!("it is longer than {bytes_max} bytes"))));
        }
        let mut bytes = Vec::new();
        File::from(file).take(bytes_max).read_to_end(&mut bytes).map_err(|e| self.error(path, e))?;
        Ok(Some(bytes))
    }

    /// Whether there is a file, a link to one, or a directory.
    pub fn has(&self, path: &str) -> bool {
        self.at(path, OFlags::PATH).is_ok()
    }

    /// The names in a directory, sorted; none if there is no such directory.
    pub fn list(&self, path: &str) -> Result<Vec<String>, FileError> {
        let Some(dir) = self.absent(path, self.at(path, OFlags::RDONLY | OFlags::DIRECTORY))? else {
            return Ok(Vec::new());
        };
        let mut names = Vec::new();
        for entry in Dir::new(dir).map_err(|e| self.error(path, e))? {
            let name = entry.map_err(|e| self.error(path, e))?.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// A path as its names are written, found without regard to case, as vfat does; `None` if there is none.
    pub fn find(&self, path: &str) -> Result<Option<String>, FileError> {
        let mut found = String::new();
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let names = self.list(if found.is_empty() { "/" } else { &found })?;
            let same = names.iter().find(|is| *is == name);
            let Some(is) = same.or_else(|| names.iter().find(|is| is.eq_ignore_ascii_case(name))) else {
                return Ok(None);
            };
            found = format!("{found}/{is}");
        }
        Ok(Some(found))
    }

    /// Puts `bytes` in the place of a file, in one step. Owner, mode and extended attributes stay what they were; a
    /// new file is root's, and readable.
    pub fn replace(&self, path: &str, bytes: &[u8]) -> Result<(), FileError> {
        let path = self.behind_links(path)?;
        self.replace_file(&path, bytes).map_err(|e| self.error(&path, e))
    }

    fn replace_file(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let (dir, name) = self.parent(path)?;
        let old =
            match openat(&dir, &name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
                Ok(old) => Some(old),
                Err(Errno::NOENT) => None,
                Err(e) => return Err(e.into()),
            };
        let mut new_name = name.clone();
        new_name.push(NEW);
        // What an interrupted run has left.
        let _ = unlinkat(&dir, &new_name, AtFlags::empty());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let new = openat(&dir, &new_name, flags, Mode::from_raw_mode(0o644))?;
        let mut file = File::from(new);
        let written = file.write_all(bytes).and_then(|()| old.map_or(Ok(()), |old| like(&file, &old)));
        let done =
            written.and_then(|()| file.sync_all()).and_then(|()| Ok(renameat(&dir, &new_name, &dir, &name)?));
        if done.is_err() {
            let _ = unlinkat(&dir, &new_name, AtFlags::empty());
        }
        done
    }

    /// Takes away a file or a link; whether there was one.
    pub fn remove(&self, path: &str) -> Result<bool, FileError> {
        let removed = self.parent(path).and_then(|(dir, name)| Ok(unlinkat(dir, name, AtFlags::empty())?));
        Ok(self.absent(path, removed)?.is_some())
    }

    /// Whether it is a file, and no link to one.
    pub fn is_own_file(&self, path: &str) -> bool {
        let meta =
            self.parent(path).and_then(|(dir, name)| Ok(statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?));
        meta.is_ok_and(|meta| FileType::from_raw_mode(meta.st_mode) == FileType::RegularFile)
    }

    /// Makes a directory and those above it, where they are missing.
    pub fn make_dir(&self, path: &str) -> Result<(), FileError> {
        let mut at = String::new();
        for name in path.split('/').filter(|name| !name.is_empty()) {
            at = format!("{at}/{name}");
            let made =
                self.parent(&at).and_then(|(dir, name)| Ok(mkdirat(dir, name, Mode::from_raw_mode(0o755))?));
            match made {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(self.error(&at, e)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Says who may do what with a directory.
    pub fn set_mode(&self, path: &str, mode: u32) -> Result<(), FileError> {
        let dir = self.at(path, OFlags::RDONLY | OFlags::DIRECTORY).map_err(|e| self.error(path, e))?;
        fchmod(dir, Mode::from_raw_mode(mode)).map_err(|e| self.error(path, e))
    }

    /// Whether each name of the path is a directory's, and no link.
    pub fn is_real_dir(&self, path: &str) -> bool {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
        openat2(&self.root, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty(), resolve)
            .is_ok()
    }

    /// The target of a symbolic link; `None` if `path` is no link.
    pub fn link(&self, path: &str) -> Option<String> {
        let (dir, name) = self.parent(path).ok()?;
        let target = readlinkat(dir, name, Vec::new()).ok()?;
        String::from_utf8(target.into_bytes()).ok()
    }

    /// The path of what a link stands for, of that one's, and so on.
    fn behind_links(&self, path: &str) -> Result<String, FileError> {
        let mut path = path.to_owned();
        for _ in 0..LINKS_MAX {
            let Some(target) = self.link(&path) else { return Ok(path) };
            // The kernel resolves what is above the last name; `..` at the root stays there.
            path = match Path::new(&path).parent() {
                Some(parent) if !target.starts_with('/') => parent.join(&target).display().to_string(),
                _ => target,
            };
        }
        Err(self.error(&path, io::Error::other("a circle of symbolic links")))
    }

    /// The directory that a path's last name is in, and that name.
    fn parent(&self, path: &str) -> io::Result<(OwnedFd, OsString)> {
        let path = PathBuf::from(path);
        let name = path.file_name().ok_or(Errno::INVAL)?.to_owned();
        let parent = path.parent().map_or_else(|| "/".into(), |dir| dir.display().to_string());
        Ok((self.at(&parent, OFlags::PATH | OFlags::DIRECTORY)?, OsString::from_vec(name.into_vec())))
    }

    fn missing(&self, path: &str) -> FileError {
        self.error(path, io::Error::new(io::ErrorKind::NotFound, "there is no such file"))
    }

    fn error(&self, path: &str, cause: impl Into<io::Error>) -> FileError {
        FileError { path: path.into(), system: self.system, cause: cause.into() }
    }

    /// A missing file is no failure.
    fn absent<T>(&self, path: &str, result: io::Result<T>) -> Result<Option<T>, FileError> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(e) => Err(self.error(path, e)),
        }
    }

    fn at(&self, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let path = if path.is_empty() { "/" } else { path };
        Ok(openat2(&self.root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?)
    }
}

/// Gives a new file what is known of the old one.
fn like(new: &File, old: &OwnedFd) -> io::Result<()> {
    let meta = fstat(old)?;
    let is = fstat(new)?;
    // vfat has one owner for all, and says so when it is asked for another.
    if (is.st_uid, is.st_gid) != (meta.st_uid, meta.st_gid) {
        fchown(new, Some(Uid::from_raw(meta.st_uid)), Some(Gid::from_raw(meta.st_gid)))?;
    }
    if is.st_mode != meta.st_mode {
        fchmod(new, Mode::from_raw_mode(meta.st_mode))?;
    }
    let mut names = vec![0; 64 << 10];
    let used = match flistxattr(old, &mut names) {
        Err(Errno::OPNOTSUPP) => return Ok(()),
        used => used?,
    };
    for name in names[..used].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 64 << 10];
        let used = fgetxattr(old, name, &mut value)?;
        fsetxattr(new, name, &value[..used], XattrFlags::empty())?;
    }
    Ok(())
}

impl From<FileError> for Error {
    fn from(error: FileError) -> Self {
        Self::from_cause(error)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn tree() -> (tempfile::TempDir, Tree) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("clone/etc")).unwrap();
        let tree = Tree::open(&dir.path().join("clone"), "the clone").unwrap();
        (dir, tree)
    }

    #[test]
    fn a_file_is_replaced_with_its_owner_and_mode() {
        let (dir, tree) = tree();
        let path = dir.path().join("clone/etc/secret");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let owned = std::os::unix::fs::chown(&path, Some(7), Some(8)).is_ok();
        let attribute = rustix::fs::setxattr(&path, "user.ka", b"kept", XattrFlags::empty()).is_ok();
        tree.replace("/etc/secret", b"new").unwrap();
        let meta = fs::metadata(&path).unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), meta.mode() & 0o7777), ("new", 0o640));
        if owned {
            assert_eq!((meta.uid(), meta.gid()), (7, 8));
        }
        if attribute {
            let mut value = [0; 8];
            assert_eq!(rustix::fs::getxattr(&path, "user.ka", &mut value), Ok(4));
        }
        assert_eq!(tree.list("/etc").unwrap(), ["secret"]);
    }

    #[test]
    fn links_lead_where_the_clone_would_go_and_never_out() {
        let (dir, tree) = tree();
        let outside = dir.path().join("etc");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("fstab"), "the node's own").unwrap();
        let clone = dir.path().join("clone");
        symlink("../../../etc/fstab", clone.join("fstab")).unwrap();
        symlink(outside.join("fstab"), clone.join("absolute")).unwrap();
        symlink("/etc", clone.join("folder")).unwrap();
        fs::write(clone.join("etc/fstab"), "old").unwrap();
        assert_eq!(tree.read("/fstab", 3).unwrap().as_deref(), Some(&b"old"[..]));
        tree.replace("/fstab", b"new").unwrap();
        assert!(clone.join("fstab").is_symlink());
        assert_eq!(fs::read_to_string(clone.join("etc/fstab")).unwrap(), "new");
        tree.replace("/folder/fstab", b"newer").unwrap();
        assert_eq!(fs::read_to_string(clone.join("etc/fstab")).unwrap(), "newer");
        assert_eq!(tree.read("/absolute", 9).unwrap(), None);
        assert!(tree.replace("/absolute", b"x").is_err(), "there is no such folder in the clone");
        assert!(tree.remove("/folder/../../../etc/fstab").unwrap());
        assert!(!tree.remove("/etc/fstab").unwrap());
        symlink("b", clone.join("a")).unwrap();
        symlink("a", clone.join("b")).unwrap();
        assert!(tree.replace("/a", b"x").unwrap_err().to_string().contains("circle"));
        assert!(tree.is_real_dir("/etc") && !tree.is_real_dir("/folder"));
        assert_eq!(fs::read_to_string(outside.join("fstab")).unwrap(), "the node's own");
    }

    #[test]
    fn names_are_found_as_vfat_finds_them() {
        let (dir, tree) = tree();
        fs::create_dir_all(dir.path().join("clone/boot/efi/EFI/Boot")).unwrap();
        fs::write(dir.path().join("clone/boot/efi/EFI/Boot/bootx64.efi"), "x").unwrap();
        let found = tree.find("/boot/efi/EFI/BOOT/BOOTX64.EFI").unwrap();
        assert_eq!(found.as_deref(), Some("/boot/efi/EFI/Boot/bootx64.efi"));
        assert_eq!(tree.find("/boot/efi/EFI/debian").unwrap(), None);
        tree.make_dir("/boot/efi/EFI/a/b").unwrap();
        assert!(tree.has("/boot/efi/EFI/a/b"));
    }

    #[test]
    fn links_stay_within_the_system() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("usr/bin")).unwrap();
        fs::create_dir_all(root.join("etc")).unwrap();
        for (target, link) in [
            ("usr/bin", "bin"),
            ("/bin/real", "usr/bin/absolute"),
            ("../../../../usr/bin/real", "usr/bin/above"),
            ("circle", "usr/bin/circle"),
            ("/etc/passwd", "usr/bin/outside"),
        ] {
            symlink(target, root.join(link)).unwrap();
        }
        fs::write(root.join("usr/bin/real"), "x").unwrap();
        let tree = Tree::open(root, "the system").unwrap();
        for path in ["/bin/real", "bin/absolute", "/usr/bin/above", "/bin/../bin/./real"] {
            assert_eq!(tree.real(path).as_deref(), Some("/usr/bin/real"), "{path}");
        }
        assert_eq!(tree.real("/bin/circle"), None);
        assert_eq!(tree.real("/bin/outside"), None, "there is a passwd outside, and none inside");
        assert_eq!(tree.text("/bin/absolute").unwrap(), "x");
        assert!(
            tree.text("/bin/outside")
                .unwrap_err()
                .to_string()
                .contains("outside of the system: there is no such file")
        );
        assert_eq!(tree.program("real"), None, "nobody may start it");
        fs::set_permissions(root.join("usr/bin/real"), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(tree.program("real").as_deref(), Some("/usr/bin/real"));
        assert_eq!(tree.list("/bin").unwrap(), ["above", "absolute", "circle", "outside", "real"]);
        assert!(tree.list("/none").unwrap().is_empty());
    }
}
