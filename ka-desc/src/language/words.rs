//! The words for what a partition is for and what is on it, and what each of them means in either table.

use std::fmt;

use super::guid::Guid;

/// The purpose of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Linux: MBR type 83.
    Linux,
    /// Swap: MBR type 82.
    Swap,
    /// The frame of an MBR's logical partitions: type 05.
    Extended,
    /// The EFI system partition: MBR type ef.
    Esp,
    /// The partition for GRUB itself on a GPT disk that a BIOS starts.
    BiosBoot,
    /// Microsoft's reserved partition.
    Msr,
    /// A partition that Windows reads: MBR type 07, or 0c with vfat on it.
    Data,
    /// Windows' recovery partition: MBR type 27.
    Recovery,
    /// An MBR type by its number.
    Mbr(u8),
    /// A GPT type by its GUID.
    Gpt(Guid),
}

/// The kinds with a word of their own, their MBR type and their GPT type.
const KINDS: [(&str, Kind, Option<u8>, Option<Guid>); 8] = [
    ("linux", Kind::Linux, Some(0x83), Some(Guid(0x0FC63DAF_8483_4772_8E79_3D69D8477DE4))),
    ("swap", Kind::Swap, Some(0x82), Some(Guid(0x0657FD6D_A4AB_43C4_84E5_0933C84B4F4F))),
    ("extended", Kind::Extended, Some(0x05), None),
    ("esp", Kind::Esp, Some(0xef), Some(Guid(0xC12A7328_F81F_11D2_BA4B_00A0C93EC93B))),
    ("bios_boot", Kind::BiosBoot, None, Some(Guid(0x21686148_6449_6E6F_744E_656564454649))),
    ("msr", Kind::Msr, None, Some(Guid(0xE3C9E316_0B5C_4DB8_817D_F92DF00215AE))),
    ("data", Kind::Data, Some(0x07), Some(Guid(0xEBD0A0A2_B9E5_4433_87C0_68B6B72699C7))),
    ("recovery", Kind::Recovery, Some(0x27), Some(Guid(0xDE94BBA4_06D1_4D40_A16A_BFD50179D6AC))),
];

impl Kind {
    /// The words, for messages.
    pub fn words() -> impl Iterator<Item = &'static str> {
        KINDS.iter().map(|(word, ..)| *word)
    }

    /// The kind that a word of its own stands for.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        KINDS.iter().find(|(w, ..)| *w == word).map(|(_, kind, ..)| *kind)
    }

    /// The kind that an MBR's type stands for.
    #[must_use]
    pub fn of_mbr_type(number: u8) -> Self {
        match number {
            0x0f | 0x85 => Self::Extended,
            _ => {
                let known = KINDS.iter().find(|(_, _, mbr, _)| *mbr == Some(number));
                known.map_or(Self::Mbr(number), |(_, kind, ..)| *kind)
            }
        }
    }

    /// The kind that a GPT's type stands for.
    #[must_use]
    pub fn of_gpt_type(guid: Guid) -> Self {
        KINDS.iter().find(|(.., gpt)| *gpt == Some(guid)).map_or(Self::Gpt(guid), |(_, kind, ..)| *kind)
    }

    /// Its type in such a table, as sfdisk writes it. `None`: such a table has no such type.
    #[must_use]
    pub fn type_in(self, table: Table, fs: Option<Fs>) -> Option<String> {
        let (_, _, mbr, gpt) = match self {
            Self::Mbr(number) => ("", self, Some(number), None),
            Self::Gpt(guid) => ("", self, None, Some(guid)),
            Self::Data if fs == Some(Fs::Vfat) => ("", self, Some(0x0c), KINDS[6].3),
            _ => *KINDS.iter().find(|(_, kind, ..)| *kind == self).expect("every other kind is in the table"),
        };
        match table {
            Table::Mbr => mbr.map(|number| format!("{number:x}")),
            Table::Gpt => gpt.map(|guid| guid.to_string()),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mbr(number) => write!(f, "type{number:02x}"),
            Self::Gpt(guid) => write!(f, "type{guid}"),
            _ => {
                let word = KINDS.iter().find(|(_, kind, ..)| kind == self).map(|(word, ..)| *word);
                f.write_str(word.expect("every other kind is in the table"))
            }
        }
    }
}

/// A file system, or swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "their names say it")]
pub enum Fs {
    Ext2,
    Ext3,
    Ext4,
    Xfs,
    Btrfs,
    Vfat,
    Swap,
    Jfs,
    F2fs,
    Ntfs,
}

/// The properties of a file system.
struct Facts {
    fs: Fs,
    word: &'static str,
    /// The least that its mkfs takes, in MiB, found by trying, and rounded up.
    min_mib: u64,
    /// The longest label, in bytes.
    label_bytes: usize,
}

const FACTS: [Facts; 10] = [
    Facts { fs: Fs::Ext2, word: "ext2", min_mib: 1, label_bytes: 16 },
    Facts { fs: Fs::Ext3, word: "ext3", min_mib: 2, label_bytes: 16 },
    Facts { fs: Fs::Ext4, word: "ext4", min_mib: 2, label_bytes: 16 },
    Facts { fs: Fs::Xfs, word: "xfs", min_mib: 300, label_bytes: 12 },
    Facts { fs: Fs::Btrfs, word: "btrfs", min_mib: 110, label_bytes: 255 },
    Facts { fs: Fs::Vfat, word: "vfat", min_mib: 1, label_bytes: 11 },
    Facts { fs: Fs::Swap, word: "swap", min_mib: 1, label_bytes: 15 },
    Facts { fs: Fs::Jfs, word: "jfs", min_mib: 16, label_bytes: 16 },
    Facts { fs: Fs::F2fs, word: "f2fs", min_mib: 64, label_bytes: 511 },
    Facts { fs: Fs::Ntfs, word: "ntfs", min_mib: 2, label_bytes: 32 },
];

impl Fs {
    /// The words, for messages.
    pub fn words() -> impl Iterator<Item = &'static str> {
        FACTS.iter().map(|f| f.word)
    }

    /// The file system that a word stands for; the words are blkid's, too.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        FACTS.iter().find(|f| f.word == word).map(|f| f.fs)
    }

    /// The least bytes that its mkfs takes.
    #[must_use]
    pub fn min_bytes(self) -> u64 {
        self.facts().min_mib << 20
    }

    /// The most bytes of a label.
    #[must_use]
    pub fn label_bytes_max(self) -> usize {
        self.facts().label_bytes
    }

    /// A UUID as its tools write it, whatever the case it is given in. `None`: such a file system has no such UUID.
    #[must_use]
    pub fn uuid(self, text: &str) -> Option<String> {
        let hex = |t: &str| t.bytes().all(|b| b.is_ascii_hexdigit());
        match self {
            Self::Vfat => {
                let (high, low) = text.split_once('-')?;
                (high.len() == 4 && low.len() == 4 && hex(high) && hex(low))
                    .then(|| text.to_ascii_uppercase())
            }
            Self::Ntfs => (text.len() == 16 && hex(text)).then(|| text.to_ascii_uppercase()),
            _ => text.parse::<Guid>().ok().map(|guid| format!("{guid:#}")),
        }
    }

    /// A sample of this file system's UUIDs, for messages.
    #[must_use]
    pub fn uuid_sample(self) -> &'static str {
        match self {
            Self::Vfat => "1A2B-3C4D",
            Self::Ntfs => "01D4F3A2B5C6E7F8",
            _ => "8d3f2c1e-5b6a-4c7d-9e8f-0a1b2c3d4e5f",
        }
    }

    fn facts(self) -> &'static Facts {
        FACTS.iter().find(|f| f.fs == self).expect("every file system is in the table")
    }
}

impl fmt::Display for Fs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.facts().word)
    }
}

/// Words for what ka-desc does not do, and why.
#[must_use]
pub(super) fn refused(word: &str) -> Option<(&'static str, &'static str)> {
    Some(match word {
        "lvm" | "lvm2" | "pv" | "vg" | "lv" => (
            "LVM spans partitions and disks, and a desc describes disks one by one",
            "make the bare partition (`type8e` in an MBR, `typeE6D6D379-F507-44C2-A23C-238F2A3DF928` in a GPT), and run pvcreate on it",
        ),
        "md" | "raid" | "mdraid" | "mdadm" => (
            "a software RAID spans disks, and a desc describes disks one by one",
            "make the bare partition (`typefd` in an MBR, `typeA19D880F-05FC-4D3B-A006-743F0F84911E` in a GPT), and run mdadm on it",
        ),
        "luks" | "luks1" | "luks2" | "crypt" => (
            "a LUKS volume needs a secret, and a secret has no place in a desc",
            "make the bare partition (`linux` without a file system), and run cryptsetup on it",
        ),
        "reiserfs" | "reiser4" => (
            "kernels no longer have reiserfs (it was removed in 6.13)",
            "take ext4 or xfs; files are copied all the same",
        ),
        "zfs" | "bcachefs" => {
            ("its tools manage disks themselves", "make the bare partition, and let its tools do the rest")
        }
        _ => return None,
    })
}

/// The word that was probably meant, if one is near.
#[must_use]
pub(super) fn near<'a>(word: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let distances = words.into_iter().map(|w| (strsim::damerau_levenshtein(&word, w), w));
    distances.filter(|(distance, w)| *distance <= 1 + w.len() / 4).min().map(|(_, w)| w)
}

/// The two kinds of partition table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Four primaries, a chain of logicals, 2 TiB. What the desc of 2001 made.
    Mbr,
    /// 128 partitions, GUIDs, a copy at the disk's end.
    Gpt,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mbr => "mbr",
            Self::Gpt => "gpt",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_come_back_from_their_types() {
        for (_, kind, mbr, gpt) in KINDS {
            assert!(mbr.is_none_or(|number| Kind::of_mbr_type(number) == kind), "{kind}");
            assert!(gpt.is_none_or(|guid| Kind::of_gpt_type(guid) == kind), "{kind}");
        }
        assert_eq!(Kind::Data.type_in(Table::Mbr, Some(Fs::Vfat)).unwrap(), "c");
        assert_eq!(
            Kind::Data.type_in(Table::Gpt, Some(Fs::Vfat)).unwrap(),
            "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7"
        );
        assert_eq!(Kind::Msr.type_in(Table::Mbr, None), None);
    }

    #[test]
    fn uuids_have_their_file_system_s_form() {
        let text = "8D3F2C1E-5b6a-4c7d-9e8f-0a1b2c3d4e5f";
        assert_eq!(Fs::Ext4.uuid(text), Some(text.to_lowercase()));
        assert_eq!(Fs::Vfat.uuid("1a2b-3c4d").unwrap(), "1A2B-3C4D");
        for fs in [Fs::Ext4, Fs::Vfat, Fs::Ntfs] {
            assert_eq!(fs.uuid("1a2b"), None);
            assert_eq!(fs.uuid("é2b-3c4d"), None);
            assert!(fs.uuid(fs.uuid_sample()).is_some());
        }
    }

    #[test]
    fn a_slip_is_recognised() {
        assert_eq!(near("lunix", Kind::words()), Some("linux"));
        assert_eq!(near("EXT4", Fs::words()), Some("ext4"));
        assert_eq!(near("windows", Kind::words()), None);
    }
}
