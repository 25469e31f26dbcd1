//! The golden node's files as a source: held still when the first byte is wanted, packed, and let go at the end.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ka_core::stream::{CommandSource, Source, follow};
use ka_desc::manifest::OWN;

use super::nodes::Nodes;
use crate::golden::facts::{Golden, Mount};
use crate::golden::freeze::quiesce::Quiesced;
use crate::golden::freeze::snapshot::DIRECTORY;
use crate::golden::freeze::tree::Still;
use crate::golden::inspect::look::Looked;
use crate::golden::plan::make::Planned;
use crate::golden::private::Private;

/// The exit status of a tar whose files changed while it read them.
const CHANGED: i32 = 1;

/// Lines of tar's that are passed on. A live system's complains of many files.
const LINES: usize = 20;

/// The mounts that are cloned, whatever contains others first.
pub(super) fn mounts<'a>(golden: &'a Golden, planned: &Planned) -> Vec<&'a Mount> {
    let find = |at: &PathBuf| golden.mounts.iter().find(|mount| mount.at == *at);
    planned.mounts.iter().filter_map(find).collect()
}

/// The state that must not outlive the run: what holds the files still, and what they are mounted from.
pub(super) type Slot = Arc<Mutex<Option<(Still, Looked, Private)>>>;

/// The files of a golden node, which nobody reads yet.
pub(super) struct Files {
    pub(super) private: Private,
    pub(super) looked: Looked,
    pub(super) planned: Planned,
    pub(super) quiesce: Option<String>,
    pub(super) resume: Option<String>,
    /// The slot that has the held files while they are read.
    pub(super) slot: Slot,
    /// The record of all nodes, which also reports how still the files were.
    pub(super) nodes: Arc<Mutex<Nodes>>,
}

impl Files {
    /// Holds them still, and begins to pack. `say` hears what tar says.
    pub(super) fn open(self, say: impl Fn(String) + Send + 'static) -> io::Result<Box<dyn Source>> {
        let mounts = mounts(&self.looked.golden, &self.planned);
        let quiesced =
            Quiesced::run(self.quiesce.as_deref(), self.resume.as_deref()).map_err(io::Error::other)?;
        let still = Still::hold(&self.private, &mounts, quiesced).map_err(io::Error::other)?;
        let warnings = still.warnings().iter().map(|warning| format!("warning: {warning}"));
        let states = still.states().iter().map(|(at, state)| format!("{}: {}", at.display(), state.says()));
        for text in states.chain(warnings) {
            self.nodes.lock().unwrap_or_else(PoisonError::into_inner).remark(text);
        }
        let mut tar = pack(still.root(), &self.planned.mounts, &self.planned.excluded);
        let (said, theirs) = io::pipe()?;
        tar.stderr(theirs);
        let packed = CommandSource::run(tar)?.accepting(CHANGED);
        drop(follow(said, move |number, text| match number {
            ..LINES => say(text.to_owned()),
            LINES => say("tar says more, which is left out".into()),
            _ => {}
        }));
        *lock(&self.slot) = Some((still, self.looked, self.private));
        Ok(Box::new(Packed { packed, slot: self.slot, nodes: self.nodes }))
    }
}

fn lock(slot: &Slot) -> MutexGuard<'_, Option<(Still, Looked, Private)>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Files that are being packed.
struct Packed {
    packed: CommandSource,
    slot: Slot,
    nodes: Arc<Mutex<Nodes>>,
}

impl Source for Packed {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.packed.read(buf)
    }

    fn ready(&mut self, timeout: Duration) -> io::Result<bool> {
        self.packed.ready(timeout)
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        let Self { packed, slot, nodes } = *self;
        let packed = Box::new(packed).finish();
        // Whoever rests has rested long enough.
        let held = lock(&slot).take();
        if let Some(Err(why)) = held.map(|(still, ..)| still.release()) {
            nodes.lock().unwrap_or_else(PoisonError::into_inner).remark(format!("warning: {why}"));
        }
        packed
    }
}

/// The command that packs the files: everything that a tar can carry, each file system once.
fn pack(tree: &Path, mounts: &[PathBuf], excluded: &[PathBuf]) -> Command {
    let mut tar = Command::new("tar");
    // Access lists are among the attributes, by numbers. As --acls has them they are names, which are other users' where
    // they are packed, and nobody's where they are unpacked.
    tar.args(["--create", "--file=-", "--format=posix", "--xattrs", "--xattrs-include=*"])
        .args(["--sparse", "--numeric-owner", "--one-file-system"])
        // When a file was last read is nobody's business, and would make every header twice as long.
        .arg("--pax-option=delete=atime,delete=ctime")
        .args(["--anchored", "--wildcards", "--wildcards-match-slash"])
        .arg("--directory")
        .arg(tree)
        // Where snapshots are, if the top of a btrfs is what is mounted.
        .arg(format!("--exclude=./{DIRECTORY}"))
        .arg(format!("--exclude=.{OWN}"))
        .env("LC_ALL", "C.UTF-8");
    for path in excluded {
        // The directory itself comes, with its mode and owner.
        tar.arg(format!("--exclude=./{}/*", pattern(path)));
    }
    tar.args(mounts.iter().map(|path| Path::new(".").join(path.strip_prefix("/").unwrap_or(path))));
    tar
}

/// A path as tar's pattern for itself.
fn pattern(path: &Path) -> String {
    let mut pattern = String::new();
    for c in path.strip_prefix("/").unwrap_or(path).to_string_lossy().chars() {
        if "*?[]\\".contains(c) {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_excluded_is_a_name_and_no_pattern() {
        assert_eq!(pattern(Path::new("/srv/a*b [x]\\")), r"srv/a\*b \[x\]\\");
    }

    #[test]
    fn access_lists_come_by_numbers() {
        let tree = tempfile::tempdir().unwrap();
        let file = tree.path().join("file");
        std::fs::write(&file, "").unwrap();
        // The owner, the user 1 (who has a name nearly everywhere), the group, the mask, and others.
        let mut list = vec![2, 0, 0, 0];
        for (tag, who) in [(1, u32::MAX), (2, 1), (4, u32::MAX), (0x10, u32::MAX), (0x20, u32::MAX)] {
            list.extend([tag, 0, 4, 0]);
            list.extend(who.to_le_bytes());
        }
        let attribute = "system.posix_acl_access";
        rustix::fs::setxattr(&file, attribute, &list, rustix::fs::XattrFlags::empty()).unwrap();
        let packed = pack(tree.path(), &["/".into()], &[]).output().unwrap().stdout;
        let has = |bytes: &[u8]| packed.windows(bytes.len()).any(|window| window == bytes);
        assert!(has(format!("SCHILY.xattr.{attribute}=").as_bytes()) && has(&list));
        assert!(!has(b"SCHILY.acl."), "names");
    }

    #[test]
    fn an_excluded_directory_comes_empty_and_mounts_come_once() {
        let tree = tempfile::tempdir().unwrap();
        let at = |path: &str| tree.path().join(path);
        for path in ["srv/x*/deep", "srv/xy", "home/lab"] {
            std::fs::create_dir_all(at(path)).unwrap();
        }
        for path in ["srv/x*/.hidden", "srv/x*/deep/file", "srv/xy/kept", "home/lab/kept"] {
            std::fs::write(at(path), "").unwrap();
        }
        let mut tar = pack(tree.path(), &["/".into()], &["/srv/x*".into()]);
        let packed = tar.output().unwrap();
        assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
        let mut list = Command::new("tar")
            .arg("-t")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        io::Write::write_all(&mut list.stdin.take().unwrap(), &packed.stdout).unwrap();
        let names = String::from_utf8(list.wait_with_output().unwrap().stdout).unwrap();
        let mut names: Vec<&str> = names.lines().collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "./",
                "./home/",
                "./home/lab/",
                "./home/lab/kept",
                "./srv/",
                "./srv/x*/",
                "./srv/xy/",
                "./srv/xy/kept"
            ]
        );
    }
}
