//! The types: what one line of a desc file says.

use std::fmt;

/// A whole desc: the partitions of one disk, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desc {
    /// Its lines.
    pub partitions: Vec<Partition>,
}

/// One line: a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Whether it lies within the extended partition of an MBR.
    pub logical: bool,
    /// What it is for.
    pub kind: Kind,
    /// How large it is.
    pub size: Size,
}

/// What a partition is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A Linux file system: type 83.
    Linux,
    /// Swap: type 82.
    Swap,
    /// The frame of the logical partitions.
    Extended,
    /// An MBR type by its number.
    Type(u8),
}

/// How large a partition is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Size {
    /// So many megabytes of 2²⁰ bytes.
    MiB(u64),
    /// What the others leave.
    Fill,
}

impl fmt::Display for Desc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.partitions.iter().try_for_each(|p| writeln!(f, "{p}"))
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let logical = if self.logical { "logical " } else { "" };
        write!(f, "{logical}{} {}", self.kind, self.size)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Linux => f.write_str("linux"),
            Self::Swap => f.write_str("swap"),
            Self::Extended => f.write_str("extended"),
            Self::Type(number) => write!(f, "type{number:02x}"),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MiB(n) => write!(f, "{n}"),
            Self::Fill => f.write_str("fill"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manuals_sample_reads_as_it_was_written() {
        let line = |logical, kind, size| Partition { logical, kind, size };
        let desc = Desc {
            partitions: vec![
                line(false, Kind::Linux, Size::MiB(3500)),
                line(false, Kind::Extended, Size::Fill),
                line(true, Kind::Swap, Size::MiB(500)),
                line(true, Kind::Type(0x0c), Size::Fill),
            ],
        };
        assert_eq!(desc.to_string(), "linux 3500\nextended fill\nlogical swap 500\nlogical type0c fill\n");
    }
}
