//! Files of a clone: read and changed below its root, wherever its symbolic links point.
//!
//! Links are followed as the clone itself would: an absolute one begins at the clone's root, and none leads out of it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, XattrFlags, fchmod, fchown, fgetxattr,
    flistxattr, fsetxattr, fstat, mkdirat, openat, openat2, readlinkat, renameat, statat, unlinkat,
};
use rustix::io::Errno;

/// The longest text of a clone that is read. A `grub.cfg` of many kernels has a tenth of it.
pub(super) const TEXT_BYTES_MAX: u64 = 4 << 20;

/// Links of a path's last name that are followed, as the kernel does.
const LINKS_MAX: usize = 40;

/// Where a file is written before it takes the place of another one.
const NEW: &str = ".ka-new";

/// A clone's files.
pub(super) struct Tree {
    root: OwnedFd,
}

impl Tree {
    /// The tree at `root`.
    pub(super) fn open(root: &Path) -> Result<Self, String> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, root, flags, Mode::empty())
            .map_err(|e| said(&root.display().to_string(), e.into()))?;
        Ok(Self { root })
    }

    /// A file's bytes; `None` if there is no such file.
    pub(super) fn read(&self, path: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, String> {
        let Some(file) = absent(path, self.at(path, OFlags::RDONLY | OFlags::NONBLOCK))? else {
            return Ok(None);
        };
        let meta = fstat(&file).map_err(|e| said(path, e.into()))?;
        if FileType::from_raw_mode(meta.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        if meta.st_size as u64 > bytes_max {
            return Err(format!("{path} of the clone is longer than {bytes_max} bytes"));
        }
        let mut bytes = Vec::new();
        File::from(file).take(bytes_max).read_to_end(&mut bytes).map_err(|e| said(path, e))?;
        Ok(Some(bytes))
    }

    /// Whether there is a file, a link to one, or a directory.
    pub(super) fn has(&self, path: &str) -> bool {
        self.at(path, OFlags::PATH).is_ok()
    }

    /// The names in a directory, sorted; none if there is no such directory.
    pub(super) fn list(&self, path: &str) -> Result<Vec<String>, String> {
        let Some(dir) = absent(path, self.at(path, OFlags::RDONLY | OFlags::DIRECTORY))? else {
            return Ok(Vec::new());
        };
        let mut names = Vec::new();
        for entry in Dir::new(dir).map_err(|e| said(path, e.into()))? {
            let name = entry.map_err(|e| said(path, e.into()))?.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// A path as its names are written, found without regard to case, as vfat does; `None` if there is none.
    pub(super) fn find(&self, path: &str) -> Result<Option<String>, String> {
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
    pub(super) fn replace(&self, path: &str, bytes: &[u8]) -> Result<(), String> {
        let path = self.behind_links(path)?;
        self.replace_file(&path, bytes).map_err(|e| said(&path, e))
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
    pub(super) fn remove(&self, path: &str) -> Result<bool, String> {
        let removed = self.parent(path).and_then(|(dir, name)| Ok(unlinkat(dir, name, AtFlags::empty())?));
        Ok(absent(path, removed)?.is_some())
    }

    /// Whether it is a file, and no link to one.
    pub(super) fn is_own_file(&self, path: &str) -> bool {
        let meta =
            self.parent(path).and_then(|(dir, name)| Ok(statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?));
        meta.is_ok_and(|meta| FileType::from_raw_mode(meta.st_mode) == FileType::RegularFile)
    }

    /// Makes a directory and those above it, where they are missing.
    pub(super) fn make_dir(&self, path: &str) -> Result<(), String> {
        let mut at = String::new();
        for name in path.split('/').filter(|name| !name.is_empty()) {
            at = format!("{at}/{name}");
            let made =
                self.parent(&at).and_then(|(dir, name)| Ok(mkdirat(dir, name, Mode::from_raw_mode(0o755))?));
            match made {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(said(&at, e)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Says who may do what with a directory.
    pub(super) fn set_mode(&self, path: &str, mode: u32) -> Result<(), String> {
        let dir = self.at(path, OFlags::RDONLY | OFlags::DIRECTORY).map_err(|e| said(path, e))?;
        fchmod(dir, Mode::from_raw_mode(mode)).map_err(|e| said(path, e.into()))
    }

    /// Whether each name of the path is a directory's, and no link.
    pub(super) fn is_real_dir(&self, path: &str) -> bool {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
        openat2(&self.root, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty(), resolve)
            .is_ok()
    }

    /// What a link says, if it is one.
    pub(super) fn link(&self, path: &str) -> Option<String> {
        let (dir, name) = self.parent(path).ok()?;
        let target = readlinkat(dir, name, Vec::new()).ok()?;
        String::from_utf8(target.into_bytes()).ok()
    }

    /// The path of what a link stands for, of that one's, and so on.
    fn behind_links(&self, path: &str) -> Result<String, String> {
        let mut path = path.to_owned();
        for _ in 0..LINKS_MAX {
            let Some(target) = self.link(&path) else { return Ok(path) };
            // The kernel resolves what is above the last name; `..` at the root stays there.
            path = match Path::new(&path).parent() {
                Some(parent) if !target.starts_with('/') => parent.join(&target).display().to_string(),
                _ => target,
            };
        }
        Err(format!("{path} of the clone is a circle of symbolic links"))
    }

    /// The directory that a path's last name is in, and that name.
    fn parent(&self, path: &str) -> io::Result<(OwnedFd, OsString)> {
        let path = PathBuf::from(path);
        let name = path.file_name().ok_or(Errno::INVAL)?.to_owned();
        let parent = path.parent().map_or_else(|| "/".into(), |dir| dir.display().to_string());
        Ok((self.at(&parent, OFlags::PATH | OFlags::DIRECTORY)?, OsString::from_vec(name.into_vec())))
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

/// What is not there is no failure.
fn absent<T>(path: &str, result: io::Result<T>) -> Result<Option<T>, String> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(said(path, e)),
    }
}

fn said(path: &str, e: io::Error) -> String {
    format!("{path} of the clone: {e}")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn tree() -> (tempfile::TempDir, Tree) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("clone/etc")).unwrap();
        let tree = Tree::open(&dir.path().join("clone")).unwrap();
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
        assert!(tree.replace("/a", b"x").unwrap_err().contains("circle"));
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
}
