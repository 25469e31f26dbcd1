//! Golden nodes out of a few words, for tests of what follows from them.

use std::fs;
use std::path::{Path, PathBuf};

use ka_desc::language::{Table, TableId};
use ka_desc::layout::{Contents, Found, FoundPartition, Geometry};
use ka_desc::manifest::{Firmware, Part, Piece, Place};
use ka_server::golden::facts::{Golden, GoldenDisk, Mount, On, Used};
use ka_server::golden::plan::choice::{Choice, Typed};
use ka_server::golden::plan::make::{Planned, plan};
use tempfile::TempDir;

pub(crate) const MIB: u64 = 1 << 20;

/// A machine of the manual of 2001: `sda1` swap, `sda5` the root; and `sdb1` at `/data`.
pub(crate) struct Old {
    pub(crate) dir: TempDir,
    pub(crate) golden: Golden,
}

pub(crate) fn part(disk: &str, number: u32) -> Part {
    Part { disk: disk.into(), number }
}

/// A UUID that is known by its number.
pub(crate) fn uuid(n: u32) -> String {
    format!("8d3f2c1e-5b6a-4c7d-9e8f-0a1b2c3d{n:04x}")
}

pub(crate) fn partition(number: u32, mib: (u64, u64), kind: &str, fs: &str) -> FoundPartition {
    let contents = Contents { fs: fs.into(), label: None, uuid: Some(uuid(number)) };
    FoundPartition {
        number,
        start: mib.0 * 2048,
        sectors: mib.1 * 2048,
        kind: kind.into(),
        contents: (!fs.is_empty()).then_some(contents),
        ..FoundPartition::default()
    }
}

pub(crate) fn disk(name: &str, mib: u64, table: Table, partitions: Vec<FoundPartition>) -> GoldenDisk {
    GoldenDisk {
        name: name.into(),
        path: Path::new("/dev").join(name),
        geometry: Geometry { disk_bytes: mib * MIB, sector_bytes: 512 },
        found: Some(Found { table, id: None, partitions }),
        portable: false,
        modules: vec!["ahci".into()],
        code: vec![0xfa; 440],
        records: Vec::new(),
    }
}

impl Old {
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let sda = vec![
            partition(1, (1, 500), "82", "swap"),
            partition(2, (501, 3500), "5", ""),
            partition(5, (502, 3499), "83", "ext3"),
        ];
        let mut sda = disk("sda", 4002, Table::Mbr, sda);
        sda.found.as_mut().unwrap().id = Some(TableId::Mbr(0x1a2b_3c4d));
        let piece = Piece { disk: "sda".into(), place: Place::Mbr, sector: 0, bytes: 440 };
        sda.records = vec![(piece, vec![0xeb; 440])];
        let sdb = disk("sdb", 1000, Table::Mbr, vec![partition(1, (1, 900), "83", "ext4")]);
        let mut old = Self {
            golden: Golden {
                host: "node40".into(),
                firmware: Firmware::Bios,
                disks: vec![sda, sdb],
                mounts: Vec::new(),
                swaps: vec![part("sda", 1)],
                fstab: format!(
                    "/dev/sda5 / ext3 relatime 1 1\nUUID={} /data ext4 defaults 0 2\n/dev/sda1 swap swap\n",
                    uuid(1)
                ),
                warnings: Vec::new(),
            },
            dir,
        };
        old.mount("/", "ext3", On::Part(part("sda", 5)));
        old.mount("/data", "ext4", On::Part(part("sdb", 1)));
        old
    }

    pub(crate) fn mount(&mut self, at: &str, fs: &str, on: On) -> &mut Mount {
        let here = self.dir.path().join("root").join(at.trim_start_matches('/'));
        fs::create_dir_all(&here).unwrap();
        let mount = Mount {
            at: at.into(),
            device: None,
            here,
            fs: fs.into(),
            source: "/dev/some".into(),
            subvolume: None,
            partial: false,
            writable: true,
            on,
            used: Used { bytes: 100 * MIB, capacity: 800 * MIB, inodes: 1000 },
            loaders: Vec::new(),
        };
        self.golden.mounts.push(mount);
        self.golden.mounts.last_mut().unwrap()
    }

    pub(crate) fn unmount(&mut self, at: &str) {
        self.golden.mounts.retain(|mount| mount.at != Path::new(at));
    }

    pub(crate) fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Plans what a command line of 2001 asks for. `@` stands for the folder of [`Old::file`].
    pub(crate) fn plan(&self, line: &str) -> Result<Planned, Vec<String>> {
        let typed = typed(line, self.dir.path());
        let planned = plan(&self.golden, &Choice::read(&typed, &self.golden));
        planned.map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    /// Why it is refused, a line each.
    pub(crate) fn refused(&self, line: &str) -> String {
        self.plan(line).expect_err("it is refused").join("\n")
    }

    /// The desc that nodes get.
    pub(crate) fn desc(&self, line: &str) -> String {
        self.plan(line).unwrap_or_else(|e| panic!("{line}: {}", e.join("\n"))).plan.desc
    }
}

/// The options of `ka-d.sh`, as its manual has them; those of the session are left out.
fn typed(line: &str, dir: &Path) -> Typed {
    let mut typed = Typed { time_s: 1_790_000_000, ..Typed::default() };
    let line = line.replace('@', &format!("{}/", dir.display()));
    let mut words = Vec::new();
    for (at, quoted) in line.split('\'').enumerate() {
        match at % 2 {
            0 => words.extend(quoted.split_whitespace().map(str::to_owned)),
            _ => words.push(quoted.to_owned()),
        }
    }
    let mut words = words.into_iter();
    while let Some(option) = words.next() {
        let mut word = || words.next().unwrap();
        match option.as_str() {
            "-n" | "-d" => drop(word()),
            "-x" => typed.exclude.push(word().into()),
            "-X" => typed.exclude_disks.push(word()),
            "-m" => typed.mbr.push(word()),
            "-M" => typed.mbr_file.push((word(), word().into())),
            "-D" => typed.raw.push(word()),
            "-p" => typed.descs.push((word(), word().into())),
            "-r" => typed.bootloader = Some(word()),
            "--flexible" => typed.flexible = true,
            "--new-uuids" => typed.new_uuids = true,
            other => panic!("{other}"),
        }
    }
    typed
}
