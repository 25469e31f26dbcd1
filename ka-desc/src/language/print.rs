//! A desc as text, such that reading it gives the same desc.

use std::fmt;

use super::bytes::Written;
use super::desc::{Action, Desc, Disk, Partition, Size, Subvolume};
use super::lex::quote;

impl fmt::Display for Desc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.disks.iter().try_for_each(|disk| disk.fmt(f))
    }
}

impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.name {
            writeln!(f, "disk {}", quote(name))?;
        }
        if self.table.is_some() || self.id.is_some() || self.sector_bytes.is_some() {
            write!(f, "table {}", self.table())?;
            option(f, "id", self.id)?;
            option(f, "sector", self.sector_bytes)?;
            writeln!(f)?;
        }
        for partition in &self.partitions {
            writeln!(f, "{partition}")?;
            partition.subvolumes.iter().try_for_each(|s| writeln!(f, "  {s}"))?;
        }
        Ok(())
    }
}

impl fmt::Display for Partition {
    /// Its line, without its subvolumes'.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.action {
            Action::Make => "",
            Action::Keep => "keep ",
            Action::Reuse => "reuse ",
        })?;
        let logical = if self.logical { "logical " } else { "" };
        write!(f, "{logical}{} {}", self.kind, self.size)?;
        option(f, "min", self.min_bytes.map(Written))?;
        if let Some(fs) = self.fs {
            write!(f, " {fs}")?;
        }
        option(f, "label", self.label.as_deref().map(quote))?;
        option(f, "uuid", self.uuid.as_ref())?;
        option(f, "mount", self.mount.as_deref().map(quote))?;
        option(f, "options", self.options.as_deref().map(quote))?;
        f.write_str(if self.bootable { " bootable" } else { "" })?;
        option(f, "number", self.number)?;
        option(f, "at", self.at_bytes.map(Written))?;
        option(f, "name", self.name.as_deref().map(quote))?;
        option(f, "partuuid", self.partuuid)?;
        let bits: Vec<String> =
            (0..64).filter(|bit| self.attributes >> bit & 1 == 1).map(|bit: u32| bit.to_string()).collect();
        option(f, "attributes", (!bits.is_empty()).then(|| bits.join(",")))
    }
}

impl fmt::Display for Subvolume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "subvol {}", quote(&self.name))?;
        option(f, "mount", self.mount.as_deref().map(quote))?;
        option(f, "options", self.options.as_deref().map(quote))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(n) => Written(*n).fmt(f),
            Self::Percent(n) => write!(f, "{n}%"),
            Self::Fill => f.write_str("fill"),
            Self::Any => f.write_str("any"),
        }
    }
}

fn option(f: &mut fmt::Formatter<'_>, word: &str, value: Option<impl fmt::Display>) -> fmt::Result {
    value.map_or(Ok(()), |value| write!(f, " {word} {value}"))
}
