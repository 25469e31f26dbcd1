//! The admin's choices, with the options of 2001 and their meanings.

use std::fs;
use std::path::{Path, PathBuf};

use ka_desc::error::Error;
use ka_desc::language::{Desc, parse};
use ka_desc::limits::TEXT_BYTES_MAX;
use ka_desc::machine::DeviceName;
use ka_desc::manifest::Part;
use ka_desc::system::fstab;

use crate::golden::facts::Golden;
use crate::golden::inspect::look::CODE_BYTES;
use crate::golden::inspect::usage::{Weight, weigh};

/// The options as they were typed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Typed {
    /// `-x DIR`: directories that come empty.
    pub exclude: Vec<PathBuf>,
    /// `-X 'sdb|sdc'`: disks that are left out.
    pub exclude_disks: Vec<String>,
    /// `-m DRIVE`: disks whose MBR code clones get, whoever wrote it.
    pub mbr: Vec<String>,
    /// `-M DRIVE FILE`: disks whose MBR code is in a file.
    pub mbr_file: Vec<(String, PathBuf)>,
    /// `-D PARTITION`: partitions that come as their blocks.
    pub raw: Vec<String>,
    /// `-p DRIVE DESC`: disks whose desc is in a file; that of the others is captured.
    pub descs: Vec<(String, PathBuf)>,
    /// A captured desc's largest partition takes what a clone's disk has.
    pub flexible: bool,
    /// `-r 'grub ...'`: the clones' own tools install the loader.
    pub bootloader: Option<String>,
    /// Clones get UUIDs of their own.
    pub new_uuids: bool,
    /// The time of the clock, in seconds since 1970.
    pub time_s: u64,
}

/// The options that were typed, with the files that they name read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Directories that come empty.
    pub exclude: Vec<PathBuf>,
    /// The weights of what those hold, each with its partition.
    pub spared: Vec<(Part, Weight)>,
    /// Disks that are left out.
    pub exclude_disks: Vec<String>,
    /// The MBR code of disks.
    pub codes: Vec<(String, Vec<u8>)>,
    /// Partitions that come as their blocks, as they were named.
    pub raw: Vec<String>,
    /// Descs: the disk, what the file is called, what is in it.
    pub descs: Vec<(String, PathBuf, Desc)>,
    /// A captured desc's largest partition takes what a clone's disk has.
    pub flexible: bool,
    /// The arguments with which the clones' own tools install the loader.
    pub install: Option<Vec<String>>,
    /// Clones get UUIDs of their own.
    pub new_uuids: bool,
    /// The time of the clock, in seconds since 1970.
    pub time_s: u64,
    /// The faults of what was typed, as sentences.
    pub problems: Vec<String>,
}

impl Choice {
    /// Reads what `typed` names. What is wrong stands in [`Choice::problems`], so that it is told with all else.
    #[must_use]
    pub fn read(typed: &Typed, golden: &Golden) -> Self {
        let mut choice = Self {
            exclude_disks: names(&typed.exclude_disks, golden),
            raw: typed.raw.iter().map(|word| partition(word, golden)).collect(),
            flexible: typed.flexible,
            new_uuids: typed.new_uuids,
            time_s: typed.time_s,
            ..Self::default()
        };
        for path in &typed.exclude {
            let checked = excluded(path, golden);
            // What is in two of them is spared once.
            let inner = typed.exclude.iter().any(|other| path.starts_with(other) && path != other);
            choice.take(checked, |choice, (path, spared)| {
                choice.exclude.push(path);
                choice.spared.extend(spared.filter(|_| !inner));
            });
        }
        for disk in typed.mbr.iter().map(|word| disk(word, golden)) {
            let code = golden.disk(&disk).map(|disk| disk.code.clone()).filter(|code| !code.is_empty());
            let code = code.ok_or_else(|| {
                format!("-m {disk}: there is no such disk, or it cannot be read; there are {}", disks(golden))
                    .into()
            });
            choice.take(code, |choice, code| choice.codes.push((disk, code)));
        }
        for (word, file) in &typed.mbr_file {
            choice.take(code(word, file), |choice, code| choice.codes.push((disk(word, golden), code)));
        }
        for (word, file) in &typed.descs {
            let disk = disk(word, golden);
            let desc = desc(&disk, file);
            choice.take(desc, |choice, desc| choice.descs.push((disk, file.clone(), desc)));
        }
        if let Some(text) = &typed.bootloader {
            choice.take(bootloader(text), |choice, args| choice.install = Some(args));
        }
        choice
    }

    fn take<T>(&mut self, result: Result<T, Error>, with: impl FnOnce(&mut Self, T)) {
        match result {
            Ok(value) => with(self, value),
            Err(problem) => self.problems.push(problem.to_string()),
        }
    }
}

/// The golden node's own name for a disk, however it was typed; what names none stays as it is, and is told later.
fn disk(word: &str, golden: &Golden) -> String {
    let Ok(name) = DeviceName::parse(word) else { return word.into() };
    let meant = golden.disks.iter().find(|disk| name.means(&disk.name, &disk.path));
    meant.map_or_else(|| name.plain().into(), |disk| disk.name.clone())
}

/// The same for a partition: the kernel's name for it.
fn partition(word: &str, golden: &Golden) -> String {
    let Ok(name) = DeviceName::parse(word) else { return word.into() };
    let mut devices = golden.disks.iter().flat_map(|disk| {
        let found = disk.found.iter().flat_map(|found| &found.partitions);
        found.map(move |p| (disk, fstab::device(&disk.name, p.number)))
    });
    let meant = devices.find(|(disk, device)| name.means(device, &disk.path.with_file_name(device)));
    meant.map_or_else(|| name.plain().into(), |(_, device)| device)
}

/// The golden node's disks, for messages.
pub(crate) fn disks(golden: &Golden) -> String {
    let names: Vec<&str> = golden.disks.iter().map(|disk| disk.name.as_str()).collect();
    names.join(", ")
}

/// `sdb|sdc`, `sdb,sdc` and several options mean the same.
fn names(typed: &[String], golden: &Golden) -> Vec<String> {
    let names = typed.iter().flat_map(|text| text.split(['|', ','])).map(str::trim);
    names.filter(|name| !name.is_empty()).map(|name| disk(name, golden)).collect()
}

/// A directory that comes empty, without needless slashes; and what is spared by that, on which partition.
fn excluded(path: &Path, golden: &Golden) -> Result<(PathBuf, Option<(Part, Weight)>), Error> {
    let name = path.display();
    let clean: PathBuf = path.components().collect();
    if !path.is_absolute() || path.components().any(|c| c.as_os_str() == "..") {
        return Err(format!("-x {name}: a directory is said by its whole path, such as /var/tmp").into());
    }
    if clean == Path::new("/") {
        return Err("-x /: nothing would be left to clone".into());
    }
    // Where it is here, the mount that is nearest to it knows.
    let nearest = golden.mounts.iter().filter(|mount| clean.starts_with(&mount.at));
    let nearest = nearest.max_by_key(|mount| mount.at.components().count());
    let here = nearest.map_or_else(
        || clean.clone(),
        |mount| mount.here.join(clean.strip_prefix(&mount.at).unwrap_or(&clean)),
    );
    match fs::symlink_metadata(&here) {
        Ok(meta) if meta.is_dir() => {
            let part = nearest.and_then(|mount| mount.part());
            Ok((clean, part.map(|part| (part.clone(), weigh(&here)))))
        }
        Ok(_) => Err(format!("-x {name}: that is no directory (a symbolic link is cloned as such)").into()),
        Err(e) => Err(format!("-x {name}: {e}; is it spelled as it should be?").into()),
    }
}

/// The MBR code in a file.
fn code(disk: &str, file: &Path) -> Result<Vec<u8>, Error> {
    let name = file.display();
    let mut code = fs::read(file).map_err(|e| format!("-M {disk} {name}: {e}"))?;
    // 446 bytes are what 2001 took; the last six of them are the disk's identity, which a clone has from its desc.
    if ![440, 446].contains(&code.len()) {
        return Err(format!(
            "-M {disk} {name}: the code of an MBR has 440 bytes, or 446, and this has {}",
            code.len()
        )
        .into());
    }
    code.truncate(CODE_BYTES as usize);
    Ok(code)
}

/// The desc in a file.
fn desc(disk: &str, file: &Path) -> Result<Desc, Error> {
    let name = file.display().to_string();
    let size = fs::metadata(file).map_err(|e| format!("-p {disk} {name}: {e}"))?.len();
    if size > TEXT_BYTES_MAX as u64 {
        return Err(format!("-p {disk} {name}: {size} bytes are no desc; is it the right file?").into());
    }
    let text = fs::read(file).map_err(|e| format!("-p {disk} {name}: {e}"))?;
    parse(&text).map_err(|problems| problems.render(&name).into())
}

/// The arguments behind the loader's name.
fn bootloader(text: &str) -> Result<Vec<String>, Error> {
    let mut words = text.split_whitespace().map(str::to_owned);
    match words.next().as_deref() {
        Some("grub" | "grub2" | "grub-install") => Ok(words.collect()),
        Some("lilo") => Err("-r lilo: LILO has had no release since 2015, knows neither GPT nor UEFI, and loads by \
                             sectors that differ on each clone: install GRUB on the golden node, and say -r grub"
            .into()),
        Some(other) => Err(format!("-r {other}: the loader that clones can install is grub").into()),
        None => Err("-r: which loader? grub, and arguments for it, such as -r 'grub --with=ata_piix'".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::facts::GoldenDisk;
    use ka_desc::language::Table;
    use ka_desc::layout::{Found, FoundPartition, Geometry};
    use ka_desc::manifest::Firmware;
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    /// A golden node whose disks are files, each with a partition 3.
    fn golden(folder: &Path, disks: &[&str]) -> Golden {
        let partition = FoundPartition { number: 3, ..FoundPartition::default() };
        let disk = |name: &&str| GoldenDisk {
            name: (*name).into(),
            path: folder.join(name),
            geometry: Geometry { disk_bytes: 1 << 30, sector_bytes: 512 },
            found: Some(Found { table: Table::Gpt, id: None, partitions: vec![partition.clone()] }),
            portable: false,
            modules: Vec::new(),
            code: Vec::new(),
            records: Vec::new(),
        };
        Golden {
            host: "golden".into(),
            firmware: Firmware::Bios,
            disks: disks.iter().map(disk).collect(),
            mounts: Vec::new(),
            swaps: Vec::new(),
            fstab: String::new(),
            warnings: Vec::new(),
        }
    }

    #[test]
    fn disks_are_named_in_every_way_of_2001_and_by_links() {
        let folder = TempDir::new().unwrap();
        let folder = fs::canonicalize(folder.path()).unwrap();
        let golden = golden(&folder, &["sdb", "nvme0n1"]);
        for device in ["sdb", "nvme0n1", "nvme0n1p3"] {
            fs::write(folder.join(device), "").unwrap();
            symlink(device, folder.join(format!("by-id-{device}"))).unwrap();
        }
        let typed = |all: &[&str]| names(&all.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>(), &golden);
        assert_eq!(typed(&["sdb|sdc"]), ["sdb", "sdc"]);
        assert_eq!(typed(&["sdb,sdc", " sdd | /dev/sde"]), ["sdb", "sdc", "sdd", "sde"]);
        assert_eq!(typed(&["sdb"]), ["sdb"]);
        assert_eq!(typed(&["|"]), [""; 0]);
        let at = |name: &str| folder.join(name).display().to_string();
        assert_eq!(typed(&[&format!("{}|{}", at("by-id-nvme0n1"), at("sdb"))]), ["nvme0n1", "sdb"]);
        assert_eq!(partition("/dev/sdb3", &golden), "sdb3");
        assert_eq!(partition("nvme0n1p3", &golden), "nvme0n1p3");
        assert_eq!(partition(&at("by-id-nvme0n1p3"), &golden), "nvme0n1p3");
        assert_eq!(partition("/dev/sdb4", &golden), "sdb4");
    }

    #[test]
    fn a_loader_has_arguments() {
        assert_eq!(bootloader("grub").unwrap(), [""; 0]);
        let args = bootloader("grub --with=ata_piix  --with=piix").unwrap();
        assert_eq!(args, ["--with=ata_piix", "--with=piix"]);
        assert!(bootloader("lilo").unwrap_err().to_string().contains("-r grub"));
        assert!(bootloader("syslinux").unwrap_err().to_string().contains("grub"));
        assert!(bootloader(" ").unwrap_err().to_string().contains("which loader"));
    }
}
