//! The place of each partition.

use std::ops::Range;

use super::found::{Found, FoundPartition};
use super::geometry::Geometry;
use super::misfit::{Misfit, Room};
use super::room::Want;
use crate::language::{Action, Desc, Disk, Guid, Kind, Partition, Size, Table, TableId, faults, unprintable};
use crate::layout::room;
use crate::limits::{DISK_BYTES_MAX, GPT_ENTRIES_BYTES, MBR_SECTORS, MIB_BYTES, SECTOR_BYTES};

/// The plan of one disk: its table, and the place of each partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The geometry of the disk that the plan is for.
    pub geometry: Geometry,
    /// Which kind of table.
    pub table: Table,
    /// The table's identity; random if there is none.
    pub id: Option<TableId>,
    /// The sectors that partitions may have.
    pub usable: Range<u64>,
    /// The partitions, in the desc's order.
    pub partitions: Vec<Placed>,
}

/// A partition with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
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
    /// The GUID that a GPT gives it, in capitals; random if there is none.
    pub partuuid: Option<String>,
    /// A GPT's attributes; an MBR's active flag is the bit [`crate::language::LEGACY_BOOT_BIT`].
    pub attributes: u64,
    /// The partition's line of the desc.
    pub line: Partition,
}

impl Placed {
    /// The first sector behind it.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.start + self.sectors
    }
}

impl Plan {
    /// Places the partitions of `disk`. `found` is what is on the disk now; only what is kept or reused needs it.
    ///
    /// # Errors
    /// Every reason why the two do not fit together.
    pub fn new(disk: &Disk, geometry: Geometry, found: Option<&Found>) -> Result<Self, Vec<Misfit>> {
        let faults = faults(&Desc { disks: vec![disk.clone()] });
        if !faults.is_empty() {
            return Err(faults.into_iter().map(Misfit::Fault).collect());
        }
        if !SECTOR_BYTES.contains(&geometry.sector_bytes) || geometry.disk_bytes > DISK_BYTES_MAX {
            return Err(vec![Misfit::Geometry]);
        }
        if let Some(desc) = disk.sector_bytes.filter(|bytes| *bytes != geometry.sector_bytes) {
            return Err(vec![Misfit::Sectors { disk: geometry.sector_bytes, desc }]);
        }
        let kept = Kept::new(disk, geometry, found)?;
        let places = Layout { disk, geometry, kept: &kept }.places()?;
        let placed = |(at, line): (usize, &Partition)| {
            let Range { start, end } = places[at].clone();
            let was = kept.partitions[at];
            Placed {
                number: kept.numbers[at],
                start,
                sectors: end - start,
                kind: line
                    .kind
                    .type_in(disk.table(), line.file_system())
                    .expect("a desc without faults has types"),
                name: was.map_or(line.name.clone(), |p| p.name.clone()),
                partuuid: was
                    .map_or(line.partuuid.map(|guid: Guid| guid.to_string()), |p| p.partuuid.clone()),
                attributes: was.map_or(line.gpt_attributes(), |p| p.attributes),
                line: line.clone(),
            }
        };
        Ok(Self {
            geometry,
            table: disk.table(),
            id: if disk.keeps() { found.and_then(|found| found.id) } else { disk.id },
            usable: usable(disk.table(), geometry),
            partitions: disk.partitions.iter().enumerate().map(placed).collect(),
        })
    }

    /// So many sectors in bytes.
    #[must_use]
    pub fn bytes(&self, sectors: u64) -> u64 {
        sectors * u64::from(self.geometry.sector_bytes)
    }

    /// The number of bytes of the disk that an MBR cannot address.
    #[must_use]
    pub fn out_of_reach_bytes(&self) -> u64 {
        match self.table {
            Table::Mbr => self.geometry.disk_bytes.saturating_sub(self.bytes(MBR_SECTORS)),
            Table::Gpt => 0,
        }
    }

    /// Whether something on the disk stays.
    #[must_use]
    pub fn keeps(&self) -> bool {
        self.partitions.iter().any(|p| p.line.action != Action::Make)
    }

    /// In which respects a table is not the one that is planned, as sentences.
    #[must_use]
    pub fn differences(&self, found: &Found) -> Vec<String> {
        let mut list = Vec::new();
        if found.table != self.table || (self.id.is_some() && found.id != self.id) {
            list.push(format!("the table is {} {:?}", found.table, found.id.map(|id| id.to_string())));
        }
        for p in &self.partitions {
            let Some(is) = found.partition(p.number) else {
                list.push(format!("partition {} is not there", p.number));
                continue;
            };
            let mut compare = |what: &str, is: &dyn std::fmt::Display, same: bool| {
                if !same {
                    list.push(format!("the {what} of partition {} is {is}", p.number));
                }
            };
            compare("first sector", &is.start, is.start == p.start);
            compare("size in sectors", &is.sectors, is.sectors == p.sectors);
            compare("type", &is.kind, is.kind == p.kind);
            compare("attributes", &format_args!("{:x}", is.attributes), is.attributes == p.attributes);
            let name = |name: &Option<String>| name.clone().unwrap_or_default();
            compare("name", &name(&is.name), name(&is.name) == name(&p.name));
            let same = p.partuuid.is_none() || is.partuuid == p.partuuid;
            compare("GUID", &name(&is.partuuid), same);
        }
        let planned = |number| self.partitions.iter().any(|p| p.number == number);
        let extra = found.partitions.iter().filter(|p| !planned(p.number));
        list.extend(extra.map(|p| format!("there is a partition {}", p.number)));
        list
    }
}

/// The sectors that partitions may have.
fn usable(table: Table, geometry: Geometry) -> Range<u64> {
    let sector = u64::from(geometry.sector_bytes);
    let total = geometry.disk_bytes / sector;
    let end = match table {
        Table::Mbr => total.min(MBR_SECTORS),
        Table::Gpt => total.saturating_sub(1 + GPT_ENTRIES_BYTES / sector),
    };
    MIB_BYTES / sector..end
}

/// The partitions that stay, and their places.
struct Kept<'a> {
    numbers: Vec<u32>,
    /// For each line, what it keeps or reuses.
    partitions: Vec<Option<&'a FoundPartition>>,
}

impl<'a> Kept<'a> {
    fn new(disk: &Disk, geometry: Geometry, found: Option<&'a Found>) -> Result<Self, Vec<Misfit>> {
        let numbers = disk.numbers();
        if !disk.keeps() {
            return Ok(Self { partitions: vec![None; numbers.len()], numbers });
        }
        let found = found.ok_or_else(|| vec![Misfit::NoTable])?;
        if found.table != disk.table() {
            return Err(vec![Misfit::OtherTable { disk: found.table }]);
        }
        let mut misfits = Vec::new();
        if disk.id.is_some() && disk.id != found.id {
            let text = |id: Option<TableId>| id.map_or("without identity".into(), |id| id.to_string());
            misfits.push(Misfit::OtherId { disk: text(found.id), desc: text(disk.id) });
        }
        let mut partitions = Vec::new();
        for (line, number) in disk.partitions.iter().zip(&numbers) {
            if line.action == Action::Make {
                partitions.push(None);
                continue;
            }
            let partition = found.partition(*number);
            let how = partition.map(|p| p.differences(line, found.table, geometry));
            match how {
                None => misfits.push(Misfit::NotThere(*number)),
                Some(how) if !how.is_empty() => misfits.push(Misfit::Differs { number: *number, how }),
                Some(_) => {}
            }
            partitions.push(partition);
        }
        let mut stay: Vec<&FoundPartition> = partitions.iter().flatten().copied().collect();
        stay.sort_by_key(|p| p.start);
        let sector = u64::from(geometry.sector_bytes);
        // A partition of old may begin before the first mebibyte, but not within the table.
        let mut free = if found.table == Table::Gpt { 2 + GPT_ENTRIES_BYTES / sector } else { 1 };
        for p in stay {
            if p.name.as_ref().is_some_and(|name| unprintable(name)) {
                misfits.push(Misfit::Name(p.number));
            }
            if p.start < free || p.sectors == 0 || p.end() > usable(found.table, geometry).end {
                misfits.push(Misfit::Broken(p.number));
            }
            free = p.end();
        }
        if misfits.is_empty() { Ok(Self { numbers, partitions }) } else { Err(misfits) }
    }
}

struct Layout<'a> {
    disk: &'a Disk,
    geometry: Geometry,
    kept: &'a Kept<'a>,
}

impl Layout<'_> {
    /// The sectors of each line.
    fn places(&self) -> Result<Vec<Range<u64>>, Vec<Misfit>> {
        // What stays is where it was.
        let stays = |p: &Option<&FoundPartition>| p.map_or(0..0, |p| p.start..p.end());
        let mut places: Vec<Range<u64>> = self.kept.partitions.iter().map(stays).collect();
        let mut misfits = Vec::new();
        for (room, sectors, lines) in self.rooms() {
            self.share(room, sectors, &lines, &mut places).unwrap_or_else(|misfit| misfits.push(misfit));
        }
        let extended = self.disk.partitions.iter().position(|p| p.kind == Kind::Extended);
        if let Some(frame) = extended.filter(|_| misfits.is_empty()).map(|at| places[at].clone()) {
            let lines = self.lines(|p| p.logical);
            self.share(Room::Extended, frame, &lines, &mut places)
                .unwrap_or_else(|misfit| misfits.push(misfit));
        }
        if misfits.is_empty() { Ok(places) } else { Err(misfits) }
    }

    /// The rooms between what stays, each with the lines that share it: those below the line of what is before it.
    fn rooms(&self) -> Vec<(Room, Range<u64>, Vec<usize>)> {
        let Range { start, end } = usable(self.disk.table(), self.geometry);
        let starts = || self.kept.partitions.iter().flatten().map(|p| p.start);
        let first = if self.disk.keeps() { Room::BeforeKept } else { Room::Disk };
        let mut rooms = vec![(first, start..starts().min().unwrap_or(end), Vec::new())];
        for (at, line) in self.disk.partitions.iter().enumerate().filter(|(_, line)| !line.logical) {
            match self.kept.partitions[at] {
                Some(p) => {
                    let next = starts().filter(|s| *s > p.start).min().unwrap_or(end);
                    rooms.push((Room::Behind(p.number), p.end().max(start)..next, Vec::new()));
                }
                None if line.action == Action::Make => rooms.last_mut().expect("there is one").2.push(at),
                None => {}
            }
        }
        rooms
    }

    fn share(
        &self,
        room: Room,
        sectors: Range<u64>,
        lines: &[usize],
        places: &mut [Range<u64>],
    ) -> Result<(), Misfit> {
        let sector = u64::from(self.geometry.sector_bytes);
        let wants: Vec<Want> = lines.iter().map(|at| self.want(&self.disk.partitions[*at])).collect();
        let shared = room::share(&wants, sectors.start * sector..sectors.end * sector)
            .map_err(|e| Misfit::TooSmall { room, needed: e.needed_bytes, has: e.has_bytes })?;
        for (at, bytes) in lines.iter().zip(shared) {
            places[*at] = bytes.start / sector..bytes.end / sector;
        }
        Ok(())
    }

    fn want(&self, line: &Partition) -> Want {
        let sector = u64::from(self.geometry.sector_bytes);
        let usable = usable(self.disk.table(), self.geometry);
        let usable_mib = usable.end.saturating_sub(usable.start) * sector / MIB_BYTES;
        let fs_bytes = line.formatted().map_or(MIB_BYTES, |fs| fs.min_bytes());
        let frame_bytes = if line.kind == Kind::Extended { self.frame_bytes() } else { 0 };
        let min_bytes = line.min_bytes.unwrap_or(0).max(fs_bytes).max(frame_bytes);
        let bytes = match line.size {
            Size::Bytes(bytes) => Some(bytes.next_multiple_of(sector)),
            // Usable space has at most 2^43 mebibytes, so a hundredfold of it is within 64 bits.
            Size::Percent(n) => Some((usable_mib * u64::from(n) / 100 * MIB_BYTES).max(min_bytes)),
            Size::Fill | Size::Any => None,
        };
        Want {
            bytes: bytes.map(|bytes| bytes.next_multiple_of(sector)),
            min_bytes,
            lead_bytes: if line.logical { MIB_BYTES } else { 0 },
        }
    }

    /// The bytes that the logicals need at least.
    fn frame_bytes(&self) -> u64 {
        let wants = self.lines(|p| p.logical).into_iter().map(|at| self.want(&self.disk.partitions[at]));
        room::needed_bytes(&wants.collect::<Vec<_>>())
    }

    fn lines(&self, of: impl Fn(&Partition) -> bool) -> Vec<usize> {
        let all = self.disk.partitions.iter().enumerate();
        all.filter(|(_, p)| of(p)).map(|(at, _)| at).collect()
    }
}
