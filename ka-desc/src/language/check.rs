//! What is wrong with a desc as a whole: rules between words, lines and disks.

use super::words::{Fs, Kind};
use super::{Action, Desc, Disk, LEGACY_BOOT_BIT, Partition, Size, Table, TableId};
use crate::limits::{DISKS_MAX, PARTITIONS_MAX, PRIMARIES_MAX, SUBVOLUMES_MAX};

/// A place of a desc.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Which disk, from 0.
    pub disk: usize,
    /// Which of its partitions, from 0; the disk itself if there is none.
    pub partition: Option<usize>,
    /// Which of its words.
    pub field: Field,
}

/// A word of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "their names say it")]
pub enum Field {
    Whole,
    Table,
    Name,
    Kind,
    Size,
    Min,
    At,
    Number,
    Bootable,
    Partuuid,
    Attributes,
    Fs,
    Label,
    Uuid,
    Mount,
    Options,
    Subvolume(usize),
    SubvolumeMount(usize),
}

/// Something that is wrong with a desc.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub place: Place,
    /// What is wrong, in words.
    pub what: String,
    /// What to write instead.
    pub way_out: String,
}

/// Everything that is wrong with a desc. What [`super::parse`] returns has no faults.
#[must_use]
pub fn faults(desc: &Desc) -> Vec<Fault> {
    let mut check =
        Check { place: Place { disk: 0, partition: None, field: Field::Whole }, faults: Vec::new() };
    check.disks(desc);
    for (at, disk) in desc.disks.iter().enumerate() {
        check.place = Place { disk: at, partition: None, field: Field::Whole };
        check.disk(disk);
        for (at, partition) in disk.partitions.iter().enumerate() {
            check.place.partition = Some(at);
            check.partition(partition, disk.table());
        }
    }
    check.mounts(desc);
    check.faults
}

struct Check {
    place: Place,
    faults: Vec<Fault>,
}

impl Check {
    fn fault(&mut self, field: Field, what: impl Into<String>, way_out: impl Into<String>) {
        let place = Place { field, ..self.place };
        self.faults.push(Fault { place, what: what.into(), way_out: way_out.into() });
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
                None if desc.disks.len() > 1 => {
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

    fn disk(&mut self, disk: &Disk) {
        let table = disk.table();
        if disk.partitions.is_empty() {
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
            || (disk.sector_bytes.is_some() && disk.table.is_none())
        {
            self.fault(
                Field::Table,
                "the identity of another kind of table",
                "`table` says which kind it is",
            );
        }
        let numbers = disk.numbers();
        let mut extended = None;
        let mut bootable = None;
        for (at, partition) in disk.partitions.iter().enumerate() {
            self.place.partition = Some(at);
            if partition.kind == Kind::Extended && extended.replace(at).is_some() {
                self.fault(
                    Field::Kind,
                    "a second extended partition",
                    "an MBR has one; put the logicals into it",
                );
            }
            if table == Table::Mbr && partition.bootable && bootable.replace(at).is_some() {
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
            let max = if table == Table::Mbr { PRIMARIES_MAX } else { PARTITIONS_MAX as u32 };
            if !partition.logical && numbers[at] > max {
                match table {
                    Table::Mbr => {
                        let way_out = "make one of them `extended` and put the others into it as `logical …`, or write `table gpt`";
                        self.fault(
                            Field::Kind,
                            "an MBR has room for four primaries, the extended one among them",
                            way_out,
                        );
                    }
                    Table::Gpt => {
                        self.fault(Field::Number, "a GPT has 128 entries", "give a number up to 128")
                    }
                }
            }
        }
        for (at, partition) in disk.partitions.iter().enumerate() {
            self.place.partition = Some(at);
            if partition.logical && table == Table::Mbr && extended.is_none() {
                self.fault(
                    Field::Whole,
                    "a logical partition without an extended one",
                    "add a line such as `extended fill`",
                );
            }
        }
        self.place.partition = None;
    }

    fn partition(&mut self, p: &Partition, table: Table) {
        self.in_table(p, table);
        self.size(p);
        self.contents(p);
        if p.subvolumes.len() > SUBVOLUMES_MAX {
            self.fault(Field::Whole, format!("more than {SUBVOLUMES_MAX} subvolumes"), "make fewer of them");
        }
        if p.action != Action::Make && table == Table::Mbr && (p.logical || p.kind == Kind::Extended) {
            let what = "logicals and the extended partition cannot be kept: their chain is written anew";
            self.fault(Field::Whole, what, "keep primaries only, or use a GPT");
        }
        if p.action == Action::Reuse && p.formatted().is_none() {
            self.fault(Field::Whole, "nothing is done to this partition", "say a file system, or `keep` it");
        }
    }

    /// What either table does not have.
    fn in_table(&mut self, p: &Partition, table: Table) {
        if p.logical && p.kind == Kind::Extended {
            self.fault(Field::Kind, "an extended partition within the extended one", "leave out `logical`");
            return;
        }
        if p.kind.type_in(table, p.file_system()).is_none() || (p.logical && table == Table::Gpt) {
            let what = if p.logical {
                "a GPT has no logical partitions".into()
            } else {
                format!("a {table} table has no `{}`", p.kind)
            };
            let way_out = match (table, p.kind) {
                (Table::Gpt, Kind::Mbr(_)) => {
                    "a GPT's types are GUIDs: one of the words, or `type` and a GUID"
                }
                (Table::Gpt, _) => "leave out `extended` and `logical`, or write `table mbr`",
                (Table::Mbr, _) => "write `table gpt`, or leave it out",
            };
            self.fault(if p.logical { Field::Whole } else { Field::Kind }, what, way_out);
        }
        if matches!(p.kind, Kind::Mbr(0x00 | 0x05 | 0x0f | 0x82 | 0x83 | 0x85 | 0xee)) {
            self.fault(
                Field::Kind,
                "this type has a word of its own, or none",
                "`linux`, `swap` or `extended`",
            );
        }
        if table == Table::Mbr {
            let way_out = "leave it out, or write `table gpt`";
            for (said, field) in [
                (p.name.is_some(), Field::Name),
                (p.partuuid.is_some(), Field::Partuuid),
                (p.attributes != 0, Field::Attributes),
            ] {
                if said {
                    self.fault(field, "an MBR's partitions have no name, GUID or attributes", way_out);
                }
            }
        }
        if p.partuuid.is_some_and(|guid| guid.0 == 0) {
            self.fault(
                Field::Partuuid,
                "the GUID of zeros names nothing",
                "give another, or none for a random one",
            );
        }
        if p.name
            .as_ref()
            .is_some_and(|name| name.encode_utf16().count() > 36 || unprintable(name) || name.is_empty())
        {
            self.fault(
                Field::Name,
                "no name for a partition",
                "1 to 36 printable characters, without quotes and backslashes",
            );
        }
        if p.attributes >> LEGACY_BOOT_BIT & 1 == 1 {
            self.fault(Field::Attributes, "attribute 2 has a word of its own", "write `bootable`");
        } else if p.attributes & 0x0000_ffff_ffff_fff8 != 0 {
            self.fault(Field::Attributes, "attributes 3 to 47 are reserved", "take 0, 1, or 48 to 63");
        }
        if p.kind == Kind::Extended && p.bootable {
            self.fault(
                Field::Bootable,
                "nothing starts from an extended partition",
                "mark a primary as bootable",
            );
        }
    }

    fn size(&mut self, p: &Partition) {
        match (p.action, p.size) {
            (Action::Make, Size::Any) => {
                self.fault(Field::Size, "a new partition of any size", "give a size, or `fill`");
            }
            (Action::Keep | Action::Reuse, Size::Fill | Size::Percent(_)) => {
                let way_out = "give its size, or `any`";
                self.fault(Field::Size, "what is there already has its size", way_out);
            }
            _ => {}
        }
        if p.min_bytes.is_some() && !matches!(p.size, Size::Fill | Size::Percent(_)) {
            self.fault(
                Field::Min,
                "a minimum beside a size that does not depend on the disk",
                "`min` goes with `fill` and `30%`",
            );
        }
        if p.at_bytes.is_some() && p.action == Action::Make {
            self.fault(
                Field::At,
                "new partitions find their place themselves",
                "`at` goes with `keep` and `reuse`",
            );
        }
        if let (Some(fs), Size::Bytes(bytes)) = (p.formatted(), p.size)
            && bytes < fs.min_bytes()
        {
            let least = super::bytes::Written(fs.min_bytes());
            self.fault(Field::Size, format!("too small for {fs}"), format!("give it at least {least}"));
        }
    }

    /// What is on it, and where that is mounted.
    fn contents(&mut self, p: &Partition) {
        let fs = p.file_system();
        let bare = matches!(p.kind, Kind::Extended | Kind::BiosBoot | Kind::Msr);
        if bare && p.fs.is_some() {
            self.fault(Field::Fs, format!("`{}` has no file system", p.kind), "leave it out");
        }
        let Some(fs) = fs else {
            let way_out = "say its file system, such as `linux 20G ext4 …`";
            for (said, field) in [
                (p.label.is_some(), Field::Label),
                (p.uuid.is_some(), Field::Uuid),
                (p.mount.is_some(), Field::Mount),
                (p.options.is_some(), Field::Options),
                (!p.subvolumes.is_empty(), Field::Subvolume(0)),
            ] {
                if said {
                    self.fault(field, "this belongs to a file system", way_out);
                }
            }
            return;
        };
        if (p.kind == Kind::Swap) != (fs == Fs::Swap) {
            let way_out = "write `swap SIZE` for swap, and `linux SIZE ext4` for a file system";
            self.fault(Field::Fs, format!("`{}` with {fs} on it", p.kind), way_out);
        }
        if let Some(label) = &p.label {
            let max = fs.label_bytes_max();
            if label.is_empty()
                || label.len() > max
                || label.starts_with('-')
                || label.chars().any(char::is_control)
            {
                let way_out = format!("1 to {max} bytes, no control characters, not a - at the beginning");
                self.fault(Field::Label, format!("no label for {fs}"), way_out);
            }
        }
        match &p.uuid {
            Some(uuid) if fs.uuid(uuid).as_ref() != Some(uuid) => {
                self.fault(
                    Field::Uuid,
                    format!("no UUID of {fs}"),
                    format!("it is written like {}", fs.uuid_sample()),
                );
            }
            Some(_) if fs == Fs::Ntfs && p.action != Action::Keep => {
                self.fault(Field::Uuid, "mkfs.ntfs takes no UUID", "leave it out for a random one");
            }
            _ => {}
        }
        if fs == Fs::Swap && (p.mount.is_some() || p.options.is_some()) {
            let field = if p.mount.is_some() { Field::Mount } else { Field::Options };
            self.fault(field, "swap is not mounted", "leave it out");
        }
        if p.options.is_some() && !p.is_mounted() && fs != Fs::Swap {
            self.fault(Field::Options, "options of nothing that is mounted", "say where: `mount PATH`");
        }
        if let Some(options) = &p.options {
            self.mount_options(options, Field::Options);
        }
        self.subvolumes(p, fs);
    }

    fn subvolumes(&mut self, p: &Partition, fs: Fs) {
        for (at, subvolume) in p.subvolumes.iter().enumerate() {
            let field = Field::Subvolume(at);
            if fs != Fs::Btrfs {
                self.fault(field, format!("{fs} has no subvolumes"), "they stand below a line with `btrfs`");
            }
            if !is_path(&format!("/{}", subvolume.name))
                || subvolume.name.contains(',')
                || subvolume.name.starts_with('-')
            {
                let way_out =
                    "a path such as @home or var/log, without a / or - at the beginning, .. and commas";
                self.fault(field, "no name for a subvolume", way_out);
            }
            if p.subvolumes[..at].iter().any(|other| other.name == subvolume.name) {
                self.fault(field, "this subvolume is there twice", "give each its own name");
            }
            if subvolume.options.is_some() && subvolume.mount.is_none() {
                self.fault(field, "options of nothing that is mounted", "say where: `mount PATH`");
            }
            if let Some(options) = &subvolume.options {
                self.mount_options(options, field);
            }
        }
    }

    fn mount_options(&mut self, options: &str, field: Field) {
        let bad = |o: &str| {
            o.is_empty() || o.starts_with('-') || o.chars().any(|c| c.is_whitespace() || c.is_control())
        };
        if options.split(',').any(bad) {
            self.fault(
                field,
                "no mount options",
                "words separated by commas, without blanks: `options nodev,noatime`",
            );
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
fn is_path(path: &str) -> bool {
    let part =
        |part: &str| !part.is_empty() && part != "." && part != ".." && !part.chars().any(char::is_control);
    path == "/" || path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(part))
}

/// What sfdisk's scripts cannot carry between quotes.
fn unprintable(text: &str) -> bool {
    text.chars().any(|c| c.is_control() || matches!(c, '"' | '\\'))
}
