//! Makes the plan of the clones from what the golden node is and what the admin chose. Pure.

use std::path::PathBuf;

use ka_desc::error::Error;
use ka_desc::manifest::{DiskFacts, Files, Manifest, PARTCLONE, Part, Raw, VERSION};

use super::boot::boot;
use super::choice::Choice;
use super::describe::{Described, describe};
use super::scope::{LeftOut, scope};
use super::sizes;
use crate::golden::facts::Golden;

/// A plan, and what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// The manifest that nodes get.
    pub plan: Manifest,
    /// The stream `boot`.
    pub boot: Vec<u8>,
    /// The mount points whose files are cloned, whatever contains others first.
    pub mounts: Vec<PathBuf>,
    /// The directories whose contents are not.
    pub excluded: Vec<PathBuf>,
    /// The other things that clones do not get.
    pub left_out: Vec<LeftOut>,
    /// The facts that the admin should know.
    pub warnings: Vec<String>,
}

/// Plans.
///
/// # Errors
/// Every reason why this cannot be cloned, each with the way out.
pub fn plan(golden: &Golden, choice: &Choice) -> Result<Planned, Vec<Error>> {
    let mut problems = choice.problems.clone();
    let (scope, why) = scope(golden, choice);
    problems.extend(why);
    let Described { desc, uuids, problems: why, warnings: noted } = describe(golden, choice, &scope);
    problems.extend(why);
    let needs = sizes::needs(&desc, &scope, choice);
    let mut warnings = [golden.warnings.clone(), scope.warnings.clone(), noted].concat();
    if problems.is_empty() {
        let (misfits, doubts) = sizes::misfits(golden, choice, &scope, &desc, &needs);
        problems.extend(misfits);
        warnings.extend(doubts);
    }
    let booted = boot(golden, choice, &scope, &desc);
    let refused = |problems: Vec<String>| problems.into_iter().map(Error::from).collect::<Vec<_>>();
    let (boot, bytes) = match (booted, problems.is_empty()) {
        (Ok((boot, bytes, noted)), true) => {
            warnings.extend(noted);
            (boot, bytes)
        }
        (Ok(_), false) => return Err(refused(problems)),
        (Err(why), _) => return Err(refused(problems).into_iter().chain(why).collect()),
    };
    let named = |path: &PathBuf| path.display().to_string();
    let mounts: Vec<PathBuf> = scope.mounts.iter().map(|mount| mount.at.clone()).collect();
    let raw = |part: &Part| {
        let contents = golden.partition(part).and_then(|found| found.contents.as_ref());
        let fs = contents.map(|contents| contents.fs.clone()).filter(|fs| PARTCLONE.contains(&fs.as_str()));
        Raw { part: part.clone(), bytes: golden.part_bytes(part), fs }
    };
    let plan = Manifest {
        version: VERSION,
        golden: golden.host.clone(),
        time_s: choice.time_s,
        desc: desc.to_string(),
        disks: scope
            .disks
            .iter()
            .map(|disk| DiskFacts {
                name: disk.name.clone(),
                bytes: disk.geometry.disk_bytes,
                modules: disk.modules.clone(),
            })
            .collect(),
        files: Files {
            bytes: needs.iter().map(|need| need.bytes).sum(),
            mounts: mounts.iter().map(named).collect(),
            excluded: choice.exclude.iter().map(named).collect(),
        },
        needs,
        raw: scope.raw.iter().map(raw).collect(),
        boot,
        new_uuids: choice.new_uuids,
        uuids,
    };
    // A node would refuse the same, but later, and on every machine.
    Manifest::from_bytes(&plan.to_bytes()).map_err(|why| vec![why])?;
    Ok(Planned {
        plan,
        boot: bytes,
        mounts,
        excluded: choice.exclude.clone(),
        left_out: scope.left_out,
        warnings,
    })
}
