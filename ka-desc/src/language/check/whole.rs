//! The faults of a desc as a whole: rules between words, lines and disks.

use super::super::bytes::Written;
use super::super::words::Kind;
use super::fault::{Fault, Field, Gaps, Place};
use crate::language::desc::{Desc, Disk, Size, TableId};
use crate::language::words::Table;
use crate::limits::{DISKS_MAX, MIB_BYTES, PARTITIONS_MAX, PRIMARIES_MAX};

/// Everything that is wrong with a desc. What [`parse`](crate::language::parse) returns has no faults.
#[must_use]
pub fn faults(desc: &Desc) -> Vec<Fault> {
    faults_but(desc, &Gaps::new())
}

/// The faults of a desc that it has whatever it may say where it has gaps.
pub(crate) fn faults_but(desc: &Desc, gaps: &Gaps) -> Vec<Fault> {
    let place = Place { disk: 0, partition: None, field: Field::Whole };
    let mut check = Check { gaps, place, faults: Vec::new() };
    check.disks(desc);
    for (at, disk) in desc.disks.iter().enumerate() {
        check.place = Place { disk: at, ..place };
        let table = check.table(disk);
        check.disk(disk, table);
        for (at, partition) in disk.partitions.iter().enumerate() {
            check.place.partition = Some(at);
            check.partition(partition, table);
        }
    }
    check.mounts(desc);
    check.faults
}

/// The lines of a disk that there may be one of, as far as they were met.
#[derive(Default)]
struct Seen {
    extended: Option<usize>,
    bootable: Option<usize>,
    /// The table's primaries are used up, and that was said.
    full: bool,
}

pub(super) struct Check<'a> {
    gaps: &'a Gaps,
    place: Place,
    faults: Vec<Fault>,
}

impl Check<'_> {
    pub(super) fn fault(&mut self, field: Field, what: impl Into<String>, way_out: impl Into<String>) {
        let place = Place { field, ..self.place };
        self.faults.push(Fault { place, what: what.into(), way_out: way_out.into() });
    }

    /// Whether something is not understood here.
    pub(super) fn gap(&self, field: Field) -> bool {
        self.gaps.contains(&Place { field, ..self.place })
    }

    /// Whether one of these lines may have begun another disk.
    fn torn(&self) -> bool {
        self.gaps.contains(&Place { partition: None, field: Field::Whole, ..self.place })
    }

    /// Whether there may be a partition of any kind on this disk.
    fn unkind(&self) -> bool {
        let any = |field| matches!(field, Field::Kind | Field::Table);
        self.gaps.iter().any(|gap| gap.disk == self.place.disk && any(gap.field))
    }

    /// The disk's table, if that is certain.
    fn table(&self, disk: &Disk) -> Option<Table> {
        let gaps = self.gaps.iter().any(|gap| gap.disk == self.place.disk);
        let table = disk.table();
        // What is not understood may ask for a GPT, too.
        let certain = disk.table.is_some() || !gaps || (!self.gap(Field::Table) && table == Table::Gpt);
        (certain && !self.torn()).then_some(table)
    }

    fn disks(&mut self, desc: &Desc) {
        if desc.disks.is_empty() {
            self.fault(Field::Whole, "this desc is empty", "a line for each partition, such as `linux 3500`");
        }
        if desc.disks.len() > DISKS_MAX {
            self.fault(Field::Whole, format!("more than {DISKS_MAX} disks"), "take several descs");
        }
        for (at, disk) in desc.disks.iter().enumerate() {
            self.place.disk = at;
            let same = |other: &Disk| other.name.is_some() && other.name == disk.name;
            match &disk.name {
                None if desc.disks.len() > 1 && !self.gap(Field::Name) && !self.torn() => {
                    self.fault(
                        Field::Whole,
                        "these partitions belong to no disk",
                        "a line `disk NAME` stands above them",
                    );
                }
                Some(name) if name.is_empty() || name.contains('=') || name.contains('/') => {
                    let way_out = "a short name of your own, without / and =: which device it is, `--disk NAME=DEVICE` says";
                    self.fault(Field::Name, "no name for a disk", way_out);
                }
                Some(name) if desc.disks[..at].iter().any(same) => {
                    self.fault(
                        Field::Name,
                        format!("there is a disk {name} already"),
                        "give each its own name",
                    );
                }
                _ => {}
            }
        }
    }

    fn disk(&mut self, disk: &Disk, table: Option<Table>) {
        if disk.partitions.is_empty() && !self.torn() && !self.unkind() {
            self.fault(
                Field::Whole,
                "a disk without partitions",
                "a line for each partition, such as `linux 3500`",
            );
        }
        if disk.partitions.len() > PARTITIONS_MAX {
            self.fault(
                Field::Whole,
                format!("more than {PARTITIONS_MAX} partitions"),
                "no table has room for them",
            );
        }
        let id_of = disk.id.map(|id| if matches!(id, TableId::Mbr(_)) { Table::Mbr } else { Table::Gpt });
        if id_of.is_some_and(|of| disk.table != Some(of))
            || (!self.gap(Field::Table) && disk.sector_bytes.is_some() && disk.table.is_none())
        {
            self.fault(
                Field::Table,
                "the identity of another kind of table",
                "`table` says which kind it is",
            );
        }
        // Some of these lines may be another disk's.
        if self.torn() {
            return;
        }
        let mut seen = Seen::default();
        for (at, number) in disk.numbers().into_iter().enumerate() {
            self.line(disk, at, number, table, &mut seen);
        }
        let extended = seen.extended;
        for (at, partition) in disk.partitions.iter().enumerate() {
            self.place.partition = Some(at);
            if partition.logical && table == Some(Table::Mbr) && extended.is_none() && !self.unkind() {
                self.fault(
                    Field::Whole,
                    "a logical partition without an extended one",
                    "add a line such as `extended fill`",
                );
            }
        }
        for logical in [false, true] {
            self.shares(disk, logical);
        }
        self.place.partition = None;
    }

    /// Checks a line against those before it.
    fn line(&mut self, disk: &Disk, at: usize, number_of: u32, table: Option<Table>, seen: &mut Seen) {
        let partition = &disk.partitions[at];
        self.place.partition = Some(at);
        if partition.kind == Kind::Extended && seen.extended.replace(at).is_some() {
            self.fault(
                Field::Kind,
                "a second extended partition",
                "an MBR has one; put the logicals into it",
            );
        }
        if table == Some(Table::Mbr) && partition.bootable && seen.bootable.replace(at).is_some() {
            self.fault(Field::Bootable, "a second bootable partition", "an MBR starts from one");
        }
        if let Some(number) = partition.number {
            let twin = disk.partitions[..at].iter().any(|p| p.number == Some(number));
            if twin || partition.logical {
                let what = if twin {
                    "this number is taken"
                } else {
                    "logicals are numbered by their order, from 5"
                };
                self.fault(Field::Number, what, "give another number, or none");
            }
        }
        if partition.logical {
            return;
        }
        match table {
            Some(Table::Mbr) if number_of > PRIMARIES_MAX && !seen.full => {
                seen.full = true;
                let way_out = "make one of them `extended` and put the others into it as `logical …`, or write `table gpt`";
                self.fault(
                    Field::Kind,
                    "an MBR has room for four primaries, the extended one among them",
                    way_out,
                );
            }
            Some(Table::Gpt) if number_of > PARTITIONS_MAX as u32 => {
                self.fault(Field::Number, "a GPT has 128 entries", "give a number up to 128");
            }
            _ => {}
        }
    }

    /// No disk has more than all of it; what else there is room for, a disk must be there to say.
    fn shares(&mut self, disk: &Disk, logical: bool) {
        let lines = || disk.partitions.iter().enumerate().filter(|(_, p)| p.logical == logical);
        let mut percent = 0;
        let mut bytes: u64 = 0;
        for (at, partition) in lines() {
            match partition.size {
                Size::Percent(n) => {
                    percent += u32::from(n);
                    if percent > 100 {
                        self.place.partition = Some(at);
                        let way_out = "give shares that are 100% together, or `fill`";
                        return self.fault(
                            Field::Size,
                            "these shares are more than all of the disk",
                            way_out,
                        );
                    }
                }
                Size::Bytes(n) => bytes = bytes.saturating_add(MIB_BYTES).saturating_add(n),
                Size::Fill | Size::Any => {}
            }
        }
        let frame = disk.partitions.iter().position(|p| p.kind == Kind::Extended);
        if let Some(at) = frame.filter(|_| logical)
            && let Size::Bytes(has) = disk.partitions[at].size
            && has < bytes
        {
            self.place.partition = Some(at);
            let way_out = format!("give it at least {}, or `fill`", Written(bytes));
            self.fault(Field::Size, "too small for its logicals", way_out);
        }
    }

    fn mounts(&mut self, desc: &Desc) {
        let mut paths: Vec<&str> = Vec::new();
        for (d, disk) in desc.disks.iter().enumerate() {
            for (at, p) in disk.partitions.iter().enumerate() {
                self.place = Place { disk: d, partition: Some(at), field: Field::Whole };
                let own = p.mount.as_deref().map(|path| (Field::Mount, path));
                let subs = p.subvolumes.iter().enumerate();
                let subs = subs.filter_map(|(at, s)| Some((Field::SubvolumeMount(at), s.mount.as_deref()?)));
                for (field, path) in own.into_iter().chain(subs) {
                    if !is_path(path) {
                        self.fault(
                            field,
                            format!("{path} is no place to mount"),
                            "an absolute path such as / or /home, without ..",
                        );
                    } else if paths.contains(&path) {
                        self.fault(
                            field,
                            format!("something else is mounted at {path}"),
                            "each has its own place",
                        );
                    }
                    paths.push(path);
                }
            }
        }
    }
}

/// An absolute path in its shortest form.
pub(super) fn is_path(path: &str) -> bool {
    let part =
        |part: &str| !part.is_empty() && part != "." && part != ".." && !part.chars().any(char::is_control);
    path == "/" || path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(part))
}
