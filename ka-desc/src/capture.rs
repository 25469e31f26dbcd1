//! A disk to the desc that makes an equivalent one: what `fdisk_to_desc` wanted to be. Pure.

use crate::error::Error;
use crate::language::{
    Desc, Disk, Fault, Fs, Kind, LEGACY_BOOT_BIT, Partition, Size, Subvolume, Table, faults,
};
use crate::layout::{Contents, Found, FoundPartition, Geometry};
use crate::limits::MIB_BYTES;
use crate::show::is_frame;
use crate::system::fstab::{self, Entry};

/// A captured disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// The desc.
    pub desc: Desc,
    /// The properties of the disk that the desc cannot express, or expresses otherwise, as sentences.
    pub notes: Vec<String>,
}

/// The desc of what was found on a disk. `fstab` says where things are mounted; `flexible` makes the largest partition
/// take what is left.
///
/// # Errors
/// What a desc does not do is on the disk, or a name on it is none; as sentences.
pub fn capture(
    found: &Found,
    geometry: Geometry,
    fstab: &str,
    flexible: bool,
) -> Result<Captured, Vec<Error>> {
    let refused: Vec<Error> = found.partitions.iter().filter_map(refused).map(Error::from).collect();
    if !refused.is_empty() {
        return Err(refused);
    }
    let mut list: Vec<&FoundPartition> = found.partitions.iter().collect();
    let frame = list.iter().find(|p| is_frame(&p.kind)).copied();
    let logical = |p: &FoundPartition| found.table == Table::Mbr && p.number > 4;
    // Lines stand in the disk's order, the frame before what is in it.
    list.sort_by_key(|p| (p.start, logical(p)));
    let fstab = fstab::read(fstab);
    let mut notes: Vec<String> = by_device(&fstab).collect();
    let mut partitions = Vec::new();
    for p in &list {
        let mut line = line(p, found.table, geometry, &mut notes);
        line.logical = logical(p);
        line.number = (!line.logical).then_some(p.number);
        mounts(&mut line, p, &fstab);
        partitions.push(line);
    }
    let mut disk =
        Disk { table: Some(found.table), id: found.id, sector_bytes: None, name: None, partitions };
    if let Some(frame) = frame {
        let needed = frame_bytes(&disk);
        let at = list.iter().position(|p| p.number == frame.number).expect("it is one of them");
        if let Size::Bytes(bytes) = &mut disk.partitions[at].size {
            *bytes = needed.max(*bytes);
        }
    }
    without_needless_numbers(&mut disk);
    for (p, number) in list.iter().zip(disk.numbers()) {
        if p.number != number {
            notes.push(format!(
                "partition {} becomes number {number}: logicals are numbered by their order",
                p.number
            ));
        }
    }
    if flexible {
        stretch(&mut disk);
    }
    let desc = Desc { disks: vec![disk] };
    let faults: Vec<Fault> = faults(&desc);
    if faults.is_empty() {
        return Ok(Captured { desc, notes });
    }
    let line = |fault: &Fault| fault.place.partition.map(|at| desc.disks[0].partitions[at].to_string());
    Err(faults
        .iter()
        .map(|f| format!("{}: {}; {}", line(f).unwrap_or_default(), f.what, f.way_out).into())
        .collect())
}

/// Why a desc cannot make what is on this partition.
fn refused(p: &FoundPartition) -> Option<String> {
    let what = match p.contents.as_ref()?.fs.as_str() {
        "LVM2_member" | "LVM1_member" => "LVM, which spans partitions and disks",
        "linux_raid_member" | "ddf_raid_member" | "isw_raid_member" => "a software RAID, which spans disks",
        "crypto_LUKS" => "LUKS, and a secret has no place in a desc",
        _ => return None,
    };
    Some(format!("partition {} is part of {what}: write its desc by hand, with the bare partition", p.number))
}

fn line(p: &FoundPartition, table: Table, geometry: Geometry, notes: &mut Vec<String>) -> Partition {
    let contents = p.contents.clone().unwrap_or_default();
    let mut fs = Fs::of_word(&contents.fs);
    let mut kind = match table {
        Table::Mbr => u8::from_str_radix(&p.kind, 16).map_or(Kind::Linux, Kind::of_mbr_type),
        Table::Gpt => p.kind.parse().map_or(Kind::Linux, Kind::of_gpt_type),
    };
    let mut note = |text: String| notes.push(format!("partition {}: {text}", p.number));
    if fs == Some(Fs::Swap) && kind != Kind::Swap {
        note(format!("its type {} becomes that of swap, which is on it", p.kind));
        kind = Kind::Swap;
    }
    if kind == Kind::Swap && fs != Some(Fs::Swap) {
        note("it has the type of swap, and becomes swap".into());
        fs = Some(Fs::Swap);
    }
    let bare = matches!(kind, Kind::Extended | Kind::BiosBoot | Kind::Msr);
    if fs.is_none() && !contents.fs.is_empty() && !bare {
        note(format!(
            "what is on it ({}) is nothing that a desc makes; it becomes an empty partition",
            contents.fs
        ));
    }
    if kind == Kind::Extended && p.kind != "5" {
        note(format!("its type {} becomes 5", p.kind));
    }
    // A `data` with vfat would become 0c, and this one may be 07.
    if let (Table::Mbr, Ok(number)) = (table, u8::from_str_radix(&p.kind, 16))
        && kind == Kind::Data
        && kind.type_in(table, fs).as_deref() != Some(&p.kind)
    {
        kind = Kind::Mbr(number);
    }
    let gpt = table == Table::Gpt;
    let bytes = p.sectors.saturating_mul(geometry.sector_bytes.into());
    let uuid = uuid(&contents, fs.or(Fs::of_word(&contents.fs)));
    if let (Some(found), None) = (&contents.uuid, &uuid)
        && fs.is_some()
    {
        note(format!("its UUID {found} cannot be given to a new one"));
    }
    let reserved = p.attributes & 0x0000_ffff_ffff_fff8;
    if reserved != 0 {
        note(format!("its reserved attributes {reserved:#x} are left out"));
    }
    Partition {
        bootable: p.attributes >> LEGACY_BOOT_BIT & 1 == 1 && kind != Kind::Extended,
        name: p.name.clone().filter(|name| gpt && !name.is_empty()),
        partuuid: p.partuuid.as_ref().filter(|_| gpt).and_then(|guid| guid.parse().ok()),
        attributes: if gpt { p.attributes & !reserved & !(1 << LEGACY_BOOT_BIT) } else { 0 },
        // Swap on swap is understood.
        fs: fs.filter(|fs| !bare && *fs != Fs::Swap),
        label: contents.label.filter(|_| fs.is_some() && !bare),
        uuid: uuid.filter(|_| !bare),
        ..Partition::new(kind, Size::Bytes(bytes))
    }
}

/// The UUID, if a new file system can be given it.
fn uuid(contents: &Contents, fs: Option<Fs>) -> Option<String> {
    let fs = fs.filter(|fs| *fs != Fs::Ntfs)?;
    fs.uuid(contents.uuid.as_ref()?)
}

/// Sets the mount points of a partition and of its subvolumes.
fn mounts(line: &mut Partition, p: &FoundPartition, fstab: &[Entry]) {
    if line.file_system().is_none_or(|fs| fs == Fs::Swap) {
        return;
    }
    // The names of devices change from boot to boot, and mean nothing on an image.
    for entry in fstab.iter().filter(|entry| entry.at.starts_with('/') && entry.means(p, "")) {
        let (path, options) = (Some(entry.at.clone()), entry.desc_options());
        match entry.subvolume() {
            Some(name) => line.subvolumes.push(Subvolume { name: name.into(), mount: path, options }),
            None if line.mount.is_none() => (line.mount, line.options) = (path, options),
            None => {}
        }
    }
}

/// Notes on all that the fstab mounts by the names of devices.
fn by_device(fstab: &[Entry]) -> impl Iterator<Item = String> {
    fstab.iter().filter(|entry| entry.spec.starts_with("/dev/") && entry.at.starts_with('/')).map(|entry| {
        let (spec, path) = (&entry.spec, &entry.at);
        format!("the fstab mounts {spec} at {path}: if it is of this disk, add `mount {path}` to its line")
    })
}

/// The bytes that the frame needs with our alignment, which may be more than it had.
fn frame_bytes(disk: &Disk) -> u64 {
    let mut logicals = disk.partitions.iter().filter(|p| p.logical).peekable();
    let mut bytes: u64 = 0;
    while let Some(p) = logicals.next() {
        let Size::Bytes(size) = p.size else { continue };
        let aligned = size.checked_next_multiple_of(MIB_BYTES).unwrap_or(u64::MAX);
        let all = if logicals.peek().is_some() { aligned } else { size };
        bytes = MIB_BYTES.saturating_add(all).saturating_add(bytes);
    }
    bytes
}

/// A number is said only where counting would not give it.
fn without_needless_numbers(disk: &mut Disk) {
    let numbers = disk.numbers();
    let mut bare = disk.clone();
    bare.partitions.iter_mut().for_each(|p| p.number = None);
    if bare.numbers() == numbers {
        *disk = bare;
    }
}

/// The largest partition takes what is left; if it is a logical, so does its frame.
fn stretch(disk: &mut Disk) {
    let size = |p: &Partition| match p.size {
        Size::Bytes(bytes) if !matches!(p.kind, Kind::Extended | Kind::Swap) => bytes,
        _ => 0,
    };
    // Of two of the same size, the first.
    let Some(largest) = (0..disk.partitions.len()).rev().max_by_key(|at| size(&disk.partitions[*at])) else {
        return;
    };
    disk.partitions[largest].size = Size::Fill;
    if disk.partitions[largest].logical {
        let frame = disk.partitions.iter_mut().find(|p| p.kind == Kind::Extended);
        frame.into_iter().for_each(|p| p.size = Size::Fill);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(number: u32, start: u64, sectors: u64, kind: &str, fs: &str) -> FoundPartition {
        let contents = (!fs.is_empty()).then(|| Contents { fs: fs.into(), ..Contents::default() });
        FoundPartition { number, start, sectors, kind: kind.into(), contents, ..FoundPartition::default() }
    }

    fn captured(
        table: Table,
        partitions: Vec<FoundPartition>,
        flexible: bool,
    ) -> Result<(String, Vec<String>), Vec<Error>> {
        let found = Found { table, id: None, partitions };
        let geometry = Geometry { disk_bytes: 10 << 30, sector_bytes: 512 };
        capture(&found, geometry, "", flexible).map(|c| (c.desc.to_string(), c.notes))
    }

    #[test]
    fn an_mbr_of_old_becomes_a_desc_that_fits_itself() {
        let list = vec![
            partition(1, 63, 204_800, "7", "ntfs"),
            partition(2, 206_848, 409_600, "f", ""),
            partition(5, 206_911, 202_752, "83", "ext4"),
            partition(6, 411_648, 204_800, "82", "swap"),
        ];
        let (text, notes) = captured(Table::Mbr, list.clone(), false).unwrap();
        assert_eq!(text, "table mbr\ndata 100 ntfs\nextended 201\nlogical linux 99 ext4\nlogical swap 100\n");
        assert_eq!(notes, ["partition 2: its type f becomes 5"]);
        let (text, _) = captured(Table::Mbr, list, true).unwrap();
        assert!(text.contains("extended 201\nlogical linux 99") && text.contains("data fill"), "{text}");
    }

    #[test]
    fn what_descs_do_not_do_is_refused_or_noted() {
        let said =
            captured(Table::Mbr, vec![partition(1, 2048, 99, "8e", "LVM2_member")], false).unwrap_err();
        assert!(said[0].to_string().contains("LVM"), "{said:?}");
        let list =
            vec![partition(3, 2048, 204_800, "83", "swap"), partition(1, 300_000, 2048, "83", "exfat")];
        let (text, notes) = captured(Table::Mbr, list, false).unwrap();
        assert_eq!(text, "table mbr\nswap 100 number 3\nlinux 1 number 1\n");
        assert_eq!(notes.len(), 2, "{notes:?}");
    }

    #[test]
    fn a_table_that_no_disk_has_is_refused() {
        let list = vec![
            partition(1, 63, u64::MAX, "f", ""),
            partition(5, 126, u64::MAX / 512, "83", "ext4"),
            partition(6, u64::MAX, u64::MAX, "83", "ext4"),
        ];
        assert!(!captured(Table::Mbr, list, false).unwrap_err().is_empty());
    }

    #[test]
    fn mount_points_come_from_an_fstab() {
        let mut root = partition(1, 2048, 1 << 20, "83", "btrfs");
        let uuid = "8d3f2c1e-5b6a-4c7d-9e8f-0a1b2c3d4e5f";
        root.contents.as_mut().unwrap().uuid = Some(uuid.into());
        let found = Found { table: Table::Mbr, id: None, partitions: vec![root] };
        let fstab = format!(
            "# UUID={uuid} /no btrfs\nUUID={uuid} / btrfs subvol=@rootfs,compress=zstd:1 0 0\n\
             UUID={uuid} /home btrfs defaults,subvol=/@home 0 0\nUUID=other /x ext4 ro 0 0\n/dev/sdb1 /y ext4 ro 0 0\ntmpfs /tmp tmpfs nodev 0 0\n"
        );
        let geometry = Geometry { disk_bytes: 10 << 30, sector_bytes: 512 };
        let captured = capture(&found, geometry, &fstab, false).unwrap();
        assert_eq!(captured.notes.len(), 1, "{:?}", captured.notes);
        let text = captured.desc.to_string();
        let expected = format!(
            "table mbr\nlinux 512 btrfs uuid {uuid}\n  subvol @rootfs mount / options compress=zstd:1\n  \
             subvol @home mount /home\n"
        );
        assert_eq!(text, expected);
    }
}
