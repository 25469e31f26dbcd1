//! Finds out what the golden node is: the running system, a mounted tree, or an image. Reads only.

use std::fs;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ka_desc::error::Error;
use ka_desc::layout::{Found, Geometry};
use ka_desc::machine::device::{self, Spot};
use ka_desc::machine::mountinfo::{self, FsKind, Line};
use ka_desc::machine::{Machine, unescape};
use ka_desc::manifest::{Firmware, Part, Piece};
use ka_desc::run::{Call, Runner};
use ka_desc::system::drivers;
use ka_desc::write;

use super::image::Image;
use crate::golden::facts::{Golden, GoldenDisk, Mount, On, Used};
use crate::golden::private::Private;

/// The system that is cloned.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// The running system.
    Running,
    /// The system whose file systems are mounted at this directory and below.
    Tree(&'a Path),
    /// The system on this image of a disk, which is mounted where nobody else sees it.
    Image(&'a Path, &'a Private),
}

/// A function that finds the boot records of a disk, by the desc's name for it; the last argument reads a range of its
/// bytes.
pub type Records = fn(
    &str,
    &Found,
    Geometry,
    &mut dyn FnMut(Range<u64>) -> io::Result<Vec<u8>>,
) -> io::Result<Vec<(Piece, Vec<u8>)>>;

/// The bytes of an MBR's code.
pub(crate) const CODE_BYTES: u64 = 440;

/// The golden node that was found, and what it must not outlive.
#[derive(Debug)]
pub struct Looked {
    /// The golden node.
    pub golden: Golden,
    /// An image's mounts, which go with this.
    pub image: Option<Image>,
}

/// Finds out what the golden node is.
///
/// # Errors
/// A sentence: something cannot be read, or an image is none of a system.
pub fn look(
    machine: &Machine,
    runner: &mut dyn Runner,
    source: Source<'_>,
    records: Records,
) -> Result<Looked, Error> {
    let image = match source {
        Source::Image(path, private) => Some(Image::open(machine, runner, private, path)?),
        _ => None,
    };
    let dir = match (source, &image) {
        (_, Some(image)) => Some(image.root().to_path_buf()),
        (Source::Tree(dir), None) => {
            Some(fs::canonicalize(dir).map_err(|e| format!("{}: {e}", dir.display()))?)
        }
        _ => None,
    };
    let mut golden = Look { machine, runner, dir, records, warnings: Vec::new() }.golden()?;
    if let Some(image) = &image {
        golden.warnings.extend(image.warnings().iter().cloned());
    }
    Ok(Looked { golden, image })
}

struct Look<'a> {
    machine: &'a Machine,
    runner: &'a mut dyn Runner,
    /// The mount point of the tree; none for the running system.
    dir: Option<PathBuf>,
    records: Records,
    warnings: Vec<String>,
}

impl Look<'_> {
    fn golden(mut self) -> Result<Golden, Error> {
        let text = self.machine.mountinfo().map_err(|e| format!("what is mounted cannot be read: {e}"))?;
        let lines: Vec<(PathBuf, Line)> = mountinfo::read(&text)
            .into_iter()
            .filter(|line| line.kind() != FsKind::Virtual)
            .filter_map(|line| Some((self.inside(&line.at)?, line)))
            .collect();
        let spots: Vec<Spot> = lines.iter().map(|(_, line)| self.spot(line)).collect();
        let swaps = self.swaps();
        let disks = self.disks(spots.iter().chain(&swaps))?;
        let mounts: Vec<Mount> = lines
            .into_iter()
            .zip(&spots)
            .map(|((at, line), spot)| {
                let on = match line.kind() {
                    FsKind::Network => On::Network,
                    FsKind::Pool => On::Built { what: line.fs.to_uppercase(), disks: Vec::new() },
                    _ => self.on(spot, &disks),
                };
                self.mount(at, line, on)
            })
            .collect();
        self.nested(&mounts);
        let swap = |spot| match self.on(spot, &disks) {
            On::Part(part) => Some(part),
            _ => None,
        };
        let swaps = swaps.iter().filter_map(swap).collect();
        let loaders = mounts.iter().any(|mount| !mount.loaders.is_empty());
        let efi = match self.dir {
            None => self.machine.path("sys/firmware/efi").exists(),
            Some(_) => loaders,
        };
        Ok(Golden {
            host: self.host(),
            firmware: if efi { Firmware::Uefi } else { Firmware::Bios },
            disks,
            mounts,
            swaps,
            fstab: self.fstab()?,
            warnings: self.warnings,
        })
    }

    /// Returns the path at which the clone has what is mounted at `at`.
    fn inside(&self, at: &Path) -> Option<PathBuf> {
        match &self.dir {
            None => Some(at.into()),
            Some(dir) => Some(Path::new("/").join(at.strip_prefix(dir).ok()?)),
        }
    }

    /// A file of the golden system itself.
    fn own(&self, path: &str) -> io::Result<String> {
        match &self.dir {
            None => self.machine.file(path),
            Some(dir) => fs::read_to_string(dir.join(path)),
        }
    }

    fn fstab(&self) -> Result<String, Error> {
        match self.own("etc/fstab") {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(format!("/etc/fstab: {e}").into()),
            text => Ok(text.unwrap_or_default()),
        }
    }

    fn host(&self) -> String {
        let file = if self.dir.is_none() { "proc/sys/kernel/hostname" } else { "etc/hostname" };
        let name = self.own(file).unwrap_or_default();
        let name = name.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
        name.unwrap_or("golden").to_owned()
    }

    fn spot(&self, line: &Line) -> Spot {
        match line.kind() {
            FsKind::Device => device::spot(self.machine, &line.number, &line.source),
            _ => Spot::Unknown,
        }
    }

    /// The devices that are in use as swap. What is swap for us is none of a tree.
    fn swaps(&self) -> Vec<Spot> {
        if self.dir.is_some() {
            return Vec::new();
        }
        let text = self.machine.file("proc/swaps").unwrap_or_default();
        let path = |line: &str| line.split_whitespace().next().map(unescape);
        let paths = text.lines().skip(1).filter_map(path);
        paths.map(|path| device::spot_of_node(self.machine, &path)).collect()
    }

    /// The disks: all of a running machine, and those on which something is mounted.
    fn disks<'a>(&mut self, spots: impl Iterator<Item = &'a Spot>) -> Result<Vec<GoldenDisk>, Error> {
        let running = self.dir.is_none();
        let mut paths = match running {
            true => self.machine.disks().map_err(|e| format!("/sys/class/block: {e}"))?,
            false => Vec::new(),
        };
        for path in spots.flat_map(Spot::disks) {
            // A file of the running system is no disk of its own.
            let is_disk = !running || self.machine.name_of(path).is_some();
            if is_disk && !paths.contains(path) {
                paths.push(path.clone());
            }
        }
        paths.into_iter().map(|path| self.disk(path)).collect()
    }

    fn disk(&mut self, path: PathBuf) -> Result<GoldenDisk, Error> {
        let facts = self.machine.facts(&path, 512).map_err(|e| format!("{}: {e}", path.display()))?;
        // A disk that is broken, or has no medium, is no reason to clone none.
        let found = write::look(self.runner, &facts).unwrap_or_else(|e| {
            self.warnings.push(format!("{} cannot be read: {e}", path.display()));
            None
        });
        // An image is called as its file, without the ending.
        let name = if path.is_file() && self.machine.name_of(&path).is_none() {
            path.file_stem()
        } else {
            path.file_name()
        };
        let name = name.map_or_else(String::new, |name| name.to_string_lossy().replace('=', "-"));
        let mut read = |range: Range<u64>| {
            let mut bytes = vec![0; usize::try_from(range.end - range.start).map_err(io::Error::other)?];
            fs::File::open(&path)?.read_exact_at(&mut bytes, range.start)?;
            Ok(bytes)
        };
        let code = read(0..CODE_BYTES).unwrap_or_default();
        let records = match &found {
            Some(found) => (self.records)(&name, found, facts.geometry, &mut read).unwrap_or_else(|e| {
                self.warnings.push(format!("the boot record of {} cannot be read: {e}", path.display()));
                Vec::new()
            }),
            None => Vec::new(),
        };
        Ok(GoldenDisk {
            name,
            geometry: facts.geometry,
            found,
            portable: facts.removable || facts.usb,
            modules: self
                .machine
                .name_of(&path)
                .map_or_else(Vec::new, |name| drivers::disk_modules(self.machine, &name)),
            code,
            records,
            path,
        })
    }

    fn on(&self, spot: &Spot, disks: &[GoldenDisk]) -> On {
        let disk = |path: &PathBuf| disks.iter().find(|disk| disk.path == *path);
        match spot {
            Spot::Number(path, number) => match disk(path) {
                Some(disk) => On::Part(Part { disk: disk.name.clone(), number: *number }),
                None => On::Unknown,
            },
            Spot::Byte(path, offset) => {
                let Some(disk) = disk(path) else { return On::File };
                let sector = u64::from(disk.geometry.sector_bytes);
                let begins = disk.found.iter().flat_map(|found| &found.partitions);
                let mut begins = begins.filter(|p| p.start.saturating_mul(sector) == *offset);
                match begins.next() {
                    Some(p) => On::Part(Part { disk: disk.name.clone(), number: p.number }),
                    None if *offset == 0 => On::Whole(disk.name.clone()),
                    None => On::Unknown,
                }
            }
            Spot::Built(what, paths) => On::Built {
                what: what.clone(),
                disks: paths.iter().filter_map(disk).map(|disk| disk.name.clone()).collect(),
            },
            Spot::Unknown => On::Unknown,
        }
    }

    fn mount(&mut self, at: PathBuf, line: Line, on: On) -> Mount {
        let here = match &self.dir {
            None => self.machine.path(&at),
            Some(dir) => dir.join(at.strip_prefix("/").unwrap_or(&at)),
        };
        // A network's file system may be out of reach, and asking it would wait for that.
        let used = match on {
            On::Network => Used::default(),
            _ => used(&here).unwrap_or_else(|e| {
                self.warnings.push(format!("it is not known how full {} is: {e}", at.display()));
                Used::default()
            }),
        };
        let loaders = if line.fs == "vfat" { loaders(&here) } else { Vec::new() };
        Mount {
            subvolume: line.subvolume().map(str::to_owned),
            partial: line.is_partial(),
            writable: line.is_writable(),
            fs: line.fs,
            source: line.source,
            at,
            device: fs::metadata(&here).map(|meta| meta.dev()).ok(),
            here,
            on,
            used,
            loaders,
        }
    }

    /// Subvolumes that are mounted nowhere: nobody would miss them before the clones run.
    fn nested(&mut self, mounts: &[Mount]) {
        const SHOWN: usize = 5;
        let mut seen: Vec<&Part> = Vec::new();
        for mount in mounts.iter().filter(|mount| mount.fs == "btrfs") {
            let Some(part) = mount.part().filter(|part| !seen.contains(part)) else { continue };
            seen.push(part);
            let list =
                Call::new("btrfs", ["subvolume".into(), "list".into(), mount.here.display().to_string()]);
            let text = match self.runner.read(&list) {
                Ok(text) => text,
                Err(failure) => {
                    self.warnings
                        .push(format!("the subvolumes of partition {part} are not known: {failure}"));
                    continue;
                }
            };
            let mounted = |name: &str| {
                mounts.iter().any(|m| m.part() == Some(part) && m.subvolume.as_deref() == Some(name))
            };
            let all = text.lines().filter_map(|line| Some(line.split_once(" path ")?.1));
            let out: Vec<&str> = all.filter(|name| !mounted(name)).collect();
            if !out.is_empty() {
                let more = out.len().saturating_sub(SHOWN);
                let names = out[..out.len() - more].join(", ");
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                self.warnings.push(format!(
                    "subvolumes of partition {part} that are mounted nowhere are not cloned: {names}{more}"
                ));
            }
        }
    }
}

fn used(here: &Path) -> io::Result<Used> {
    let space = rustix::fs::statvfs(here)?;
    Ok(Used {
        bytes: space.f_blocks.saturating_sub(space.f_bfree).saturating_mul(space.f_frsize),
        capacity: space.f_blocks.saturating_mul(space.f_frsize),
        inodes: space.f_files.saturating_sub(space.f_ffree),
    })
}

/// The loaders on an EFI system partition, as its own paths.
fn loaders(here: &Path) -> Vec<String> {
    let list = |dir: &Path| -> Vec<PathBuf> {
        let mut all: Vec<PathBuf> =
            fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        all.sort();
        all
    };
    let named = |path: &Path, name: &str| path.file_name().is_some_and(|n| n.eq_ignore_ascii_case(name));
    let folders = list(here).into_iter().filter(|path| named(path, "EFI")).flat_map(|efi| list(&efi));
    let loader = |path: &PathBuf| path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("efi"));
    let files = folders.flat_map(|folder| list(&folder)).filter(loader);
    files.filter_map(|file| Some(format!("/{}", file.strip_prefix(here).ok()?.to_str()?))).collect()
}
