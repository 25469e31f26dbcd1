//! The steps of an installation on this machine: look, refuse, write, mount; unpack; finish.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ka_core::console::units;
use ka_core::stream::ours;
use ka_core::types::SessionId;
use ka_desc::error::Error;
use ka_desc::language::Action;
use ka_desc::machine::Machine;
use ka_desc::manifest::{Firmware, Manifest, Need, Stage, StreamKind};
use ka_desc::run::{Here, Runner};
use ka_desc::write::{self, Prepared, Step};
use rustix::fs::{statvfs, syncfs};

use super::config::Config;
use super::disks;
use super::log::Log;
use super::raw::{self, RawSink};
use super::unpack::Unpack;
use crate::finish::{Target, finish, mark, misfits};

/// The longest time, in seconds, that this machine's clock may be behind the golden node's. Files from the future
/// confuse many a tool; a clock that is ahead does no harm while a clone is made.
const CLOCK_BEHIND_S: i64 = 60;

/// The directory that exists only on a machine that was started by UEFI.
const EFI: &str = "/sys/firmware/efi";

/// The state of this machine on its way to be a clone.
pub(super) struct Work {
    config: Config,
    /// The devices that were named, and for which of the golden node's disks.
    given: Vec<(Option<String>, PathBuf)>,
    machine: Machine,
    log: Log,
    /// The session, once it is joined.
    pub(super) session: Option<SessionId>,
    /// Set when the first byte is about to be written to a disk.
    touched: Arc<AtomicBool>,
    plan: Option<Manifest>,
    disks: Vec<Prepared>,
    mounted: bool,
    /// A directory of each file system, open since before anything was written to it: what could not be written later is
    /// told to whoever has it open.
    written: Vec<File>,
    /// Streams that were opened.
    begun: usize,
    done: bool,
}

impl Work {
    pub(super) fn new(
        config: Config,
        given: Vec<(Option<String>, PathBuf)>,
        log: Log,
        touched: Arc<AtomicBool>,
    ) -> Self {
        Self {
            config,
            given,
            machine: Machine::default(),
            log,
            session: None,
            touched,
            plan: None,
            disks: Vec::new(),
            mounted: false,
            written: Vec::new(),
            begun: 0,
            done: false,
        }
    }

    /// Whether this machine is a clone now.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// Whether the next stream may be for this: the plan first, then what it says, in its order.
    pub(super) fn expect(&mut self, purpose: &StreamKind) -> Result<(), Error> {
        let raw = self.plan.as_ref().map_or(0, |plan| plan.raw.len());
        let next = match self.begun {
            0 => StreamKind::Manifest,
            1 => StreamKind::Files,
            n if n - 2 < raw => StreamKind::Raw(n - 2),
            _ => StreamKind::Boot,
        };
        if *purpose != next || self.done || (self.begun > 0 && self.plan.is_none()) {
            return Err(format!("the golden node sends {purpose:?} where {next:?} is due").into());
        }
        self.begun += 1;
        Ok(())
    }

    /// The plan is here: everything is looked at before anything is written.
    pub(super) fn prepare(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let plan = Manifest::from_bytes(bytes)?;
        self.log.say(&format!("this machine becomes a clone of {}", plan.golden));
        self.set_clock(plan.time_s);
        suits(&plan, firmware())?;
        let packed = raw::tools(&plan, &Here);
        if !packed.is_empty() {
            self.log.has(&packed);
        }
        let prepared = self.look(&plan)?;
        self.plan = Some(plan);
        let log = self.log.clone();
        log.while_it_takes("it still formats", || self.write(&prepared))?;
        self.disks = prepared;
        self.has_room()?;
        self.log.stage(Stage::Ready);
        Ok(())
    }

    fn set_clock(&self, golden_s: u64) {
        use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};
        let ours = clock_gettime(ClockId::Realtime).tv_sec;
        let Ok(theirs) = i64::try_from(golden_s) else { return };
        if ours < theirs - CLOCK_BEHIND_S {
            let set = clock_settime(ClockId::Realtime, Timespec { tv_sec: theirs, tv_nsec: 0 });
            let how =
                set.map_or_else(|e| format!("and cannot be set: {e}"), |()| "and is set to that".into());
            self.log.say(&format!("the clock is {} s behind the golden node's, {how}", theirs - ours));
        }
    }

    /// Looks at the disks; every reason against each of them is told at once.
    fn look(&self, plan: &Manifest) -> Result<Vec<Prepared>, Error> {
        let desc = plan.desc()?;
        let names: Vec<String> = desc.disks.iter().filter_map(|disk| disk.name.clone()).collect();
        let here = self.machine.disks().unwrap_or_default();
        let here: Vec<_> = here.iter().filter_map(|path| self.machine.facts(path, 512).ok()).collect();
        let wants = disks::choose(&names, &self.given, &here)?;
        let found = write::find(&self.machine, &desc.disks, &wants)?;
        let how = &self.config.how;
        let mut runner = Here;
        let mut prepared = Vec::new();
        let mut refused = Vec::new();
        for meant in found {
            match write::prepare(&self.machine, &mut runner, meant, how) {
                Ok(disk) => prepared.push(disk),
                Err(e) => refused.push(e.to_string()),
            }
        }
        if refused.is_empty() {
            refused.extend(plan.needs.iter().filter_map(|need| too_small(need, &prepared)));
            refused.extend(plan.raw.iter().filter_map(|raw| {
                let disk = prepared.iter().find(|d| d.disk.name.as_ref() == Some(&raw.part.disk))?;
                let placed = disk.plan.partitions.iter().find(|placed| placed.number == raw.part.number)?;
                (placed.line.action == Action::Keep).then(|| {
                    format!("partition {} is kept as it is, and its blocks come all the same", raw.part)
                })
            }));
            refused.extend(plan.raw.iter().filter_map(|raw| {
                let bytes = bytes_of(&raw.part.disk, raw.part.number, &prepared)?;
                (bytes < raw.bytes).then(|| {
                    format!(
                        "partition {} has room for {}, and {} come for it as they are",
                        raw.part,
                        units::size(bytes),
                        units::size(raw.bytes)
                    )
                })
            }));
        }
        if refused.is_empty() {
            refused.extend(misfits(plan, &prepared, firmware()));
        }
        if !Here.has("tar") {
            refused.push("there is no tar: install it (Debian's package tar)".into());
        }
        if refused.is_empty() { Ok(prepared) } else { Err(refused.join("; ").into()) }
    }

    fn write(&mut self, disks: &[Prepared]) -> Result<(), Error> {
        let root = &self.config.root;
        let (log, touched) = (self.log.clone(), Arc::clone(&self.touched));
        let mut runner = Here;
        let mut tell = |step: &Step| {
            if matches!(step, Step::Table(_)) && !touched.swap(true, Ordering::Relaxed) {
                log.stage(Stage::Formatting);
            }
            log.say(&step.to_string());
        };
        write::apply(&self.machine, &mut runner, disks, &self.config.how, &mut tell)?;
        write::mount(&self.machine, &mut runner, disks, root)?;
        self.mounted = true;
        for line in disks.iter().flat_map(|disk| &disk.disk.partitions) {
            let paths = line.mount.iter().chain(line.subvolumes.iter().filter_map(|s| s.mount.as_ref()));
            for path in paths {
                let at = root.join(path.trim_start_matches('/'));
                let open = File::open(&at).map_err(|e| format!("{}: {e}", at.display()))?;
                self.written.push(open);
            }
        }
        Ok(())
    }

    /// Everything that was written is on the disks, or it is said that it is not.
    fn settle(&self) -> Result<(), Error> {
        for file in &self.written {
            syncfs(file)
                .map_err(|e| format!("the disk did not take what was written: {}", io::Error::from(e)))?;
        }
        Ok(())
    }

    /// The file systems are there: do they hold as much as they must?
    fn has_room(&self) -> Result<(), Error> {
        let Some(plan) = &self.plan else { return Ok(()) };
        let desc = plan.desc()?;
        for need in &plan.needs {
            let disk = desc.disks.iter().find(|disk| disk.name.as_ref() == Some(&need.part.disk));
            let line = disk.and_then(|disk| {
                let at = disk.numbers().iter().position(|number| *number == need.part.number)?;
                disk.partitions.get(at)
            });
            let Some(line) = line else { continue };
            let mount = line.mount.as_ref().or_else(|| line.subvolumes.iter().find_map(|s| s.mount.as_ref()));
            let Some(mount) = mount else { continue };
            let at = self.config.root.join(mount.trim_start_matches('/'));
            let free = statvfs(&at).map_err(|e| format!("{}: {}", at.display(), io::Error::from(e)))?;
            let bytes = free.f_bfree.saturating_mul(free.f_frsize);
            if bytes < need.bytes || (free.f_files > 0 && free.f_ffree < need.inodes) {
                return Err(format!(
                    "{mount} has room for {} and {} files, and the golden node's has {} and {}: make it larger in the desc",
                    units::size(bytes),
                    free.f_ffree,
                    units::size(need.bytes),
                    need.inodes
                ).into());
            }
        }
        Ok(())
    }

    /// The command that unpacks the files.
    pub(super) fn unpack(&mut self) -> io::Result<Unpack> {
        self.log.stage(Stage::Streaming);
        let mut tar = Command::new("tar");
        tar.args(["--extract", "--file=-", "--numeric-owner", "--same-owner", "--same-permissions"])
            // Access lists are among the attributes.
            .args(["--xattrs", "--xattrs-include=*", "--delay-directory-restore"])
            .args(["--warning=no-timestamp", "--warning=no-unknown-keyword"])
            .arg("--directory")
            .arg(&self.config.root)
            .env("LC_ALL", "C.UTF-8");
        let (said, theirs) = io::pipe()?;
        tar.stderr(theirs);
        Unpack::start(tar, self.log.follow("tar", said))
    }

    /// Returns the sink of a raw partition.
    pub(super) fn raw(&mut self, index: usize) -> Result<RawSink, Error> {
        self.log.stage(Stage::Streaming);
        let raw =
            self.plan.as_ref().and_then(|plan| plan.raw.get(index)).ok_or("there is no such partition")?;
        let desc = self.plan.as_ref().map_or_else(|| Err("no plan".into()), Manifest::desc)?;
        let at = desc.disks.iter().position(|disk| disk.name.as_ref() == Some(&raw.part.disk));
        let disk = at.and_then(|at| self.disks.get(at)).ok_or("there is no such disk")?;
        let node = write::partition(&self.machine, &mut Here, disk, raw.part.number)?;
        self.log.say(&format!("partition {} arrives as it is", raw.part));
        Ok(RawSink::new(node, raw, self.log.clone()))
    }

    /// Everything is here: the machine is made bootable and distinct, and everything is taken to the disk.
    pub(super) fn finish(&mut self, boot: &[u8]) -> Result<(), Error> {
        self.log.stage(Stage::Finishing);
        let plan = self.plan.as_ref().ok_or("there is no plan")?;
        if boot.len() as u64 != plan.boot_bytes() {
            return Err(format!(
                "{} bytes of boot records came, and the plan has {}",
                boot.len(),
                plan.boot_bytes()
            )
            .into());
        }
        let clone = Target {
            plan,
            root: &self.config.root,
            disks: &self.disks,
            machine: &self.machine,
            firmware: firmware(),
        };
        let changed = finish(&clone, boot, &mut Here, &mut |remark| self.log.remark(remark))?;
        changed.iter().for_each(|text| self.log.changed(text));
        self.settle()?;
        let session = self.session.ok_or("there is no session")?;
        let marked = mark::leave(&self.config.root, session)
            .and_then(|said| self.settle().and_then(|()| self.unmount()).map(|()| said));
        match marked {
            Ok(said) => self.log.changed(&said),
            Err(why) => {
                mark::take_away(&self.config.root);
                return Err(why);
            }
        }
        rustix::fs::sync();
        self.done = true;
        Ok(())
    }

    fn unmount(&mut self) -> Result<(), Error> {
        // What is open cannot be unmounted.
        self.written.clear();
        if std::mem::take(&mut self.mounted) {
            write::unmount(&self.machine, &mut Here, &self.config.root)?;
        }
        Ok(())
    }

    /// Leaves nothing mounted.
    pub(super) fn leave(&mut self) {
        if let Err(why) = self.unmount() {
            self.log.say(&format!("what is mounted below {} stays: {why}", self.config.root.display()));
        }
    }
}

/// Returns the firmware that started this machine.
pub(super) fn firmware() -> Firmware {
    if PathBuf::from(EFI).exists() { Firmware::Uefi } else { Firmware::Bios }
}

/// Whether what the plan makes can boot here.
fn suits(plan: &Manifest, here: Firmware) -> Result<(), Error> {
    let can = &plan.boot.firmware;
    if can.is_empty() || can.contains(&here) {
        return Ok(());
    }
    let words: Vec<String> = can.iter().map(ToString::to_string).collect();
    Err(format!(
        "this machine was started by {here}, and the golden node's system boots by {} only: change it in the machine's \
         setup",
        words.join(" and ")
    ).into())
}

fn bytes_of(disk: &str, number: u32, disks: &[Prepared]) -> Option<u64> {
    let disk = disks.iter().find(|d| d.disk.name.as_deref() == Some(disk))?;
    let placed = disk.plan.partitions.iter().find(|placed| placed.number == number)?;
    Some(placed.sectors * u64::from(disk.plan.geometry.sector_bytes))
}

/// Why a partition cannot hold what it must, as far as can be said before it is formatted.
fn too_small(need: &Need, disks: &[Prepared]) -> Option<String> {
    let bytes = bytes_of(&need.part.disk, need.part.number, disks)?;
    // A file system's own tables take a thirtieth or more.
    let needed = need.bytes + need.bytes / 32;
    (bytes < needed).then(|| {
        format!(
            "partition {} becomes {}, and the golden node has {} in it: it needs {} at least",
            need.part,
            units::size(bytes),
            units::size(need.bytes),
            units::size(needed)
        )
    })
}

/// Makes the directory, or makes sure that nothing is in it; and that nobody else can change what the clone is mounted on.
pub(super) fn empty_directory(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    ours::check_directory(path)?;
    if fs::read_dir(path)?.next().is_some() {
        return Err(io::Error::other("is not empty: name another directory, or unmount what is there"));
    }
    Ok(())
}
