//! The tree that a desc describes, mounted below a directory, and unmounted.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::apply::partition;
use super::error::Error;
use super::nodes::{self, Node};
use super::prepare::Prepared;
use crate::language::Fs;
use crate::layout::Placed;
use crate::machine::Machine;
use crate::phrases;
use crate::run::{Call, Runner};

/// One mount.
struct Mount<'a> {
    path: &'a str,
    disk: &'a Prepared,
    placed: &'a Placed,
    options: String,
}

/// Mounts all that has a mount point below `dir`, whatever contains others first. If one cannot be mounted, none is.
///
/// # Errors
/// A disk is not what the desc makes of it, or something cannot be mounted.
pub fn mount(machine: &Machine, runner: &mut dyn Runner, all: &[Prepared], dir: &Path) -> Result<(), Error> {
    let io = |e| Error::Io(dir.into(), e);
    let dir = if runner.is_dry() { dir.into() } else { fs::canonicalize(dir).map_err(io)? };
    let mut mounts: Vec<Mount<'_>> = all.iter().flat_map(mounts).collect();
    mounts.sort_by_key(|mount| Path::new(mount.path).components().count());
    let mut done: Vec<PathBuf> = Vec::new();
    let mut nodes = Vec::new();
    for mount in &mounts {
        let at = dir.join(mount.path.trim_start_matches('/'));
        let inside = if runner.is_dry() { Ok(()) } else { stays_inside(&dir, mount.path) };
        if let Err(e) = inside.and_then(|()| one(machine, runner, mount, &at, &mut nodes)) {
            for at in done.iter().rev() {
                // The first error is the one to tell.
                let _ = runner.write(&Call::new("umount", [at.display().to_string()]));
            }
            return Err(e);
        }
        done.push(at);
    }
    Ok(())
}

/// Checks that no part of `path` below `dir` is a symbolic link. A file system that is mounted already may have links
/// where others are to be mounted; they lead out of `dir`.
fn stays_inside(dir: &Path, path: &str) -> Result<(), Error> {
    let mut at = dir.to_path_buf();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        at.push(part);
        if fs::symlink_metadata(&at).is_ok_and(|meta| meta.is_symlink()) {
            let why =
                std::io::Error::other("a symbolic link is no place to mount; remove it, or mount elsewhere");
            return Err(Error::Io(at, why));
        }
    }
    Ok(())
}

/// The node of a partition, for as long as others are mounted. Subvolumes of a btrfs must come from the same one:
/// through two loop devices, the kernel would take it for two file systems, and each would overwrite the other.
struct Known<'a> {
    disk: &'a Path,
    number: u32,
    node: Node,
}

fn one<'a>(
    machine: &Machine,
    runner: &mut dyn Runner,
    mount: &Mount<'a>,
    at: &Path,
    nodes: &mut Vec<Known<'a>>,
) -> Result<(), Error> {
    let at = at.display().to_string();
    runner.write(&Call::new("mkdir", ["-p", &at]))?;
    let (disk, number) = (mount.disk.facts.path.as_path(), mount.placed.number);
    let known = nodes.iter().position(|known| (known.disk, known.number) == (disk, number));
    let known = match known {
        Some(known) => known,
        None => {
            let whole = nodes::disk(runner, disk, &mount.disk.facts.kind, mount.disk.plan.geometry)?;
            let node = partition(machine, runner, mount.disk, mount.placed, &whole)?;
            nodes.push(Known { disk, number, node });
            nodes.len() - 1
        }
    };
    let node = &nodes[known].node;
    let fs = mount.placed.line.file_system().map_or_else(|| "auto".into(), |fs| fs.to_string());
    let mut args = vec!["-t".to_owned(), fs];
    if !mount.options.is_empty() {
        args.extend(["-o".into(), mount.options.clone()]);
    }
    args.extend([node.arg(), at]);
    runner.write(&Call::new("mount", args))?;
    Ok(())
}

fn mounts(disk: &Prepared) -> Vec<Mount<'_>> {
    let mut list = Vec::new();
    for placed in &disk.plan.partitions {
        let line = &placed.line;
        if line.file_system() == Some(Fs::Swap) {
            continue;
        }
        let own = line.options.clone();
        if let Some(path) = &line.mount {
            list.push(Mount { path, disk, placed, options: own.clone().unwrap_or_default() });
        }
        for s in &line.subvolumes {
            if let Some(path) = &s.mount {
                let parts = [Some(format!("subvol={}", s.name)), own.clone(), s.options.clone()];
                let options = parts.into_iter().flatten().collect::<Vec<_>>().join(",");
                list.push(Mount { path, disk, placed, options });
            }
        }
    }
    list
}

/// Unmounts all that is mounted at `dir` and below it, in the opposite order. Loop devices go with what they carry.
///
/// # Errors
/// Nothing is mounted there, or something cannot be unmounted.
pub fn unmount(machine: &Machine, runner: &mut dyn Runner, dir: &Path) -> Result<(), Error> {
    let dir = fs::canonicalize(dir).map_err(|e| Error::Io(dir.into(), e))?;
    let mounted = machine.mounted_below(&dir).map_err(|e| Error::Io(dir.clone(), e))?;
    if mounted.is_empty() {
        let why = "nothing is mounted there, or below it";
        return Err(Error::Io(dir, std::io::Error::new(std::io::ErrorKind::NotFound, why)));
    }
    mounted.iter().rev().try_for_each(|at| let_go(runner, at))
}

/// Unmounts one. Somebody may look at it for a moment, such as who looks at all that is mounted.
fn let_go(runner: &mut dyn Runner, at: &Path) -> Result<(), Error> {
    const STEP: Duration = Duration::from_millis(100);
    const STEPS: u32 = 30;
    let call = Call::new("umount", [at.display().to_string()]);
    for _ in 0..STEPS {
        match runner.write(&call) {
            Err(failure) if phrases::is_busy(&failure) => {}
            other => return Ok(other.map(drop)?),
        }
        #[allow(clippy::disallowed_methods, reason = "there is no event for it")]
        std::thread::sleep(STEP);
    }
    Ok(runner.write(&call).map(drop)?)
}
