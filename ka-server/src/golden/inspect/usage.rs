//! The weight of directories: what clones need not have room for when one is left out, and how much comes of a file
//! system that compresses. Reads only.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::golden::facts::Mount;

/// The unit of `st_blocks`, in bytes.
const BLOCK_BYTES: u64 = 512;

/// The weight of a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// The bytes it takes.
    pub bytes: u64,
    /// Its files and directories.
    pub inodes: u64,
}

/// Weighs what is below a directory, in its own file system. What cannot be read, or went meanwhile, weighs nothing.
#[must_use]
pub fn weigh(dir: &Path) -> Weight {
    weigh_while(dir, &|| true).unwrap_or_default()
}

/// The same for as long as `go_on` says so; then `None`.
fn weigh_while(dir: &Path, go_on: &dyn Fn() -> bool) -> Option<Weight> {
    let mut weight = Weight::default();
    let Ok(device) = fs::metadata(dir).map(|meta| meta.dev()) else { return Some(weight) };
    let mut links = BTreeSet::new();
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        if !go_on() {
            return None;
        }
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            // A file with several names is there once.
            let counted = !meta.is_dir() && meta.nlink() > 1 && !links.insert(meta.ino());
            if meta.dev() != device || counted {
                continue;
            }
            weight.bytes += meta.blocks() * BLOCK_BYTES;
            weight.inodes += 1;
            if meta.is_dir() {
                dirs.push(entry.path());
            }
        }
    }
    Some(weight)
}

/// Returns by how many bytes the files of these mounts exceed what their file systems report: those of a btrfs, which
/// may be compressed there and do not come so. Once `go_on` returns false, no more are weighed.
#[must_use]
pub fn compressed(mounts: &[&Mount], excluded: &[PathBuf], go_on: &dyn Fn() -> bool) -> u64 {
    // By file system: what it says, and what its subvolumes weigh.
    let mut all: BTreeMap<&Path, (u64, Option<u64>)> = BTreeMap::new();
    for mount in mounts.iter().filter(|mount| mount.fs == "btrfs") {
        let out = excluded.iter().filter_map(|path| path.strip_prefix(&mount.at).ok());
        let out: Option<u64> = out.map(|path| Some(weigh_while(&mount.here.join(path), go_on)?.bytes)).sum();
        let has = weigh_while(&mount.here, go_on).zip(out).map(|(has, out)| has.bytes.saturating_sub(out));
        let (_, weighs) = all.entry(&mount.source).or_insert((mount.used.bytes, Some(0)));
        *weighs = weighs.zip(has).map(|(weighs, has)| weighs + has);
    }
    all.into_values().map(|(says, weighs)| weighs.unwrap_or(0).saturating_sub(says)).sum()
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::golden::facts::{On, Used};

    #[test]
    fn what_is_there_counts_once() {
        let dir = TempDir::new().unwrap();
        assert_eq!(weigh(dir.path()), Weight::default());
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/file"), vec![1; 100_000]).unwrap();
        fs::hard_link(dir.path().join("a/file"), dir.path().join("a/b/again")).unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("link")).unwrap();
        let weight = weigh(dir.path());
        assert_eq!(weight.inodes, 4);
        assert!((100_000..200_000).contains(&weight.bytes), "{weight:?}");
        assert_eq!(weigh(&dir.path().join("none")), Weight::default());
    }

    #[test]
    fn what_is_compressed_comes_larger_than_its_file_system_says() {
        let dir = TempDir::new().unwrap();
        let file = |path: &str| {
            fs::create_dir_all(dir.path().join(path)).unwrap();
            fs::write(dir.path().join(path).join("file"), vec![1; 1 << 20]).unwrap();
        };
        ["root/etc", "root/scratch", "home"].into_iter().for_each(file);
        let mount = |at: &str, here: &str, fs: &str, bytes| Mount {
            at: at.into(),
            here: dir.path().join(here),
            device: None,
            fs: fs.into(),
            source: "/dev/sda1".into(),
            subvolume: None,
            partial: false,
            writable: true,
            on: On::Unknown,
            used: Used { bytes, ..Used::default() },
            loaders: Vec::new(),
        };
        let more = |fs: &str, says: u64, excluded: &[&str], patient: bool| {
            let mounts = [mount("/", "root", fs, says), mount("/home", "home", fs, says)];
            let excluded: Vec<PathBuf> = excluded.iter().map(PathBuf::from).collect();
            compressed(&mounts.each_ref(), &excluded, &|| patient)
        };
        // Both subvolumes say what both have.
        let all = more("btrfs", 1 << 20, &[], true);
        assert!((2 << 20..3 << 20).contains(&all), "{all}");
        let some = more("btrfs", 1 << 20, &["/scratch"], true);
        assert!((1 << 20..2 << 20).contains(&some), "{some}");
        assert_eq!(more("btrfs", 1 << 30, &[], true), 0);
        assert_eq!(more("ext4", 1 << 20, &[], true), 0);
        assert_eq!(more("btrfs", 1 << 20, &[], false), 0, "it would take too long");
    }
}
