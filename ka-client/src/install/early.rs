//! The checks of this machine that need no plan: they come before the session is joined, so that a slip costs no gathering.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use ka_desc::error::Error;
use ka_desc::machine::{Facts, Machine};
use ka_desc::run::{Here, Runner};
use ka_desc::write;
use rustix::process::geteuid;

use super::check::needed;
use super::config::Config;
use super::disks::{listed, meant};
use super::work::empty_directory;

/// Disks of a machine that has just started may still appear, until it has run for so long, in seconds.
const APPEAR_S: f64 = 120.0;

const STEP: Duration = Duration::from_secs(1);

/// The disks of this machine, as far as the plan is not needed.
pub(super) struct Known {
    /// The devices that were named, and for which of the golden node's disks.
    pub(super) given: Vec<(Option<String>, PathBuf)>,
    /// The disks that are meant, as far as that can be told: one that is not named is the only one there is.
    pub(super) disks: Vec<Facts>,
}

/// A reason not to join.
#[derive(Debug)]
enum Lack {
    /// A disk is missing, and may appear.
    Absent(String),
    /// Something is wrong that stays so.
    Wrong(String),
}

/// Checks everything, and waits for disks that may still appear; `say` is told of the wait.
///
/// # Errors
/// Everything that is wrong, as sentences.
pub(super) fn look(config: &Config, machine: &Machine, say: &mut dyn FnMut(&str)) -> Result<Known, Error> {
    let mut wrong = Vec::new();
    if !geteuid().is_root() {
        wrong.push("disks are written by root: run it as root".to_owned());
    }
    wrong.extend(missing(&Here));
    let root = &config.root;
    wrong.extend(empty_directory(root).err().map(|e| format!("--root {}: {e}", root.display())));
    match disks_with_patience(config, machine, say) {
        Ok(known) if wrong.is_empty() => return Ok(known),
        Ok(_) => {}
        Err(why) => wrong.push(why.to_string()),
    }
    Err(wrong.join("; ").into())
}

/// The programs without which no plan can be carried out.
fn missing(runner: &dyn Runner) -> Option<String> {
    let missing = needed().into_iter().filter(|(program, _)| !runner.has(program));
    let all: Vec<String> =
        missing.map(|(program, package)| format!("{program} (Debian's package {package})")).collect();
    (!all.is_empty()).then(|| format!("programs are missing: {}", all.join(", ")))
}

fn disks_with_patience(
    config: &Config,
    machine: &Machine,
    say: &mut dyn FnMut(&str),
) -> Result<Known, Error> {
    let mut told = false;
    loop {
        match disks(config, machine) {
            Ok(known) => return Ok(known),
            Err(Lack::Wrong(why)) => return Err(why.into()),
            Err(Lack::Absent(why)) if up_s(machine) >= APPEAR_S => return Err(why.into()),
            Err(Lack::Absent(why)) => {
                if !std::mem::replace(&mut told, true) {
                    say(&format!(
                        "{why}; it may appear until this machine has run for {APPEAR_S} s, and is looked for"
                    ));
                }
                #[allow(clippy::disallowed_methods, reason = "there is no event for it without udev")]
                std::thread::sleep(STEP);
            }
        }
    }
}

fn disks(config: &Config, machine: &Machine) -> Result<Known, Lack> {
    let here = machine.disks().unwrap_or_default();
    let here: Vec<Facts> = here.iter().filter_map(|path| machine.facts(path, 512).ok()).collect();
    let mut given = Vec::new();
    for disk in &config.disks {
        let path = disk.value.find(machine).map_err(|e| {
            let why = format!("--disk {disk}: {e}{}", listed(&here, "; this machine has "));
            if e.kind() == io::ErrorKind::NotFound { Lack::Absent(why) } else { Lack::Wrong(why) }
        })?;
        given.push((disk.name.clone(), path));
    }
    let paths = meant(&given, &here)
        .map_err(|(may_appear, why)| if may_appear { Lack::Absent(why) } else { Lack::Wrong(why) })?;
    let (mut disks, mut wrong) = (Vec::new(), Vec::new());
    for path in paths {
        match write::check(machine, &path, &[], &config.how) {
            Ok(facts) if disks.iter().any(|other: &Facts| other.path == facts.path) => {
                wrong.push(format!("{} is named twice", facts.path.display()));
            }
            Ok(facts) => disks.push(facts),
            Err(e) => wrong.push(e.to_string().replace('\n', "; ")),
        }
    }
    if wrong.is_empty() { Ok(Known { given, disks }) } else { Err(Lack::Wrong(wrong.join("; "))) }
}

/// The uptime of this machine, in seconds.
fn up_s(machine: &Machine) -> f64 {
    let text = machine.file("proc/uptime").unwrap_or_default();
    text.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(f64::INFINITY)
}
