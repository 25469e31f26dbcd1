//! The plan that a golden node sends its clones, and the purpose of each stream of the session. Pure.
//!
//! ```text
//! stream   plan ─────▶ files ──────────▶ raw (any number) ──▶ boot
//! a node   looks,      unpacks them      writes them          writes boot records, makes the clone
//!          partitions, below one                              bootable and distinct, unmounts, syncs
//!          formats,    directory
//!          mounts
//! ```
//!
//! A plan is data. Nothing of it is ever run: what a node does is the node's own code, chosen by the plan's words.
//! It arrives authenticated, and is still read as if it came from a stranger: its size, its version, and every
//! number are checked before anything happens.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::language::{Desc, parse};
use crate::limits::DISK_BYTES_MAX;

/// The version of the plan's format. A node refuses any other.
pub const VERSION: u32 = 1;

/// The longest plan, in bytes.
pub const MANIFEST_BYTES_MAX: usize = 1 << 20;

/// The most bytes of all boot records together.
pub const BOOT_BYTES_MAX: u64 = 16 << 20;

/// The most disks, needs, raw partitions and pieces of boot records of a plan.
const LIST_MAX: usize = 256;

/// The fewest characters of a UUID: vfat's `1A2B-3C4D`.
const UUID_CHARS_MIN: usize = 9;

/// The plan: what a clone becomes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`VERSION`].
    pub version: u32,
    /// The golden node's host name, for people.
    pub golden: String,
    /// The golden node's clock when the plan was made: seconds since 1970. A node without a clock takes it.
    pub time_s: u64,
    /// The disks, in ka-desc's language; each disk has a name, which is the golden node's name for it, such as `sda`.
    pub desc: String,
    /// The facts of the golden node's own disks, in the desc's order.
    pub disks: Vec<DiskFacts>,
    /// The bytes and inodes that each file system must hold.
    pub needs: Vec<Need>,
    /// The files.
    pub files: Files,
    /// The raw partitions, in the order of their streams.
    pub raw: Vec<Raw>,
    /// The way in which clones boot.
    pub boot: Boot,
    /// Clones get UUIDs of their own, and every reference to the old ones is rewritten.
    pub new_uuids: bool,
    /// The golden node's UUIDs of file systems and swap that a clone has others for: all that the desc makes without
    /// one.
    pub uuids: Vec<GoldenUuid>,
}

/// The facts of one of the golden node's disks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskFacts {
    /// The desc's name for it.
    pub name: String,
    /// Its size, in bytes.
    pub bytes: u64,
    /// The kernel modules that its controller needs there, such as `virtio_blk`; empty if that is not known.
    pub modules: Vec<String>,
}

/// A partition, by the desc's name of its disk and its number.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// The desc's name of its disk.
    pub disk: String,
    /// Its number in the table.
    pub number: u32,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of disk {}", self.number, self.disk)
    }
}

/// The UUID that the golden node has for what is on a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenUuid {
    /// The partition.
    pub part: Part,
    /// The UUID, as blkid writes it.
    pub uuid: String,
}

/// The bytes and inodes that a file system must hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Need {
    /// The partition with the file system.
    pub part: Part,
    /// Bytes used on the golden node.
    pub bytes: u64,
    /// Inodes used on the golden node; 0 where there is no such count.
    pub inodes: u64,
}

/// The stream of files: one POSIX tar of everything, relative to the clone's root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// About how many bytes, for progress.
    pub bytes: u64,
    /// The mount points that are in it, for people.
    pub mounts: Vec<String>,
    /// Directories that come empty, for people.
    pub excluded: Vec<String>,
}

/// A partition that comes as its blocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    /// The partition that the blocks go to.
    pub part: Part,
    /// Its size on the golden node, in bytes.
    pub bytes: u64,
    /// The file system on it, if that is one of [`PARTCLONE`]: then only its used blocks come, when every node can take
    /// those.
    pub fs: Option<String>,
}

/// The file systems whose used blocks partclone finds, by the names of its programs. Not those with a journal that
/// Linux plays back: with one that was not, partclone leaves out what is in use, and says that all is well.
pub const PARTCLONE: [&str; 3] = ["exfat", "ntfs", "vfat"];

/// In which form a raw partition comes: the first byte of its stream. It is known only when all nodes have said which
/// programs they have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawFormat {
    /// All its bytes follow.
    Bytes,
    /// The image that partclone makes of it follows.
    Partclone,
}

impl RawFormat {
    /// As the first byte of the stream.
    #[must_use]
    pub fn byte(self) -> u8 {
        match self {
            Self::Bytes => 0,
            Self::Partclone => 1,
        }
    }

    /// From the first byte of the stream.
    #[must_use]
    pub fn of_byte(byte: u8) -> Option<Self> {
        [Self::Bytes, Self::Partclone].into_iter().find(|form| form.byte() == byte)
    }
}

/// The way in which clones boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boot {
    /// The firmware that can boot the clones. A node with another one is refused; empty: clones need not boot.
    pub firmware: Vec<Firmware>,
    /// The pieces that the stream `boot` carries, one after another.
    pub pieces: Vec<Piece>,
    /// The loader that UEFI starts.
    pub uefi: Option<Uefi>,
    /// The clone's own tools install the loader, with these arguments (`-r "grub ..."`).
    pub install: Option<Install>,
}

/// The firmware that starts a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the words say all")]
pub enum Firmware {
    Bios,
    Uefi,
}

impl fmt::Display for Firmware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bios => "BIOS",
            Self::Uefi => "UEFI",
        })
    }
}

/// A piece of a boot record, as it was on the golden node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Piece {
    /// The desc's name of the disk.
    pub disk: String,
    /// The place on that disk.
    pub place: Place,
    /// The sector at which it began there.
    pub sector: u64,
    /// Its length, in bytes.
    pub bytes: u64,
}

/// The place where a piece of a boot record belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// The first 440 bytes of the disk.
    Mbr,
    /// Between the MBR and the first partition.
    Gap,
    /// The whole partition of this number: a BIOS boot partition.
    Partition(u32),
}

/// The loader that UEFI starts, and its boot entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Uefi {
    /// The EFI system partition.
    pub esp: Part,
    /// The mount point of that partition, such as `/boot/efi`.
    pub mount: String,
    /// The loader on it, such as `/EFI/debian/shimx64.efi`.
    pub loader: String,
    /// The name of the boot entry.
    pub label: String,
}

/// The clone's own tools install the loader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Install {
    /// Further arguments for `grub-install`.
    pub args: Vec<String>,
}

/// The purpose of a stream of the session: its metadata.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StreamKind {
    /// A [`Manifest`].
    #[serde(rename = "plan")]
    Manifest,
    /// [`Manifest::files`].
    Files,
    /// The one of [`Manifest::raw`] with this index.
    Raw(usize),
    /// [`Boot::pieces`]; when it ends, the clone is finished.
    Boot,
}

impl StreamKind {
    /// As a stream's metadata.
    #[must_use]
    pub fn to_metadata(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain data")
    }

    /// Whether a stream with this metadata has an estimate for its size: what the files of a running system become is
    /// known at their end.
    #[must_use]
    pub fn is_estimate(metadata: &[u8]) -> bool {
        matches!(Self::from_metadata(metadata), Ok(Self::Files))
    }

    /// From a stream's metadata.
    ///
    /// # Errors
    /// A sentence: the stream is not of a clone's session.
    pub fn from_metadata(bytes: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(bytes).map_err(|_| {
            "the session's streams are not those of a clone: is it one of ka-d-server? ka-d-client receives those".into()
        })
    }
}

impl Manifest {
    /// As the stream's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain data")
    }

    /// From the stream's bytes, checked.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Err(format!("the plan is longer than {MANIFEST_BYTES_MAX} bytes").into());
        }
        let wrong = |e: serde_json::Error| format!("the plan cannot be read: {e}");
        let Versioned { version } = serde_json::from_slice(bytes).map_err(wrong)?;
        if version != VERSION {
            return Err(format!(
                "the golden node's plan has version {version}, and this node knows {VERSION}: use programs of the same \
                 version, such as those of a rescue system that the golden node has built"
            ).into());
        }
        let plan: Self = serde_json::from_slice(bytes).map_err(wrong)?;
        plan.check()?;
        Ok(plan)
    }

    /// The desc, read.
    ///
    /// # Errors
    /// The desc's problems.
    pub fn desc(&self) -> Result<Desc, Error> {
        parse(&self.desc).map_err(|problems| format!("the plan's desc is wrong: {problems}").into())
    }

    /// Whether what is said fits together, and no number is beyond its limit.
    fn check(&self) -> Result<(), Error> {
        let desc = self.desc()?;
        let names: Vec<&str> = desc.disks.iter().filter_map(|disk| disk.name.as_deref()).collect();
        let facts: Vec<&str> = self.disks.iter().map(|disk| disk.name.as_str()).collect();
        if names.len() != desc.disks.len() || names != facts {
            return Err("the plan's disks and those of its desc are not the same".into());
        }
        let lists = [self.needs.len(), self.raw.len(), self.uuids.len(), self.boot.pieces.len()];
        if lists.into_iter().max() > Some(LIST_MAX) {
            return Err(format!("the plan has a list of more than {LIST_MAX} entries").into());
        }
        let parts = self.needs.iter().map(|need| &need.part).chain(self.raw.iter().map(|raw| &raw.part));
        let parts = parts.chain(self.uuids.iter().map(|uuid| &uuid.part));
        for part in parts.chain(self.boot.uefi.iter().map(|uefi| &uefi.esp)) {
            let disk = desc.disks.iter().find(|disk| disk.name.as_ref() == Some(&part.disk));
            if !disk.is_some_and(|disk| disk.numbers().contains(&part.number)) {
                return Err(format!("the plan means partition {part}, which its desc does not have").into());
            }
        }
        // Every file of a clone that speaks of it is rewritten: a short word would be found everywhere.
        let uuid = |text: &str| {
            text.len() >= UUID_CHARS_MIN && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
        };
        if let Some(wrong) = self.uuids.iter().find(|golden| !uuid(&golden.uuid)) {
            return Err(format!(
                "the plan says that partition {} has the UUID `{}`, which is none",
                wrong.part, wrong.uuid
            )
            .into());
        }
        for piece in &self.boot.pieces {
            if !names.contains(&piece.disk.as_str()) {
                return Err(format!(
                    "the plan has a boot record for disk {}, which its desc does not have",
                    piece.disk
                )
                .into());
            }
        }
        let bytes = self.boot.pieces.iter().try_fold(0u64, |sum, piece| sum.checked_add(piece.bytes));
        if bytes.is_none_or(|bytes| bytes > BOOT_BYTES_MAX) {
            return Err(format!("the plan's boot records have more than {BOOT_BYTES_MAX} bytes").into());
        }
        if self.raw.iter().any(|raw| raw.bytes > DISK_BYTES_MAX) {
            return Err("a raw partition of the plan is larger than any disk".into());
        }
        let strange = |raw: &&Raw| raw.fs.as_ref().is_some_and(|fs| !PARTCLONE.contains(&fs.as_str()));
        if let Some(raw) = self.raw.iter().find(strange) {
            return Err(
                format!("the plan has a file system on partition {} that it cannot mean", raw.part).into()
            );
        }
        Ok(())
    }

    /// The length of the stream `boot`, in bytes.
    #[must_use]
    pub fn boot_bytes(&self) -> u64 {
        self.boot.pieces.iter().map(|piece| piece.bytes).sum()
    }
}

/// The directory of what a machine keeps for itself, for root only: the key of its own sessions, and of which session it
/// is a clone. It is never cloned.
pub const OWN: &str = "/etc/ka";

/// The progress of a node, as it reports it to the golden node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The node is in the session, and waits for the others.
    Gathering,
    /// The node examines its disks, partitions and formats them.
    Formatting,
    /// The node's file systems are there, empty: the files may come.
    Ready,
    /// Files or raw partitions arrive.
    Streaming,
    /// The bytes are there: the node makes the clone bootable and distinct, and syncs it to the disk.
    Finishing,
}

/// The words under which a node's notes tell people something.
pub mod topic {
    /// A line of the node's log.
    pub const LOG: &str = "log";
    /// Something that may be wrong with the clone, for the admin.
    pub const WARNING: &str = "warning";
    /// An intended difference between the clone and the golden node.
    pub const CHANGED: &str = "changed";
}

/// What a machine says of itself when it joins, for programs: JSON of at most 1 KiB. Unknown fields are ignored, and
/// missing ones are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct About {
    /// The addresses of the machine's network cards, in lower case with colons, the lowest first.
    pub macs: Vec<String>,
}

/// What a node says of itself as it goes on, for programs: JSON of at most 1 KiB. The last one counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeState {
    /// The stage of the installation.
    pub stage: Stage,
    /// The file systems whose used blocks the node can write: words of [`PARTCLONE`]; `None`: it is not known yet.
    #[serde(default)]
    pub partclone: Option<Vec<String>>,
}

impl About {
    /// As bytes; of too many addresses the first.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let macs = self.macs.iter().take(MACS_MAX).cloned().collect();
        serde_json::to_vec(&Self { macs }).expect("plain data")
    }

    /// From bytes; empty if they are none.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).unwrap_or_default()
    }
}

impl NodeState {
    /// As bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain data")
    }

    /// From bytes, without words that are unknown; `None`: the node is not one that installs a clone, or of another
    /// release.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut state: Self = serde_json::from_slice(bytes).ok()?;
        if let Some(words) = &mut state.partclone {
            words.retain(|word| PARTCLONE.contains(&word.as_str()));
        }
        Some(state)
    }
}

/// The most addresses that a machine tells.
const MACS_MAX: usize = 32;

const STAGES: [(Stage, &str); 5] = [
    (Stage::Gathering, "gathering"),
    (Stage::Formatting, "formatting"),
    (Stage::Ready, "ready"),
    (Stage::Streaming, "streaming"),
    (Stage::Finishing, "finishing"),
];

impl Stage {
    /// The stage's word, for people.
    #[must_use]
    pub fn word(self) -> &'static str {
        STAGES.iter().find(|(stage, _)| *stage == self).map_or("", |(_, word)| word)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn plan() -> Manifest {
        let part = |number| Part { disk: "sda".into(), number };
        Manifest {
            version: VERSION,
            golden: "golden".into(),
            time_s: 1_790_000_000,
            desc: "disk sda\ntable mbr\nlinux 100 ext4 mount /\nlinux fill\n".into(),
            disks: vec![DiskFacts { name: "sda".into(), bytes: 1 << 30, modules: Vec::new() }],
            needs: vec![Need { part: part(1), bytes: 1, inodes: 1 }],
            files: Files { bytes: 1, mounts: vec!["/".into()], excluded: Vec::new() },
            raw: vec![Raw { part: part(2), bytes: 7, fs: Some("ntfs".into()) }],
            boot: Boot {
                firmware: vec![Firmware::Bios],
                pieces: vec![Piece { disk: "sda".into(), place: Place::Mbr, sector: 0, bytes: 440 }],
                uefi: None,
                install: None,
            },
            new_uuids: false,
            uuids: vec![GoldenUuid { part: part(1), uuid: "1A2B-3C4D".into() }],
        }
    }

    #[test]
    fn a_plan_arrives_as_it_was() {
        assert_eq!(Manifest::from_bytes(&plan().to_bytes()).unwrap(), plan());
        for purpose in [StreamKind::Manifest, StreamKind::Files, StreamKind::Raw(3), StreamKind::Boot] {
            assert_eq!(StreamKind::from_metadata(&purpose.to_metadata()).unwrap(), purpose);
        }
        for form in [RawFormat::Bytes, RawFormat::Partclone] {
            assert_eq!(RawFormat::of_byte(form.byte()), Some(form));
        }
        for (stage, word) in STAGES {
            let state = NodeState { stage, partclone: Some(vec!["ntfs".into()]) };
            assert_eq!((NodeState::from_bytes(&state.to_bytes()), stage.word()), (Some(state), word));
        }
        assert_eq!(NodeState::from_bytes(br#"{"stage":"ready","new":1}"#).unwrap().partclone, None);
        assert_eq!(NodeState::from_bytes(br#"{"stage":"unheard of"}"#), None);
        let strange =
            NodeState::from_bytes(br#"{"stage":"ready","partclone":["ntfs","\u001b[2J"]}"#).unwrap();
        assert_eq!(strange.partclone, Some(vec!["ntfs".into()]));
        let about = About { macs: vec!["52:54:00:12:34:56".into(); 100] };
        assert!(
            about.to_bytes().len() <= 1024 && About::from_bytes(&about.to_bytes()).macs.len() == MACS_MAX
        );
        assert_eq!(About::from_bytes(b"nonsense"), About::default());
    }

    #[test]
    fn a_plan_that_does_not_fit_together_is_refused_with_the_reason() {
        let said = |change: fn(&mut Manifest)| {
            let mut plan = plan();
            change(&mut plan);
            Manifest::from_bytes(&plan.to_bytes()).unwrap_err().to_string()
        };
        assert!(said(|p| p.version = 2).contains("version 2"));
        assert!(said(|p| p.desc = "linux".into()).contains("desc is wrong"));
        assert!(said(|p| p.desc = "linux 5".into()).contains("not the same"));
        assert!(said(|p| p.needs[0].part.number = 9).contains("partition 9 of disk sda"));
        assert!(said(|p| p.uuids[0].part.number = 9).contains("partition 9 of disk sda"));
        assert!(said(|p| p.uuids[0].uuid = "the".into()).contains("`the`, which is none"));
        assert!(said(|p| p.boot.pieces[0].disk = "sdb".into()).contains("disk sdb"));
        assert!(said(|p| p.boot.pieces[0].bytes = u64::MAX).contains("more than"));
        assert!(said(|p| p.raw = vec![p.raw[0].clone(); 257]).contains("256 entries"));
        assert!(said(|p| p.raw[0].bytes = u64::MAX).contains("larger than any disk"));
        assert!(said(|p| p.raw[0].fs = Some("../sh".into())).contains("cannot mean"));
        assert!(Manifest::from_bytes(b"{}").unwrap_err().to_string().contains("version"));
        assert!(
            Manifest::from_bytes(&vec![b' '; MANIFEST_BYTES_MAX + 1])
                .unwrap_err()
                .to_string()
                .contains("longer")
        );
        let stranger = br#"{"version":1,"run":"rm -rf /"}"#;
        assert!(Manifest::from_bytes(stranger).is_err());
    }
}
