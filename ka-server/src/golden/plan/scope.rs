//! Which file systems and disks are cloned, and which are left out, and why. Pure.

use std::path::Path;

use ka_desc::error::Error;
use ka_desc::manifest::{OWN, Part};
use ka_desc::system::fstab::{self, Entry};
use serde::Serialize;

use super::choice::{Choice, disks};
use crate::golden::facts::{Golden, GoldenDisk, Mount, On};

/// The part of the golden node that is cloned.
#[derive(Clone, Debug, Default)]
pub struct Scope<'a> {
    /// The file systems, whatever contains others first.
    pub mounts: Vec<&'a Mount>,
    /// The disks, in the golden node's order.
    pub disks: Vec<&'a GoldenDisk>,
    /// The partitions that come as their blocks.
    pub raw: Vec<Part>,
    /// The things that clones do not get.
    pub left_out: Vec<LeftOut>,
    /// The facts that the admin should know.
    pub warnings: Vec<String>,
}

/// Something that clones do not get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// A mount point, or a disk.
    pub what: String,
    /// Why.
    pub why: String,
}

/// File systems of others, which tar cannot keep as they are.
const FOREIGN: [&str; 5] = ["ntfs", "ntfs3", "fuseblk", "exfat", "hfsplus"];

/// Returns what of the golden node is cloned, and every reason why that cannot be, each with the way out.
pub fn scope<'a>(golden: &'a Golden, choice: &Choice) -> (Scope<'a>, Vec<String>) {
    let mut look = Look {
        golden,
        choice,
        fstab: fstab::read(&golden.fstab),
        scope: Scope::default(),
        problems: Vec::new(),
    };
    look.names();
    look.mounts();
    look.raw();
    look.disks();
    look.swaps();
    look.out(
        OWN,
        "it is what a machine keeps for itself: the nodes' key, and of which session it is a clone",
    );
    (look.scope, look.problems)
}

struct Look<'a, 'b> {
    golden: &'a Golden,
    choice: &'b Choice,
    fstab: Vec<Entry>,
    scope: Scope<'a>,
    problems: Vec<String>,
}

impl<'a> Look<'a, '_> {
    fn problem(&mut self, text: String) {
        self.problems.push(text);
    }

    fn out(&mut self, what: impl Into<String>, why: impl Into<String>) {
        self.scope.left_out.push(LeftOut { what: what.into(), why: why.into() });
    }

    /// Whether the disks that were named are there.
    fn names(&mut self) {
        let codes = self.choice.codes.iter().map(|(disk, _)| ("-m or -M", disk));
        let descs = self.choice.descs.iter().map(|(disk, ..)| ("-p", disk));
        let all: Vec<_> =
            self.choice.exclude_disks.iter().map(|disk| ("-X", disk)).chain(codes).chain(descs).collect();
        for (at, (option, disk)) in all.iter().enumerate() {
            if self.golden.disk(disk).is_none() {
                let known = disks(self.golden);
                self.problem(format!("{option} {disk}: the golden node has no such disk; it has {known}"));
            } else if *option != "-X" && self.choice.exclude_disks.contains(disk) {
                self.problem(format!("{option} {disk}: -X leaves that disk out; say one of both"));
            } else if all[..at].contains(&(*option, disk)) && *option != "-X" {
                self.problem(format!("{option} is said twice for {disk}: say it once"));
            }
        }
    }

    fn mounts(&mut self) {
        let mut mounts: Vec<&'a Mount> = self.golden.mounts.iter().collect();
        mounts.sort_by_key(|mount| mount.at.components().count());
        for mount in mounts {
            if self.is_cloned(mount) {
                self.scope.mounts.push(mount);
            }
        }
        self.twice();
        if !self.scope.mounts.iter().any(|mount| mount.is_at("/")) {
            let is_there = self.golden.mounts.iter().any(|mount| mount.is_at("/"));
            let why = match self.scope.left_out.iter().find(|out| out.what == "/") {
                Some(out) => out.why.clone(),
                // It was said already what it is on.
                None if is_there => return,
                None => "with --root, the system's own root must be mounted at that directory".into(),
            };
            self.problem(format!("there is no root file system that could be cloned: {why}"));
        }
    }

    /// Whether a mount is cloned; if not, it is said why.
    fn is_cloned(&mut self, mount: &'a Mount) -> bool {
        let at = mount.at.display().to_string();
        // What is below an excluded directory goes without saying; what is at one comes empty, if it can.
        let excluded = &self.choice.exclude;
        if excluded.iter().any(|x| mount.at.starts_with(x) && mount.at != *x) || mount.at.starts_with(OWN) {
            return false;
        }
        let is_empty = excluded.contains(&mount.at);
        if mount.partial {
            let whole = |other: &Mount| !other.partial && other.on == mount.on;
            // Whoever looks for its files finds them where all of the file system is.
            if !self.golden.mounts.iter().any(whole) {
                self.out(at, "it shows a directory of a file system that is mounted nowhere as a whole");
            }
            return false;
        }
        match &mount.on {
            On::Network => self.out(at, format!("it comes by the network, from {}", mount.source.display())),
            On::File => self.out(at, "it is on a file of the golden node"),
            On::Part(part) => {
                let part = part.clone();
                return self.is_part_cloned(mount, &part, at);
            }
            On::Whole(disk) if self.leaves_out(disk) => self.out_with_disk(mount, disk),
            On::Built { disks, .. }
                if !disks.is_empty() && disks.iter().all(|disk| self.leaves_out(disk)) =>
            {
                self.out_with_disk(mount, &disks.join(" and "));
            }
            _ if is_empty => self.out(at, "-x leaves it out"),
            On::Whole(disk) => {
                let way_out = self.ways_out(mount, Some(disk));
                self.problem(format!(
                    "{at} is on the whole disk {disk}, which has no partition table: {way_out}"
                ));
            }
            On::Built { what, disks } => {
                let way_out = self.ways_out(mount, disks.first());
                self.problem(format!("{at} is on {what}, which clones cannot be given: {way_out}"));
            }
            On::Unknown => {
                let way_out = self.ways_out(mount, None);
                let source = mount.source.display();
                self.problem(format!(
                    "{at} ({} from {source}) is on no partition that is known: {way_out}",
                    mount.fs
                ));
            }
        }
        false
    }

    fn is_part_cloned(&mut self, mount: &'a Mount, part: &Part, at: String) -> bool {
        let twins = |p: &&GoldenDisk| {
            let uuid = |part: &Part| self.golden.contents(part).and_then(|c| c.uuid.clone());
            let own = uuid(part);
            let parts = p.found.iter().flat_map(|found| &found.partitions).map(|q| q.number);
            let mut parts = parts.map(|number| Part { disk: p.name.clone(), number });
            own.is_some() && parts.any(|other| other != *part && uuid(&other) == own)
        };
        if self.leaves_out(&part.disk) {
            self.out_with_disk(mount, &part.disk);
        } else if self.golden.disk(&part.disk).is_some_and(|disk| disk.portable)
            && !self.carries_root(&part.disk)
        {
            self.out(at, format!("{} can be taken out of the golden node", part.disk));
            self.warn_of_fstab(mount);
        } else if FOREIGN.contains(&mount.fs.as_str()) {
            let device = fstab::device(&part.disk, part.number);
            self.out(
                at,
                format!("{} is no file system of Linux: unmount it, and clone it with -D {device}", mount.fs),
            );
        } else if mount.fs == "btrfs" && self.golden.disks.iter().any(|disk| twins(&disk)) {
            let way_out = self.ways_out(mount, None);
            self.problem(format!("{at} is a btrfs on several partitions, which no desc makes: {way_out}"));
        } else {
            return true;
        }
        false
    }

    /// A partition that is mounted twice: fstab says which mount is meant.
    fn twice(&mut self) {
        let mounts = std::mem::take(&mut self.scope.mounts);
        let known = |mount: &Mount| mount.is_at("/") || self.fstab.iter().any(|e| mount.is_at(&e.at));
        let mut kept: Vec<&Mount> = Vec::new();
        let mut out = Vec::new();
        let mut problems = Vec::new();
        for mount in mounts {
            let same = |other: &&&Mount| other.on == mount.on && other.subvolume == mount.subvolume;
            let Some(other) = kept.iter().find(same).copied() else {
                kept.push(mount);
                continue;
            };
            let (first, second) = (known(other), known(mount));
            let (out_of, stays) = if second && !first { (other, mount) } else { (mount, other) };
            if first == second {
                problems.push(format!(
                    "{} and {} are the same file system: unmount one of them, or have the fstab name only one",
                    other.at.display(),
                    mount.at.display()
                ));
            } else {
                out.push((
                    out_of.at.display().to_string(),
                    format!("it is the same as {}", stays.at.display()),
                ));
                kept.retain(|m| m.at != out_of.at);
                if stays.at == mount.at {
                    kept.push(mount);
                }
            }
        }
        self.scope.mounts = kept;
        self.problems.extend(problems);
        out.into_iter().for_each(|(what, why)| self.out(what, why));
    }

    fn raw(&mut self) {
        for name in self.choice.raw.clone() {
            match self.raw_part(&name) {
                Ok(part) => self.scope.raw.push(part),
                Err(why) => self.problem(format!("-D {name}: {why}")),
            }
        }
    }

    fn raw_part(&self, name: &str) -> Result<Part, Error> {
        let parts = self.golden.disks.iter().flat_map(|disk| {
            let numbers = disk.found.iter().flat_map(|found| &found.partitions).map(|p| p.number);
            numbers.map(|number| Part { disk: disk.name.clone(), number })
        });
        let part = parts.into_iter().find(|part| fstab::device(&part.disk, part.number) == name);
        let part = part.ok_or("the golden node has no such partition; name it such as sda3")?;
        if self.leaves_out(&part.disk) {
            return Err(format!("-X leaves the disk {} out; say one of both", part.disk).into());
        }
        if self.scope.raw.contains(&part) {
            return Err("it is said twice".into());
        }
        if self.golden.swaps.contains(&part) {
            return Err("it is in use as swap, which clones get without it".into());
        }
        let mut mounts = self.golden.mounts.iter().filter(|mount| mount.part() == Some(&part));
        if let Some(mount) = mounts.clone().find(|mount| mount.writable) {
            return Err(
                format!("it is mounted at {} and can change: unmount it first", mount.at.display()).into()
            );
        }
        if let Some(mount) = mounts.find(|mount| self.scope.mounts.iter().any(|m| m.at == mount.at)) {
            let at = mount.at.display();
            return Err(format!(
                "it is mounted at {at}, whose files are cloned already: unmount it, or leave out -D"
            )
            .into());
        }
        Ok(part)
    }

    fn disks(&mut self) {
        for disk in &self.golden.disks {
            let name = &disk.name;
            let mounted = self.scope.mounts.iter().filter_map(|m| m.part()).any(|part| part.disk == *name);
            let named = self.choice.descs.iter().any(|(d, ..)| d == name)
                || self.choice.codes.iter().any(|(d, _)| d == name)
                || self.scope.raw.iter().any(|part| part.disk == *name);
            let swap = !disk.portable && self.golden.swaps.iter().any(|part| part.disk == *name);
            if self.leaves_out(name) {
                continue;
            }
            if mounted || named || swap {
                self.scope.disks.push(disk);
            } else if disk.found.is_some() && !disk.portable {
                self.out(
                    name,
                    "nothing of it is mounted; if clones are to have it, give its desc with -p, or -D",
                );
            }
        }
    }

    /// Swap that clones do not have, and their fstab wants.
    fn swaps(&mut self) {
        for part in self.golden.swaps.iter().filter(|part| self.choice.exclude_disks.contains(&part.disk)) {
            let device = fstab::device(&part.disk, part.number);
            let means = |entry: &&Entry| self.golden.partition(part).is_some_and(|p| entry.means(p, &device));
            if self.fstab.iter().filter(means).any(|entry| entry.fs == "swap" && entry.is_needed()) {
                self.scope.warnings.push(format!(
                    "the fstab uses {device} as swap, and clones do not have it: they wait for it when they boot. Add the option \
                     nofail to that line of the golden node's fstab before cloning"
                ));
            }
        }
    }

    fn leaves_out(&self, disk: &String) -> bool {
        self.choice.exclude_disks.contains(disk)
    }

    fn carries_root(&self, disk: &str) -> bool {
        let root =
            |mount: &&Mount| ["/", "/usr", "/boot", "/boot/efi", "/efi"].iter().any(|at| mount.is_at(at));
        self.golden.mounts.iter().filter(root).filter_map(Mount::part).any(|part| part.disk == disk)
    }

    fn out_with_disk(&mut self, mount: &Mount, disk: &str) {
        self.out(
            mount.at.display().to_string(),
            format!("it is on {disk}, which -X leaves out: it comes empty"),
        );
        self.warn_of_fstab(mount);
    }

    /// A clone waits at its boot for what its fstab names.
    fn warn_of_fstab(&mut self, mount: &Mount) {
        let at = mount.at.display();
        if self.fstab.iter().any(|entry| Path::new(&entry.at) == mount.at && entry.is_needed()) {
            self.scope.warnings.push(format!(
                "the fstab mounts {at}, and clones have nothing to mount there: they wait for it when they boot, and stop. Add \
                 the option nofail to that line of the golden node's fstab before cloning"
            ));
        }
    }

    fn ways_out(&self, mount: &Mount, disk: Option<&String>) -> String {
        let at = mount.at.display();
        if mount.is_at("/") {
            return "this system cannot be cloned as it is; install it on a partition".into();
        }
        let disk = disk.map_or_else(String::new, |disk| format!(", or the disk with -X {disk}"));
        format!("unmount it, or leave it out with -x {at}{disk}")
    }
}
