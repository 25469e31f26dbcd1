//! Before anything is written: which disk, may it be, does the desc fit, are the tools there.

use std::path::{Path, PathBuf};

use super::error::Error;
use super::format::{READERS, Tool, tools};
use super::nodes;
use crate::language::Disk;
use crate::layout::{Found, Plan};
use crate::machine::{Conditions, DiskKind, Expectation, Facts, Machine, Refusal, probe, refusals};
use crate::run::Runner;

/// Which device is meant for a disk of the desc.
#[derive(Clone, Debug, Default)]
pub struct Want {
    /// The desc's name for the disk; needed if it has several.
    pub name: Option<String>,
    /// The device or image. Without one, it is the one disk that is as expected.
    pub path: Option<PathBuf>,
    /// The properties that the disk must have.
    pub expect: Vec<Expectation>,
}

/// The options for reading and writing disks.
#[derive(Clone, Debug)]
pub struct Options {
    /// Disks on USB, and those whose medium can be taken out, are meant.
    pub removable: bool,
    /// Swap, arrays and mappings that lie wholly on a disk are stopped.
    pub deactivate: bool,
    /// The table is written, and no file system is made.
    pub table_only: bool,
    /// The sector size of images, in bytes.
    pub image_sector_bytes: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { removable: false, deactivate: false, table_only: false, image_sector_bytes: 512 }
    }
}

/// A disk that may be written, as it was when it was looked at.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The desc of the disk.
    pub disk: Disk,
    /// The properties that the disk must have.
    pub expect: Vec<Expectation>,
    /// The facts of the disk.
    pub facts: Facts,
    /// The table on the disk, with its partitions; `None` if there is no table that descs have.
    pub found: Option<Found>,
    /// The plan for the disk.
    pub plan: Plan,
}

/// The device for each disk of a desc.
///
/// # Errors
/// A disk of the desc has none or several, or a device is named for two.
pub fn find(
    machine: &Machine,
    disks: &[Disk],
    wants: &[Want],
) -> Result<Vec<(Disk, PathBuf, Vec<Expectation>)>, Error> {
    let mut all: Vec<(Disk, PathBuf, Vec<Expectation>)> = Vec::new();
    for want in wants {
        if let Some(name) =
            want.name.as_ref().filter(|name| !disks.iter().any(|d| d.name.as_ref() == Some(*name)))
        {
            return Err(Error::Names(format!("the desc has no disk that is called {name}")));
        }
    }
    for disk in disks {
        let mut fitting = wants
            .iter()
            .filter(|w| if disks.len() > 1 { w.name.is_some() && w.name == disk.name } else { true });
        let (want, more) = (fitting.next(), fitting.next());
        let name = disk.name.clone().unwrap_or_default();
        let (Some(want), None) = (want, more) else {
            return Err(Error::Names(match (disks.len(), want) {
                (1, None) => "which disk? name it: --disk DEVICE".into(),
                (1, Some(_)) => "the desc has one disk, and several are named".into(),
                (_, None) => format!("which disk is {name}? name it: --disk {name}=DEVICE"),
                (_, Some(_)) => format!("several disks are named for {name}"),
            }));
        };
        let path = match &want.path {
            Some(path) => path.clone(),
            None => search(machine, &want.expect)?,
        };
        let path = std::fs::canonicalize(&path).map_err(|e| Error::Io(path, e))?;
        if all.iter().any(|(_, other, _)| *other == path) {
            return Err(Error::Refused(vec![Refusal::Twice(path)]));
        }
        all.push((disk.clone(), path, want.expect.clone()));
    }
    Ok(all)
}

/// The one disk that is as expected.
fn search(machine: &Machine, expect: &[Expectation]) -> Result<PathBuf, Error> {
    let disks = machine.disks().map_err(|e| Error::Io("/sys/class/block".into(), e))?;
    let fits =
        |path: &PathBuf| machine.facts(path, 512).is_ok_and(|facts| expect.iter().all(|e| e.holds(&facts)));
    let mut fitting: Vec<PathBuf> = disks.into_iter().filter(fits).collect();
    match fitting.len() {
        1 => Ok(fitting.remove(0)),
        _ => Err(Error::Refused(vec![Refusal::Ambiguous(fitting)])),
    }
}

/// Looks at a disk, and plans, whether it may be written or not. Nothing is written, but an image with sectors of 4096
/// bytes gets a loop device for as long as that takes.
///
/// # Errors
/// It cannot be read, or the desc does not fit it.
pub fn survey(
    machine: &Machine,
    runner: &mut dyn Runner,
    (disk, path, expect): (Disk, PathBuf, Vec<Expectation>),
    options: &Options,
) -> Result<(Prepared, Vec<Refusal>), Error> {
    let facts = facts(machine, &path, options)?;
    let refusals = refusals(&facts, &conditions(&expect, options, None));
    // What is no disk has nothing to be read.
    if !matches!(facts.kind, DiskKind::Image | DiskKind::Disk(_)) || facts.geometry.disk_bytes == 0 {
        return Err(Error::Refused(refusals));
    }
    need(runner, &READERS)?;
    let found = look(runner, &facts)?;
    let plan = Plan::new(&disk, facts.geometry, found.as_ref()).map_err(|e| Error::Misfit(path, e))?;
    Ok((Prepared { disk, expect, facts, found, plan }, refusals))
}

/// The facts of a disk, without reading it, if they do not forbid to write it.
///
/// # Errors
/// A reason not to write it, or it is not there.
pub fn check(
    machine: &Machine,
    path: &Path,
    expect: &[Expectation],
    options: &Options,
) -> Result<Facts, Error> {
    let facts = facts(machine, path, options)?;
    refuse(refusals(&facts, &conditions(expect, options, None)))?;
    Ok(facts)
}

/// Looks at a disk that is to be written, and plans.
///
/// # Errors
/// It may not be written, the desc does not fit it, or tools are missing.
pub fn prepare(
    machine: &Machine,
    runner: &mut dyn Runner,
    meant: (Disk, PathBuf, Vec<Expectation>),
    options: &Options,
) -> Result<Prepared, Error> {
    // A disk that is refused is not even read.
    check(machine, &meant.1, &meant.2, options)?;
    let (prepared, refusals) = survey(machine, runner, meant, options)?;
    refuse(refusals)?;
    let device = matches!(prepared.facts.kind, DiskKind::Disk(_));
    let loops = nodes::need_loops(&prepared.facts.kind);
    need(runner, &tools(&prepared.plan, device, loops, !options.table_only))?;
    Ok(prepared)
}

/// The kernel's facts of a disk.
pub(super) fn facts(machine: &Machine, path: &Path, options: &Options) -> Result<Facts, Error> {
    machine.facts(path, options.image_sector_bytes).map_err(|e| Error::Io(path.into(), e))
}

/// Reads what is on a disk.
///
/// # Errors
/// A tool failed.
pub fn look(runner: &mut dyn Runner, facts: &Facts) -> Result<Option<Found>, Error> {
    if facts.geometry.sector_bytes == 512 || facts.kind != DiskKind::Image {
        return probe(runner, &facts.path, facts.geometry.sector_bytes).map_err(Error::Early);
    }
    // Reading needs a real one, even when nothing is to be written.
    let node = nodes::disk(&mut crate::run::Here, &facts.path, &facts.kind, facts.geometry);
    let node = node.map_err(Error::early)?;
    probe(runner, &node.path, facts.geometry.sector_bytes).map_err(Error::Early)
}

/// Under which conditions a disk may be written.
pub(super) fn conditions(expect: &[Expectation], options: &Options, plan: Option<&Plan>) -> Conditions {
    Conditions {
        expect: expect.to_vec(),
        removable: options.removable,
        deactivate: options.deactivate,
        geometry: plan.map(|plan| plan.geometry),
    }
}

pub(super) fn refuse(list: Vec<Refusal>) -> Result<(), Error> {
    if list.is_empty() { Ok(()) } else { Err(Error::Refused(list)) }
}

pub(super) fn need(runner: &dyn Runner, tools: &[Tool]) -> Result<(), Error> {
    let missing: Vec<Tool> = tools.iter().copied().filter(|tool| !runner.has(tool.program)).collect();
    if missing.is_empty() { Ok(()) } else { Err(Error::Missing(missing)) }
}
