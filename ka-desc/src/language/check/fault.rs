//! Faults of a desc, and their places.

use std::collections::BTreeSet;

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
    /// The place of the fault.
    pub place: Place,
    /// The fault, in words.
    pub what: String,
    /// The way out: what to write instead.
    pub way_out: String,
}

/// Parts of a text that are not understood. Of a partition or a subvolume: its kind, or words of its line. Of a disk: a line
/// of some kind, its table, its name; or a line that may even have begun another disk ([`Field::Whole`]).
pub(crate) type Gaps = BTreeSet<Place>;
