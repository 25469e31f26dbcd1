//! The rules of one partition: within its table, by itself, and for what is on it.

use super::fault::Field;
use super::whole::{Check, is_path};
use crate::language::bytes;
use crate::language::desc::{Action, LEGACY_BOOT_BIT, Partition, Size};
use crate::language::words::{Fs, Kind, Table};
use crate::limits::{DISK_BYTES_MAX, SUBVOLUMES_MAX};

impl Check<'_> {
    pub(super) fn partition(&mut self, p: &Partition, table: Option<Table>) {
        self.in_table(p, table);
        self.size(p);
        self.contents(p);
        if p.subvolumes.len() > SUBVOLUMES_MAX {
            self.fault(Field::Whole, format!("more than {SUBVOLUMES_MAX} subvolumes"), "make fewer of them");
        }
        if p.action != Action::Make && table == Some(Table::Mbr) && (p.logical || p.kind == Kind::Extended) {
            let what = "logicals and the extended partition cannot be kept: their chain is written anew";
            self.fault(Field::Whole, what, "keep primaries only, or use a GPT");
        }
        if p.action == Action::Reuse && p.formatted().is_none() && !self.gap(Field::Whole) {
            self.fault(Field::Whole, "nothing is done to this partition", "say a file system, or `keep` it");
        }
    }

    /// Checks for what the partition's kind of table does not have.
    fn in_table(&mut self, p: &Partition, table: Option<Table>) {
        if p.logical && p.kind == Kind::Extended {
            self.fault(Field::Kind, "an extended partition within the extended one", "leave out `logical`");
            return;
        }
        if let Some(table) = table
            && (p.kind.type_in(table, p.file_system()).is_none() || (p.logical && table == Table::Gpt))
        {
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
        if table == Some(Table::Mbr) {
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
        }
        if p.attributes & 0x0000_ffff_ffff_fff8 != 0 {
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
        let bytes = match p.size {
            Size::Bytes(bytes) => Some(bytes),
            _ => None,
        };
        for (field, bytes) in [(Field::Size, bytes), (Field::Min, p.min_bytes), (Field::At, p.at_bytes)] {
            if bytes.is_some_and(|bytes| bytes > DISK_BYTES_MAX) {
                let way_out = format!("give at most {}", bytes::Written(DISK_BYTES_MAX));
                self.fault(field, "more than the largest disk has", way_out);
            }
        }
        if let (Some(fs), Size::Bytes(bytes)) = (p.formatted(), p.size)
            && bytes < fs.min_bytes()
        {
            let least = bytes::Written(fs.min_bytes());
            self.fault(Field::Size, format!("too small for {fs}"), format!("give it at least {least}"));
        }
    }

    /// Checks the file system on the partition: its label, UUID, mount and subvolumes.
    fn contents(&mut self, p: &Partition) {
        // A word that is not understood may have been its file system, or a mount point.
        let gap = self.gap(Field::Whole);
        let fs = if gap { p.fs } else { p.file_system() };
        let bare = matches!(p.kind, Kind::Extended | Kind::BiosBoot | Kind::Msr);
        if bare && p.fs.is_some() {
            self.fault(Field::Fs, format!("`{}` has no file system", p.kind), "leave it out");
        }
        self.subvolumes(p, fs);
        if let Some(options) = &p.options {
            self.mount_options(options, Field::Options);
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
                if said && !gap {
                    self.fault(field, "this belongs to a file system", way_out);
                }
            }
            return;
        };
        if (p.kind == Kind::Swap) != (fs == Fs::Swap) && !self.gap(Field::Kind) {
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
        if p.options.is_some() && !p.is_mounted() && fs != Fs::Swap && !gap {
            self.fault(Field::Options, "options of nothing that is mounted", "say where: `mount PATH`");
        }
    }

    fn subvolumes(&mut self, p: &Partition, fs: Option<Fs>) {
        for (at, subvolume) in p.subvolumes.iter().enumerate() {
            let field = Field::Subvolume(at);
            if let Some(fs) = fs.filter(|fs| *fs != Fs::Btrfs) {
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
            if subvolume.options.is_some() && subvolume.mount.is_none() && !self.gap(field) {
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
}

/// Whether a text has characters that sfdisk's scripts cannot carry between quotes.
pub(crate) fn unprintable(text: &str) -> bool {
    text.chars().any(|c| c.is_control() || matches!(c, '"' | '\\'))
}
