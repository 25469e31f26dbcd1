//! The desc of the clones' disks: as it was given or captured, with what the golden node has on the same partitions. Pure.

use ka_desc::capture::capture;
use ka_desc::error::Error;
use ka_desc::language::{
    Action, Desc, Disk, Fs, Kind, LEGACY_BOOT_BIT, Partition, Size, Subvolume, Table, faults,
};
use ka_desc::layout::{Contents, Found};
use ka_desc::limits::MIB_BYTES;
use ka_desc::manifest::{GoldenUuid, Part};
use ka_desc::system::fstab::{self, Entry};

use super::choice::Choice;
use super::scope::Scope;
use super::sizes;
use crate::golden::facts::{Golden, GoldenDisk, Mount};

/// The description of the clones' disks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Described {
    /// The desc of all disks.
    pub desc: Desc,
    /// The golden node's UUIDs where clones have others.
    pub uuids: Vec<GoldenUuid>,
    /// Every reason why this would not do, each with the way out.
    pub problems: Vec<String>,
    /// The facts that the admin should know.
    pub warnings: Vec<String>,
}

/// Describes the clones' disks.
#[must_use]
pub fn describe(golden: &Golden, choice: &Choice, scope: &Scope<'_>) -> Described {
    let fstab = fstab::read(&golden.fstab);
    let mut all = Describe { golden, choice, scope, fstab, problems: Vec::new(), warnings: Vec::new() };
    let mut disks: Vec<Disk> = scope.disks.iter().map(|disk| all.disk(disk)).collect();
    all.places(&disks);
    all.raw(&mut disks);
    let uuids = all.uuids(&mut disks);
    let desc = Desc { disks };
    // Without disks, it was said why there are none.
    if all.problems.is_empty() && !desc.disks.is_empty() {
        for fault in faults(&desc) {
            let line = fault.place.partition.map(|at| &desc.disks[fault.place.disk].partitions[at]);
            let line = line.map_or_else(String::new, |line| format!("`{line}`: "));
            all.problems.push(format!("{line}{}; {}", fault.what, fault.way_out));
        }
    }
    Described { desc, uuids, problems: all.problems, warnings: all.warnings }
}

struct Describe<'a> {
    golden: &'a Golden,
    choice: &'a Choice,
    scope: &'a Scope<'a>,
    fstab: Vec<Entry>,
    problems: Vec<String>,
    warnings: Vec<String>,
}

impl Describe<'_> {
    fn disk(&mut self, golden: &GoldenDisk) -> Disk {
        let given = self.choice.descs.iter().find(|(name, ..)| *name == golden.name);
        let mut disk = match given {
            Some((_, file, desc)) => {
                let one = match &desc.disks[..] {
                    [one] => Some(one),
                    several => several.iter().find(|disk| disk.name.as_ref() == Some(&golden.name)),
                };
                let Some(one) = one else {
                    self.problems.push(format!(
                        "-p {} {}: it has several disks, and none is called {0}",
                        golden.name,
                        file.display()
                    ));
                    return Disk::default();
                };
                let mut disk = one.clone();
                // One of 2001 says types and sizes, and means what the golden node has on the same numbers.
                let bare = disk.partitions.iter().all(|p| p.fs.is_none() && !p.is_mounted());
                if bare {
                    identify(&mut disk, golden);
                    self.fill_by_number(&mut disk, golden, Some(&file.display().to_string()));
                } else {
                    self.fill_by_path(&mut disk, golden);
                }
                disk
            }
            None => self.captured(golden),
        };
        disk.name = Some(golden.name.clone());
        disk
    }

    fn captured(&mut self, golden: &GoldenDisk) -> Disk {
        let Some(found) = &golden.found else {
            self.problems.push(format!("disk {} has no partition table: give its desc with -p", golden.name));
            return Disk::default();
        };
        // What is mounted now tells more than the fstab, which may mean devices, or what is not mounted.
        match capture(found, golden.geometry, "", self.choice.flexible) {
            Ok(mut captured) => {
                let said = captured.notes.into_iter().map(|note| format!("disk {}: {note}", golden.name));
                self.warnings.extend(said);
                let mut disk = captured.desc.disks.remove(0);
                self.fill_by_number(&mut disk, golden, None);
                self.empty(&disk, golden, found);
                self.least(&mut disk, golden);
                disk
            }
            Err(list) => {
                let way_out = "or leave the disk out with -X";
                let said =
                    list.into_iter().map(|why| format!("disk {}: {why} (-p), {way_out} {0}", golden.name));
                self.problems.extend(said);
                Disk::default()
            }
        }
    }

    /// Each partition gets the file system, the label, the UUID and the mount point of the golden node's one with the same
    /// number.
    fn fill_by_number(&mut self, disk: &mut Disk, golden: &GoldenDisk, file: Option<&str>) {
        let numbers = disk.numbers();
        for mount in self.scope.mounts.iter().copied() {
            let Some(part) = mount.part().filter(|part| part.disk == golden.name) else { continue };
            let Some(at) = numbers.iter().position(|number| *number == part.number) else {
                if !self.choice.exclude.contains(&mount.at) {
                    let path = mount.at.display();
                    self.problems.push(format!(
                        "{path} is on partition {part}, which {} does not have: give it a line, or leave its files out \
                         with -x {path}",
                        file.unwrap_or("its desc")
                    ));
                }
                continue;
            };
            let line = &mut disk.partitions[at];
            if let Err(why) = self.fill(line, part, mount) {
                self.problems.push(format!("{} is on partition {part}: {why}", mount.at.display()));
            }
        }
        name_swaps(disk, golden);
    }

    fn fill(&self, line: &mut Partition, part: &Part, mount: &Mount) -> Result<(), Error> {
        let contents = self.golden.contents(part).cloned().unwrap_or_default();
        let word = if contents.fs.is_empty() { &mount.fs } else { &contents.fs };
        let Some(fs) = Fs::of_word(word).filter(|fs| *fs != Fs::Swap) else {
            return Err(format!(
                "clones cannot be given the file system {word}: leave it out with -x {}, or say another one in a desc (-p)",
                mount.at.display()
            ).into());
        };
        if line.action == Action::Keep {
            return Err(format!(
                "`{line}` keeps what a node has there: say in the desc which file system it has, and `mount`"
            )
            .into());
        }
        if matches!(line.kind, Kind::Swap | Kind::Extended | Kind::BiosBoot | Kind::Msr) {
            return Err(format!(
                "the desc has `{line}` there: its partitions must have the golden node's numbers"
            )
            .into());
        }
        if line.file_system() != Some(fs) {
            line.fs = Some(fs);
        }
        name(line, fs, &contents);
        let path = mount.at.to_str().ok_or("its mount point is no UTF-8: mount it elsewhere")?.to_owned();
        let options = self.options(mount);
        match &mount.subvolume {
            Some(name) => line.subvolumes.push(Subvolume { name: name.clone(), mount: Some(path), options }),
            None => (line.mount, line.options) = (Some(path), options),
        }
        Ok(())
    }

    fn options(&self, mount: &Mount) -> Option<String> {
        self.fstab.iter().find(|entry| mount.is_at(&entry.at))?.desc_options()
    }

    /// A desc that says file systems and mount points gets what names them: the clones' fstab is the golden node's.
    fn fill_by_path(&mut self, disk: &mut Disk, golden: &GoldenDisk) {
        name_swaps(disk, golden);
        for line in &mut disk.partitions {
            let Some(fs) = line.formatted().filter(|fs| *fs != Fs::Swap) else { continue };
            let Some((mount, contents)) = self.same(line) else { continue };
            name(line, fs, contents);
            let entry = self.fstab.iter().find(|entry| mount.is_at(&entry.at));
            if entry.is_some_and(|entry| Fs::of_word(&entry.fs).is_some_and(|known| known != fs)) {
                let path = mount.at.display().to_string();
                self.warnings.push(format!(
                    "the desc makes {path} a {fs}, and clones have the golden node's fstab, which mounts another file system \
                     there: write auto into that line"
                ));
            }
        }
    }

    /// Returns the mount and the contents that the golden node has where a line is mounted.
    fn same(&self, line: &Partition) -> Option<(&Mount, &Contents)> {
        let mut paths = line.mount.iter().chain(line.subvolumes.iter().filter_map(|s| s.mount.as_ref()));
        let mount = paths.find_map(|path| self.scope.mounts.iter().find(|mount| mount.is_at(path)))?;
        Some((mount, self.golden.contents(mount.part()?)?))
    }

    /// The golden node's UUIDs where clones have others: because they are to have their own, because mkfs takes none, or
    /// because something is kept.
    fn uuids(&self, disks: &mut [Disk]) -> Vec<GoldenUuid> {
        let mut uuids = Vec::new();
        for disk in disks {
            let name = disk.name.clone().unwrap_or_default();
            let captured = !self.choice.descs.iter().any(|(given, ..)| *given == name);
            for (number, line) in disk.numbers().into_iter().zip(&mut disk.partitions) {
                let part = Part { disk: name.clone(), number };
                let own = || self.golden.contents(&part).filter(|_| captured && line.formatted().is_some());
                let meant = self.same(line).map(|(_, contents)| contents);
                let meant = meant.or_else(own).and_then(|contents| contents.uuid.clone());
                let meant = meant.or_else(|| line.uuid.clone());
                if self.choice.new_uuids && line.action != Action::Keep {
                    line.uuid = None;
                }
                if let Some(uuid) = meant.filter(|meant| line.uuid.as_ref() != Some(meant)) {
                    uuids.push(GoldenUuid { part, uuid });
                }
            }
        }
        uuids
    }

    /// Warns of what a captured disk has, and clones get without its contents.
    fn empty(&mut self, disk: &Disk, golden: &GoldenDisk, found: &Found) {
        for (line, number) in disk.partitions.iter().zip(disk.numbers()) {
            let part = Part { disk: golden.name.clone(), number };
            let makes = line.formatted().is_some_and(|fs| fs != Fs::Swap) && !line.is_mounted();
            let holds = found.partition(number).and_then(|p| p.contents.as_ref());
            if let Some(contents) =
                holds.filter(|c| (makes || Fs::of_word(&c.fs).is_none()) && c.fs != "swap")
                && !self.scope.raw.contains(&part)
                && !line.is_mounted()
            {
                let device = fstab::device(&part.disk, number);
                self.warnings.push(format!(
                    "partition {part} ({}) is not mounted, and comes empty: mount it, or clone it with -D {device}",
                    contents.fs
                ));
            }
        }
    }

    /// Sets the least size of each partition that depends on a clone's disk: it must still hold what the golden node
    /// has there.
    fn least(&self, disk: &mut Disk, golden: &GoldenDisk) {
        let numbers = disk.numbers();
        for (line, number) in
            disk.partitions.iter_mut().zip(numbers).filter(|(line, _)| line.size == Size::Fill)
        {
            let part = Part { disk: golden.name.clone(), number };
            let comes = sizes::comes(self.scope, self.choice, &part);
            let bytes = sizes::least_bytes(self.golden, &part, comes);
            line.min_bytes = (bytes > 0).then(|| bytes.next_multiple_of(MIB_BYTES));
        }
    }

    /// Whether every file has a place.
    fn places(&mut self, disks: &[Disk]) {
        let lines = || disks.iter().flat_map(|disk| &disk.partitions);
        let mounted = |path: &str| {
            lines().any(|p| {
                let mut all = p.mount.iter().chain(p.subvolumes.iter().filter_map(|s| s.mount.as_ref()));
                all.any(|at| at == path)
            })
        };
        let has_root = self.scope.mounts.iter().any(|mount| mount.is_at("/"));
        if self.problems.is_empty() && has_root && !mounted("/") {
            self.problems.push(
                "the desc says of no partition that / is mounted there: `linux fill ext4 mount /`".into(),
            );
        }
        for mount in &self.scope.mounts {
            let path = mount.at.to_string_lossy();
            let entry = self.fstab.iter().find(|entry| mount.is_at(&entry.at));
            if !mounted(&path) && self.problems.is_empty() && !self.choice.exclude.contains(&mount.at) {
                let waits = if entry.is_some_and(Entry::is_needed) {
                    "; its line of the golden node's fstab needs nofail, or clones wait for it when they boot"
                } else {
                    ""
                };
                self.warnings.push(format!(
                    "the desc mounts nothing at {path}: its files go to what contains it{waits}"
                ));
            }
            if let (Some(name), Some(entry)) = (&mount.subvolume, entry)
                && entry.subvolume().is_none()
                && !entry.options.iter().any(|option| option.starts_with("subvolid="))
            {
                self.warnings.push(format!(
                    "{path} is the subvolume {name} because that is the file system's default one, which clones do not have: add \
                     subvol={name} to its line of the golden node's fstab"
                ));
            }
            if let Some(entry) =
                entry.filter(|entry| entry.options.iter().any(|o| o.starts_with("subvolid=")))
            {
                let (spec, name) = (&entry.spec, mount.subvolume.as_deref().unwrap_or("/"));
                self.warnings.push(format!(
                    "the fstab mounts {spec} at {path} by subvolid, which is another on each clone: say subvol={name} instead"
                ));
            }
        }
    }

    /// A partition that comes as its blocks is not formatted, and has room for them.
    fn raw(&mut self, disks: &mut [Disk]) {
        for part in &self.scope.raw {
            let Some(disk) = disks.iter_mut().find(|disk| disk.name.as_ref() == Some(&part.disk)) else {
                continue;
            };
            let (table, numbers) = (disk.table(), disk.numbers());
            let bytes = self.golden.part_bytes(part);
            let Some(at) = numbers.iter().position(|number| *number == part.number) else {
                self.problems.push(format!(
                    "-D: the desc has no partition {part}: give it a line, of at least {bytes}B"
                ));
                continue;
            };
            let line = &mut disk.partitions[at];
            if line.is_mounted() {
                self.problems
                    .push(format!("-D: the desc mounts partition {part}: take `mount` out of `{line}`"));
                continue;
            }
            if line.action == Action::Keep {
                self.problems.push(format!(
                    "-D: the desc keeps partition {part} as each node has it: leave out -D, or take `keep` out of `{line}`"
                ));
                continue;
            }
            // Without its file system, a type that depends on that must stay what it was.
            let kind = line.kind.type_in(table, line.file_system());
            (line.fs, line.label, line.uuid, line.options) = (None, None, None, None);
            if kind != line.kind.type_in(table, line.file_system())
                && let Some(number) = kind.and_then(|kind| u8::from_str_radix(&kind, 16).ok())
            {
                line.kind = Kind::Mbr(number);
            }
            match line.size {
                Size::Bytes(has) if has < bytes => {
                    self.problems
                        .push(format!("-D: partition {part} has {bytes} bytes, and `{line}` has fewer"));
                }
                Size::Fill | Size::Percent(_) => line.min_bytes = line.min_bytes.max(Some(bytes)),
                Size::Bytes(_) | Size::Any => {}
            }
        }
    }
}

/// A desc that says nothing of it gets what boot loaders and fstabs may know a disk by: PARTUUIDs, which an MBR makes of its
/// identity, and the partition that is active.
fn identify(disk: &mut Disk, golden: &GoldenDisk) {
    let found = golden.found.as_ref().filter(|found| found.table == disk.table() && !disk.keeps());
    let Some(found) = found else { return };
    if disk.id.is_none() {
        (disk.table, disk.id) = (Some(found.table), found.id);
    }
    let has_active = disk.partitions.iter().any(|line| line.bootable);
    for (number, line) in disk.numbers().into_iter().zip(&mut disk.partitions) {
        let Some(p) = found.partition(number).filter(|_| line.kind != Kind::Extended) else { continue };
        line.bootable |= !has_active && p.attributes >> LEGACY_BOOT_BIT & 1 == 1;
        let partuuid = p.partuuid.as_ref().filter(|_| found.table == Table::Gpt);
        line.partuuid = line.partuuid.or(partuuid.and_then(|guid| guid.parse().ok()));
    }
}

/// Returns the contents of the partitions of a disk.
fn contents(disk: &GoldenDisk) -> impl Iterator<Item = (Part, &Contents)> {
    let all = disk.found.iter().flat_map(|found| &found.partitions);
    all.filter_map(|p| Some((Part { disk: disk.name.clone(), number: p.number }, p.contents.as_ref()?)))
}

/// Swap gets the names of the golden node's: of the same number, or else of one that is left.
fn name_swaps(disk: &mut Disk, golden: &GoldenDisk) {
    let mut swaps: Vec<(Part, &Contents)> = contents(golden).filter(|(_, c)| c.fs == "swap").collect();
    let numbers = disk.numbers();
    let of = |line: &Partition| line.formatted() == Some(Fs::Swap);
    let mut others = Vec::new();
    for (line, number) in disk.partitions.iter_mut().zip(numbers).filter(|(line, _)| of(line)) {
        match swaps.iter().position(|(part, _)| part.number == number) {
            Some(at) => name(line, Fs::Swap, swaps.remove(at).1),
            None => others.push(line),
        }
    }
    for (line, (_, contents)) in others.into_iter().zip(swaps) {
        name(line, Fs::Swap, contents);
    }
}

/// The label and the UUID, where a new file system can have them.
fn name(line: &mut Partition, fs: Fs, contents: &Contents) {
    let fits = |label: &String| {
        (1..=fs.label_bytes_max()).contains(&label.len())
            && !label.starts_with('-')
            && !label.chars().any(char::is_control)
    };
    line.label = line.label.take().or(contents.label.clone().filter(fits));
    let uuid = contents.uuid.as_ref().filter(|_| fs != Fs::Ntfs).and_then(|uuid| fs.uuid(uuid));
    line.uuid = line.uuid.take().or(uuid);
}
