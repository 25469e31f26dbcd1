//! Tables and file systems, by commands only.
//!
//! A disk on which nothing stays loses its table first, so an interrupted run leaves either the old disk, or one that
//! is plainly unfinished. Where something stays, the table goes from old to new in sfdisk's one write.

use std::env;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock, fsync};
use rustix::io::Errno;

use super::error::Error;
use super::format::{Tool, format};
use super::nodes::{self, Node};
use super::prepare::{Options, Prepared, conditions, facts, look, need, refuse};
use crate::language::{Action, Fs, Kind};
use crate::layout::Placed;
use crate::limits::LOCK_WAIT_MS;
use crate::machine::{DiskKind, Facts, How, LEFTOVER, Machine, Refusal, mount_point, probe, refusals};
use crate::run::{Call, Runner};
use crate::show::script;

/// A step of the work on a disk, told when it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Something that uses the disk is taken away, in words. Nothing is written to it.
    Free(String),
    /// The table is written: from here on the disk is not what it was.
    Table(PathBuf),
    /// A partition is formatted, or emptied if it gets no file system.
    Partition(PathBuf, u32, Option<Fs>),
    /// Everything is done and on the disk; told afterwards. The second field: the table alone was wanted.
    Done(PathBuf, bool),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Free(what) => f.write_str(what),
            Self::Table(disk) => write!(f, "{}: writing the partition table", disk.display()),
            Self::Partition(disk, number, Some(fs)) => {
                write!(f, "{}: formatting partition {number}, {fs}", disk.display())
            }
            Self::Partition(disk, number, None) => {
                write!(f, "{}: emptying partition {number}", disk.display())
            }
            Self::Done(disk, true) => write!(f, "{} is partitioned", disk.display()),
            Self::Done(disk, false) => write!(f, "{} is partitioned and formatted", disk.display()),
        }
    }
}

/// The time between two attempts to take a lock, in milliseconds.
const STEP_MS: u64 = 50;

/// Writes disks that were prepared, all or none of them if one is refused; `tell` hears what is done.
///
/// # Errors
/// A disk is no longer what it was, or may not be written any more; nothing was written then. Or a command failed:
/// then the disk is unfinished, and doing it again starts from the beginning.
pub fn apply(
    machine: &Machine,
    runner: &mut dyn Runner,
    all: &[Prepared],
    options: &Options,
    tell: &mut dyn FnMut(&Step),
) -> Result<(), Error> {
    let mut locks = Vec::new();
    for disk in all {
        locks.push(lock(&disk.facts.path)?);
    }
    for disk in all {
        release(machine, runner, disk, options, tell).map_err(Error::early)?;
    }
    for disk in all {
        look_again(machine, runner, disk, options)?;
    }
    for (disk, lock) in all.iter().zip(&locks) {
        write_disk(machine, runner, disk, options, tell)?;
        fsync(&lock.0).map_err(|e| {
            Error::Wrong(disk.facts.path.clone(), vec![format!("it was not taken to the disk: {e}")])
        })?;
        if !runner.is_dry() {
            tell(&Step::Done(disk.facts.path.clone(), options.table_only));
        }
    }
    Ok(())
}

/// A disk that others keep away from until this is dropped: a second run of ours, and udev, which would start old arrays
/// that it finds halfway.
pub(super) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // To close it is not enough: a program that is being started elsewhere may have it for a moment.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

/// Locks a disk. udev looks at it whenever somebody has written to it, and is waited for.
pub(super) fn lock(path: &Path) -> Result<Lock, Error> {
    let io = |e| Error::Io(path.into(), e);
    let file = File::open(path).map_err(io)?;
    for _ in 0..LOCK_WAIT_MS / STEP_MS {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Lock(file)),
            Err(Errno::WOULDBLOCK) => {}
            Err(e) => return Err(io(e.into())),
        }
        #[allow(clippy::disallowed_methods, reason = "a lock that is waited for may be waited for for ever")]
        std::thread::sleep(Duration::from_millis(STEP_MS));
    }
    Err(Error::Refused(vec![Refusal::Locked(path.into())]))
}

/// Stops what may be stopped, and takes away what an interrupted run has left.
fn release(
    machine: &Machine,
    runner: &mut dyn Runner,
    disk: &Prepared,
    options: &Options,
    tell: &mut dyn FnMut(&Step),
) -> Result<(), Error> {
    let now = facts(machine, &disk.facts.path, options)?;
    refuse(refusals(&now, &conditions(&disk.expect, options, Some(&disk.plan))))?;
    let mut calls = Vec::new();
    for u in &now.uses {
        let (tool, args) = match &u.how {
            How::Swap => (tool("swapoff", "mount"), vec![u.node.display().to_string()]),
            How::Array { holder, .. } => {
                (tool("mdadm", "mdadm"), vec!["--stop".into(), holder.display().to_string()])
            }
            How::Mapped { name, .. } => (tool("dmsetup", "dmsetup"), vec!["remove".into(), name.clone()]),
            How::Leftover(at) => (tool("umount", "mount"), vec![at.display().to_string()]),
            _ => continue,
        };
        need(runner, &[tool])?;
        calls.push(Call::new(tool.program, args));
    }
    for call in calls {
        tell(&Step::Free(call.to_string()));
        runner.write(&call)?;
    }
    if !runner.is_dry() {
        for u in &now.uses {
            if let How::Leftover(at) = &u.how {
                // An empty directory does no harm.
                let _ = std::fs::remove_dir(at);
            }
        }
    }
    // What was mounted from a loop device has taken that along.
    for u in facts(machine, &disk.facts.path, options)?.uses {
        if let How::Loop(node) = u.how {
            tell(&Step::Free(format!("detaching {}, which nobody uses", node.display())));
            let detached = nodes::detach(runner, &node);
            // The kernel may have taken it away at the same moment.
            let left = facts(machine, &disk.facts.path, options)?.uses;
            if left.iter().any(|u| u.how == How::Loop(node.clone())) {
                detached?;
            }
        }
    }
    Ok(())
}

fn tool(program: &'static str, package: &'static str) -> Tool {
    Tool { program, package }
}

/// The second look, right before the first write.
fn look_again(
    machine: &Machine,
    runner: &mut dyn Runner,
    disk: &Prepared,
    options: &Options,
) -> Result<(), Error> {
    let now = facts(machine, &disk.facts.path, options)?;
    // A dry run has stopped nothing.
    let options = Options { deactivate: options.deactivate && runner.is_dry(), ..options.clone() };
    refuse(refusals(&now, &conditions(&disk.expect, &options, Some(&disk.plan))))?;
    let identity = |facts: &Facts| (facts.kind.clone(), facts.serial.clone(), facts.wwn.clone());
    if identity(&now) != identity(&disk.facts) || look(runner, &now)? != disk.found {
        return Err(Error::Refused(vec![Refusal::Changed(now.path)]));
    }
    Ok(())
}

fn write_disk(
    machine: &Machine,
    runner: &mut dyn Runner,
    disk: &Prepared,
    options: &Options,
    tell: &mut dyn FnMut(&Step),
) -> Result<(), Error> {
    let (path, plan) = (&disk.facts.path, &disk.plan);
    let node = nodes::disk(runner, path, &disk.facts.kind, plan.geometry)?;
    tell(&Step::Table(path.clone()));
    if !plan.keeps() {
        runner.write(&Call::new("wipefs", ["--all", "--quiet", &node.arg()]))?;
    }
    runner.write(&table(disk, &node))?;
    if !runner.is_dry() {
        let written = probe(runner, &node.path, plan.geometry.sector_bytes)?;
        let differences =
            written.map_or_else(|| vec!["there is no table".into()], |found| plan.differences(&found));
        if !differences.is_empty() {
            return Err(Error::Wrong(path.clone(), differences));
        }
    }
    let kernel = match &disk.facts.kind {
        DiskKind::Disk(name) if !nodes::need_loops(&disk.facts.kind) => Some(name.as_str()),
        _ => None,
    };
    if let Some(name) = kernel {
        runner.write(&Call::new("blockdev", ["--rereadpt", &node.arg()]))?;
        if !runner.is_dry() {
            nodes::wait(machine, name, &plan.partitions.iter().map(|p| p.number).collect::<Vec<_>>())?;
        }
    }
    let ours = |p: &&Placed| p.line.action != Action::Keep && p.line.kind != Kind::Extended;
    for p in plan.partitions.iter().filter(ours).filter(|_| !options.table_only) {
        tell(&Step::Partition(path.clone(), p.number, p.line.formatted()));
        let part = partition(machine, runner, disk, p, &node)?;
        contents(runner, p, &part)?;
    }
    Ok(())
}

/// The command that writes the table. What stays is in its script too, so sfdisk must not wipe what is new to it.
fn table(disk: &Prepared, node: &Node) -> Call {
    let wipe = if disk.plan.keeps() { "never" } else { "always" };
    let args = ["--quiet", "--wipe", wipe, "--wipe-partitions", wipe, "--no-tell-kernel", &node.arg()];
    Call { input: script(&disk.plan), ..Call::new("sfdisk", args) }
}

/// A node for one partition.
pub(super) fn partition(
    machine: &Machine,
    runner: &mut dyn Runner,
    disk: &Prepared,
    p: &Placed,
    whole: &Node,
) -> Result<Node, Error> {
    let plan = &disk.plan;
    match &disk.facts.kind {
        DiskKind::Disk(name) if !nodes::need_loops(&disk.facts.kind) => {
            // In a dry run there is none yet; its name is the disk's and the number, or so.
            let infix = if name.ends_with(|c: char| c.is_ascii_digit()) { "p" } else { "" };
            let node = nodes::partition(machine, name, p.number);
            Ok(Node::own(node.unwrap_or_else(|| machine.node(&format!("{name}{infix}{}", p.number)))))
        }
        _ => {
            let bytes = (plan.bytes(p.start), plan.bytes(p.sectors));
            Node::attach(runner, &whole.path, Some(bytes), plan.geometry.sector_bytes)
        }
    }
}

/// Makes what is on one partition.
fn contents(runner: &mut dyn Runner, p: &Placed, node: &Node) -> Result<(), Error> {
    runner.write(&Call::new("wipefs", ["--all", "--quiet", &node.arg()]))?;
    for call in format(&p.line, &node.arg(), p.sectors) {
        runner.write(&call)?;
    }
    if p.line.formatted().is_none() || p.line.subvolumes.is_empty() {
        return Ok(());
    }
    let made = if runner.is_dry() { Ok(env::temp_dir().join(LEFTOVER)) } else { mount_point() };
    let at = made.map_err(|e| Error::Io(env::temp_dir(), e))?;
    runner.write(&Call::new("mount", ["-t", "btrfs", &node.arg(), &at.display().to_string()]))?;
    let made = subvolumes(runner, p, &at);
    let unmounted = runner.write(&Call::new("umount", [at.display().to_string()]));
    made?;
    unmounted?;
    if runner.is_dry() { Ok(()) } else { std::fs::remove_dir(&at).map_err(|e| Error::Io(at.clone(), e)) }
}

fn subvolumes(runner: &mut dyn Runner, p: &Placed, at: &Path) -> Result<(), Error> {
    for subvolume in &p.line.subvolumes {
        let path = at.join(&subvolume.name);
        if let Some(parent) = path.parent().filter(|parent| *parent != at) {
            runner.write(&Call::new("mkdir", ["-p", &parent.display().to_string()]))?;
        }
        runner.write(&Call::new("btrfs", ["subvolume", "create", &path.display().to_string()]))?;
    }
    Ok(())
}
