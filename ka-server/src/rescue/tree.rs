//! A system's files as that system sees them, wherever its root is: links lead nowhere else.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// More links than this are a circle.
const LINKS_MAX: usize = 40;

/// Where programs are, those for root first.
pub(super) const PROGRAMS: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// A system's files.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    root: PathBuf,
}

impl Tree {
    /// The system below this directory.
    pub(super) fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Where `path` really is in the system, with all links followed; `None`: nowhere.
    pub(super) fn real(&self, path: &str) -> Option<String> {
        let reversed = |path: &str| path.split('/').rev().map(str::to_owned).collect::<Vec<_>>();
        let (mut todo, mut at, mut links) = (reversed(path), Vec::new(), 0);
        while let Some(name) = todo.pop() {
            match name.as_str() {
                "" | "." => {}
                ".." => drop(at.pop()),
                _ => {
                    at.push(name);
                    let here = self.host(&at.join("/"));
                    if fs::symlink_metadata(&here).ok()?.is_symlink() {
                        links += 1;
                        let target = fs::read_link(&here).ok().filter(|_| links <= LINKS_MAX)?;
                        let target = target.to_str()?;
                        at.pop();
                        if target.starts_with('/') {
                            at.clear();
                        }
                        todo.extend(reversed(target));
                    }
                }
            }
        }
        Some(format!("/{}", at.join("/")))
    }

    /// The same path, for us. Only for what [`real`](Self::real) has said: it follows no links.
    pub(super) fn host(&self, real: &str) -> PathBuf {
        self.root.join(real.trim_start_matches('/'))
    }

    /// Where a file is for us.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn file(&self, path: &str) -> io::Result<PathBuf> {
        let missing = || {
            io::Error::new(io::ErrorKind::NotFound, format!("{} does not exist", self.host(path).display()))
        };
        self.real(path).map(|real| self.host(&real)).filter(|file| file.is_file()).ok_or_else(missing)
    }

    /// What is in a file of text.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub(super) fn text(&self, path: &str) -> io::Result<String> {
        let file = self.file(path)?;
        let bytes =
            fs::read(&file).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", file.display())))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The names in a directory, sorted; none if there is no such directory.
    pub(super) fn names(&self, path: &str) -> Vec<String> {
        let entries = self.real(path).and_then(|real| fs::read_dir(self.host(&real)).ok());
        let name = |entry: io::Result<fs::DirEntry>| entry.ok()?.file_name().into_string().ok();
        let mut names: Vec<String> = entries.into_iter().flatten().filter_map(name).collect();
        names.sort();
        names
    }

    /// The path of a program.
    pub(super) fn program(&self, name: &str) -> Option<String> {
        let can_start = |file: &Path| {
            fs::metadata(file)
                .is_ok_and(|about: Metadata| about.is_file() && about.permissions().mode() & 0o111 != 0)
        };
        let paths = PROGRAMS.iter().map(|folder| format!("{folder}/{name}"));
        paths.into_iter().find(|path| self.file(path).is_ok_and(|file| can_start(&file)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

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
        let tree = Tree::new(root);
        for path in ["/bin/real", "bin/absolute", "/usr/bin/above", "/bin/../bin/./real"] {
            assert_eq!(tree.real(path).as_deref(), Some("/usr/bin/real"), "{path}");
        }
        assert_eq!(tree.real("/bin/circle"), None);
        assert_eq!(tree.real("/bin/outside"), None, "there is a passwd outside, and none inside");
        assert_eq!(tree.text("/bin/absolute").unwrap(), "x");
        assert!(tree.text("/bin/outside").unwrap_err().to_string().contains("outside does not exist"));
        assert_eq!(tree.program("real"), None, "nobody may start it");
        fs::set_permissions(root.join("usr/bin/real"), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(tree.program("real").as_deref(), Some("/usr/bin/real"));
        assert_eq!(tree.names("/bin"), ["above", "absolute", "circle", "outside", "real"]);
        assert!(tree.names("/none").is_empty());
    }
}
