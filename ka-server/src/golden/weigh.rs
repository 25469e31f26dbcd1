//! How much a directory holds: what clones need not have room for when it is left out. Reads only.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What `st_blocks` counts, in bytes.
const BLOCK_BYTES: u64 = 512;

/// What a directory holds.
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
    let mut weight = Weight::default();
    let Ok(device) = fs::metadata(dir).map(|meta| meta.dev()) else { return weight };
    let mut links = BTreeSet::new();
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(dir) = dirs.pop() {
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
    weight
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

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
}
