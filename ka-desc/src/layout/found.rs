//! The table and the partitions that are on a disk now, and whether they are what a desc keeps.

use super::geometry::Geometry;
use crate::language::{Action, LEGACY_BOOT_BIT, Partition, Size, Table, TableId};

/// A partition table as it is on a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Which kind of table.
    pub table: Table,
    /// The table's identity; some old tables have none.
    pub id: Option<TableId>,
    /// Its partitions, by number; an extended one is one of them.
    pub partitions: Vec<FoundPartition>,
}

/// One partition of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundPartition {
    /// Its number.
    pub number: u32,
    /// Its first sector.
    pub start: u64,
    /// The number of its sectors.
    pub sectors: u64,
    /// Its type, as sfdisk writes it: `83`, or a GUID in capitals.
    pub kind: String,
    /// The name that a GPT gives it.
    pub name: Option<String>,
    /// The GUID that a GPT gives it, in capitals.
    pub partuuid: Option<String>,
    /// A GPT's attributes; an MBR's active flag is the bit [`LEGACY_BOOT_BIT`].
    pub attributes: u64,
    /// The contents of the partition, if anything was recognised.
    pub contents: Option<Contents>,
}

/// The contents of a partition, as blkid recognises them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Its type, in blkid's words.
    pub fs: String,
    /// Its label.
    pub label: Option<String>,
    /// Its UUID.
    pub uuid: Option<String>,
}

impl Found {
    /// The partition with this number.
    #[must_use]
    pub fn partition(&self, number: u32) -> Option<&FoundPartition> {
        self.partitions.iter().find(|p| p.number == number)
    }
}

impl FoundPartition {
    /// The first sector behind it.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.sectors)
    }

    /// In which respects it is not what `line` says, as parts of a sentence: `its type is 83 instead of 7`.
    #[must_use]
    pub fn differences(&self, line: &Partition, table: Table, geometry: Geometry) -> Vec<String> {
        let sector = u64::from(geometry.sector_bytes);
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".into());
        let size = match line.size {
            Size::Bytes(bytes) => Some(bytes.div_ceil(sector).to_string()),
            _ => None,
        };
        let mut pairs = vec![
            ("type", self.kind.clone(), line.kind.type_in(table, line.file_system())),
            ("size in sectors", self.sectors.to_string(), size),
            ("first sector", self.start.to_string(), line.at_bytes.map(|at| at.div_ceil(sector).to_string())),
            ("name", text(&self.name), line.name.clone()),
            ("GUID", text(&self.partuuid), line.partuuid.map(|guid| guid.to_string())),
        ];
        if line.action == Action::Keep {
            let empty = Contents { fs: "none".into(), ..Contents::default() };
            let contents = self.contents.as_ref().unwrap_or(&empty);
            pairs.extend([
                ("file system", contents.fs.clone(), line.fs.map(|fs| fs.to_string())),
                ("label", text(&contents.label), line.label.clone()),
                ("UUID", text(&contents.uuid), line.uuid.clone()),
            ]);
        }
        let differs = |(what, is, should): (&str, String, Option<String>)| {
            let should = should.filter(|should| *should != is)?;
            Some(format!("its {what} is {is} instead of {should}"))
        };
        let mut list: Vec<String> = pairs.into_iter().filter_map(differs).collect();
        let missing = line.gpt_attributes() & !self.attributes;
        if missing == 1 << LEGACY_BOOT_BIT {
            list.push("it is not bootable".into());
        } else if missing != 0 {
            list.push("it lacks attributes".into());
        }
        list
    }
}
