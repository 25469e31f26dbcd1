//! An image of a whole disk, mounted for reading: each partition by a loop device of its own, by the image's own fstab.
//!
//! Nothing of the image is written, not even a journal. Loop devices are detached while their file systems hold them, so
//! the kernel takes them away when those go; and those go with the namespace they are in.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use ka_desc::error::Error;
use ka_desc::layout::{Found, FoundPartition, Geometry};
use ka_desc::machine::{How, Machine, Use};
use ka_desc::run::{Call, Runner};
use ka_desc::system::fstab::{self, Entry};
use ka_desc::system::mount_options::quiet_options;
use ka_desc::write;
use rustix::mount::{UnmountFlags, unmount};

use crate::golden::private::Private;

/// A mounted image.
#[derive(Debug)]
pub struct Image {
    root: PathBuf,
    mounted: Vec<PathBuf>,
    warnings: Vec<String>,
}

impl Image {
    /// Mounts all that the image's fstab mounts from it.
    ///
    /// # Errors
    /// A sentence: it is being written, has no table or no file system with an fstab, or something cannot be mounted.
    pub fn open(
        machine: &Machine,
        runner: &mut dyn Runner,
        private: &Private,
        path: &Path,
    ) -> Result<Self, Error> {
        let name = path.display();
        let facts = machine.facts(path, 512).map_err(|e| format!("{name}: {e}"))?;
        // What is written through another device may still be in that one's memory.
        if let Some(u) = facts.uses.iter().find(|u| is_writable(machine, u)) {
            return Err(format!("{u}; {name} can be cloned when nobody writes to it").into());
        }
        let found = write::look(runner, &facts).map_err(|e| e.to_string())?;
        let found = found.ok_or_else(|| {
            format!(
                "{name} has no partition table: an image is one of a whole disk; mount it, and say --root"
            )
        })?;
        let root = private.make("image").and_then(fs::canonicalize).map_err(|e| format!("{name}: {e}"))?;
        let mut image = Self { root, mounted: Vec::new(), warnings: Vec::new() };
        let mut parts = Parts { runner, path: &facts.path, geometry: facts.geometry, held: Vec::new() };
        let entries = image.find_root(&mut parts, &found)?;
        image.mount_others(&mut parts, &found, &entries)?;
        Ok(image)
    }

    /// Returns the mount point of its root.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the oddities that were found.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Mounts the file system that has an fstab, and gives that.
    fn find_root(&mut self, parts: &mut Parts<'_>, found: &Found) -> Result<Vec<Entry>, Error> {
        // No system has its root on vfat.
        let is_root = |p: &&FoundPartition| {
            options(p).is_some() && p.contents.as_ref().is_some_and(|contents| contents.fs != "vfat")
        };
        for p in found.partitions.iter().filter(is_root) {
            parts.mount(p, "", &self.root)?;
            self.mounted.push(self.root.clone());
            let subvolume = has_fstab(&self.root);
            let entries = subvolume.as_ref().map(|name| read_fstab(&self.root.join(name)));
            match (subvolume, entries) {
                (Some(name), Some(entries)) if name.is_empty() => return entries,
                (Some(name), Some(entries)) => {
                    self.release();
                    // What the fstab calls it may be longer than where its fstab was found.
                    let entries = entries?;
                    let own = entries.iter().find(|entry| entry.at == "/").and_then(Entry::subvolume);
                    parts.mount(p, own.unwrap_or(&name), &self.root)?;
                    self.mounted.push(self.root.clone());
                    return Ok(entries);
                }
                _ => self.release(),
            }
        }
        Err(format!(
            "no partition of {} has an /etc/fstab: it is no image of a Linux system",
            parts.path.display()
        )
        .into())
    }

    /// Mounts what the fstab names, whatever contains others first.
    fn mount_others(&mut self, parts: &mut Parts<'_>, found: &Found, entries: &[Entry]) -> Result<(), Error> {
        let mut entries: Vec<&Entry> = entries
            .iter()
            .filter(|e| e.at.starts_with('/') && e.at != "/" && !e.options.iter().any(|o| o == "noauto"))
            .collect();
        entries.sort_by_key(|entry| Path::new(&entry.at).components().count());
        for entry in entries {
            let Some(p) = found.partitions.iter().find(|p| means(entry, p)) else {
                if entry.spec.starts_with("/dev/") || entry.spec.contains('=') {
                    self.warnings
                        .push(format!("{} is not on the image, and is left out: {}", entry.at, entry.spec));
                }
                continue;
            };
            let at = self.root.join(entry.at.trim_start_matches('/'));
            if !is_inside(&self.root, &at) {
                return Err(format!("the image's {} is no directory of its own", entry.at).into());
            }
            parts.mount(p, entry.subvolume().unwrap_or(""), &at)?;
            self.mounted.push(at);
        }
        Ok(())
    }

    fn release(&mut self) {
        for at in self.mounted.drain(..).rev() {
            // What is still read from goes when that ends.
            let _ = unmount(&at, UnmountFlags::DETACH);
        }
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        self.release();
        // It is in memory, and goes with the namespace at the latest.
        let _ = fs::remove_dir(&self.root);
    }
}

/// The partitions of the image.
struct Parts<'a> {
    runner: &'a mut dyn Runner,
    path: &'a Path,
    geometry: Geometry,
    /// Their loop devices, while we mount. To the kernel, a second one is a second file system.
    held: Vec<(u32, String, File)>,
}

impl Parts<'_> {
    /// Mounts a partition, or a subvolume of it.
    fn mount(&mut self, p: &FoundPartition, subvolume: &str, at: &Path) -> Result<(), Error> {
        let cannot =
            |e: String| format!("partition {} of {} cannot be mounted: {e}", p.number, self.path.display());
        let mut options =
            options(p).ok_or_else(|| cannot("it has no file system that could be".into()))?.to_owned();
        if p.contents.as_ref().is_some_and(|c| c.fs == "btrfs") {
            options +=
                &if subvolume.is_empty() { ",subvolid=5".into() } else { format!(",subvol={subvolume}") };
        }
        let node = self.node(p).map_err(|e| cannot(e.to_string()))?;
        let fs = p.contents.as_ref().map_or("auto", |contents| contents.fs.as_str());
        let mount = Call::new("mount", ["-t", fs, "-o", &options, &node, &at.display().to_string()]);
        self.runner.write(&mount).map(drop).map_err(|e| cannot(e.to_string()).into())
    }

    /// The loop device of a partition.
    fn node(&mut self, p: &FoundPartition) -> Result<String, Error> {
        if let Some((_, node, _)) = self.held.iter().find(|(number, ..)| *number == p.number) {
            return Ok(node.clone());
        }
        let sector = u64::from(self.geometry.sector_bytes);
        let (at, bytes) = (p.start.saturating_mul(sector), p.sectors.saturating_mul(sector));
        let (node, held) = attach(self.runner, self.path, at, bytes, self.geometry.sector_bytes)?;
        self.held.push((p.number, node.clone(), held));
        Ok(node)
    }
}

/// A loop device over a part of a disk or an image, for reading. It goes with the last of those who hold it.
///
/// # Errors
/// What losetup says.
pub fn attach(
    runner: &mut dyn Runner,
    path: &Path,
    at: u64,
    bytes: u64,
    sector_bytes: u32,
) -> Result<(String, File), Error> {
    let attach = Call::new(
        "losetup",
        [
            "--find".to_owned(),
            "--show".into(),
            "--read-only".into(),
            "--sector-size".into(),
            sector_bytes.to_string(),
            "--offset".into(),
            at.to_string(),
            "--sizelimit".into(),
            bytes.to_string(),
            path.display().to_string(),
        ],
    );
    let node = runner.write(&attach).map_err(|e| e.to_string())?.trim().to_owned();
    let held = File::open(&node).map_err(|e| format!("{node}: {e}"));
    runner.write(&Call::new("losetup", ["--detach", &node])).map_err(|e| e.to_string())?;
    Ok((node, held?))
}

/// Whether this use of an image may write to it.
fn is_writable(machine: &Machine, u: &Use) -> bool {
    let node = match &u.how {
        How::Loop(node) => node,
        _ => &u.node,
    };
    let read_only = machine.name_of(node).and_then(|name| machine.line(&name, "ro"));
    read_only.as_deref() != Some("1")
}

/// The options with which a partition is mounted without a write.
fn options(p: &FoundPartition) -> Option<&'static str> {
    quiet_options(&p.contents.as_ref()?.fs)
}

/// The subvolume with an fstab; an empty name is the topmost, or any other file system.
fn has_fstab(root: &Path) -> Option<String> {
    let has = |dir: &Path| fs::symlink_metadata(dir.join("etc/fstab")).is_ok_and(|meta| meta.is_file());
    if has(root) {
        return Some(String::new());
    }
    let inside = fs::read_dir(root).into_iter().flatten().flatten();
    let mut inside: Vec<_> =
        inside.filter(|e| e.file_type().is_ok_and(|t| t.is_dir()) && has(&e.path())).collect();
    inside.sort_by_key(fs::DirEntry::file_name);
    inside.first().map(|entry| entry.file_name().to_string_lossy().into_owned())
}

fn read_fstab(root: &Path) -> Result<Vec<Entry>, Error> {
    let path = root.join("etc/fstab");
    fs::read_to_string(&path)
        .map(|text| fstab::read(&text))
        .map_err(|e| format!("{}: {e}", path.display()).into())
}

/// Whether an fstab's line means a partition of the image; devices are known by their numbers alone.
fn means(entry: &Entry, p: &FoundPartition) -> bool {
    let number = |spec: &str| {
        let disk = spec.trim_end_matches(|c: char| c.is_ascii_digit());
        ["/dev/sd", "/dev/vd", "/dev/hd", "/dev/xvd", "/dev/nvme", "/dev/mmcblk"]
            .iter()
            .any(|known| disk.starts_with(known))
            .then(|| spec[disk.len()..].parse::<u32>().ok())
            .flatten()
    };
    entry.means(p, "") || number(&entry.spec) == Some(p.number)
}

/// Whether a directory is below `root` without a symbolic link on the way.
fn is_inside(root: &Path, at: &Path) -> bool {
    fs::canonicalize(at).is_ok_and(|real| real == at && real.starts_with(root))
}
