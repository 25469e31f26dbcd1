//! A check that what is sent does not contain a certain file of this machine.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A file system that is sent.
#[derive(Clone, Copy, Debug)]
pub struct Sent<'a> {
    /// The mount point on this machine.
    pub here: &'a Path,
    /// The path at which those who get it have it; `None` if they get its blocks.
    pub at: Option<&'a Path>,
}

/// Whether those who get these file systems have the file, too. `left_out` are directories, as they would have them.
#[must_use]
pub fn is_exposed(file: &Path, sent: &[Sent<'_>], left_out: &[&Path]) -> bool {
    let (file, device) = located(file);
    let on: Vec<&Sent<'_>> = sent.iter().filter(|sent| located(sent.here).1 == device).collect();
    // A file on another device is in none of them. Of those on its device the nearest one contains it.
    let shows = on.iter().filter(|sent| file.starts_with(sent.here));
    let shown = shows.max_by_key(|sent| sent.here.components().count());
    let theirs = shown.and_then(|sent| Some(sent.at?.join(file.strip_prefix(sent.here).ok()?)));
    match theirs {
        Some(theirs) if on.iter().all(|sent| sent.at.is_some()) => {
            !left_out.iter().any(|dir| theirs.starts_with(dir))
        }
        // It may be in what is sent by another path, or as blocks.
        _ => !on.is_empty(),
    }
}

/// The path of a file that is there or will be, without symbolic links, and the device that it is on.
fn located(file: &Path) -> (PathBuf, Option<u64>) {
    let full = std::path::absolute(file).unwrap_or_else(|_| file.into());
    let mut above = full.as_path();
    loop {
        if let Ok(real) = fs::canonicalize(above) {
            let device = fs::metadata(&real).map(|meta| meta.dev()).ok();
            return (real.join(full.strip_prefix(above).unwrap_or(Path::new(""))), device);
        }
        match above.parent() {
            Some(parent) => above = parent,
            None => return (full, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_is_exposed_unless_its_directory_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        fs::create_dir_all(root.join("etc/ka")).unwrap();
        fs::create_dir_all(root.join("home")).unwrap();
        symlink("etc/ka", root.join("link")).unwrap();
        let sent = |here: &'static str| (root.join(here), Path::new("/").join(here));
        let (system, home) = (sent(""), sent("home"));
        let sent = |all: &[&(PathBuf, PathBuf)], file: &str, left_out: &[&str]| {
            let all: Vec<_> = all.iter().map(|(here, at)| Sent { here, at: Some(at) }).collect();
            let left_out: Vec<&Path> = left_out.iter().map(Path::new).collect();
            is_exposed(&root.join(file), &all, &left_out)
        };
        // Also one that is not there yet, or reached by a link.
        for file in ["etc/ka/key", "etc/ka/a/b/key", "link/key"] {
            assert!(sent(&[&system], file, &[]) && sent(&[&system], file, &["/etc/k", "/home"]), "{file}");
            assert!(!sent(&[&system], file, &["/srv", "/etc/ka"]), "{file}");
        }
        // It is where the nearest file system shows it.
        assert!(!sent(&[&system, &home], "home/key", &["/home"]));
        assert!(sent(&[&home], "etc/ka/key", &["/etc/ka"]), "the same device, but not below it");
        assert!(!sent(&[], "etc/ka/key", &[]));
        let proc = [Sent { here: Path::new("/proc"), at: Some(Path::new("/proc")) }];
        assert!(!is_exposed(&root.join("etc/ka/key"), &proc, &[]), "another device");
        let blocks = [Sent { here: &root, at: None }];
        assert!(is_exposed(&root.join("etc/ka/key"), &blocks, &[Path::new("/etc/ka")]));
    }
}
