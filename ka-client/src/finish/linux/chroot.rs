//! The clone's own programs, run in the clone with what they need of the node.

use std::fs;

use ka_desc::error::Error;
use ka_desc::run::{Call, Failure, Runner};
use ka_desc::system::tree::Tree;

use crate::finish::remark::Remark;
use crate::finish::target::Target;

/// The directories that programs read when they install boot loaders and build an initramfs.
const BINDS: [&str; 4] = ["/dev", "/proc", "/sys", "/run"];

/// The kernel's command line, with the session's key in it.
const LINE: &str = "/proc/cmdline";

/// The file that the clone's programs see instead: some make boot entries from it.
const SHOWN_LINE: &str = "/run/ka/cmdline";

/// The prefix of the words that are a rescue system's own.
const OURS: &str = "ka.";

/// UEFI's variables, where the kernel has them.
pub(crate) const EFIVARS: &str = "/sys/firmware/efi/efivars";

/// The directories of programs; a rescue system's own path may lack some of these.
const PATHS: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// A clone in which programs can be run.
pub(crate) struct Inside<'a> {
    root: String,
    tree: &'a Tree,
    runner: &'a mut dyn Runner,
}

impl Inside<'_> {
    /// Whether the clone has such a program.
    pub(crate) fn has(&self, program: &str) -> bool {
        has(self.tree, program)
    }

    /// Runs a program that changes nothing, and gives what it says.
    pub(crate) fn read(&mut self, program: &str, args: &[&str]) -> Result<String, Failure> {
        let call = self.call(program, args);
        self.runner.read(&call)
    }

    /// Runs a program that changes something.
    pub(crate) fn write(&mut self, program: &str, args: &[&str]) -> Result<String, Failure> {
        let call = self.call(program, args);
        self.runner.write(&call)
    }

    fn call(&self, program: &str, args: &[&str]) -> Call {
        let path = format!("PATH={}", PATHS.join(":"));
        let all = [&[self.root.as_str(), "/usr/bin/env", &path, program], args].concat();
        Call::new("chroot", all)
    }
}

/// Whether the clone has such a program.
pub(crate) fn has(tree: &Tree, program: &str) -> bool {
    PATHS.iter().any(|folder| tree.has(&format!("{folder}/{program}")))
}

/// Does `work` while the node's devices and `/proc`, `/sys` and `/run` are in the clone, too, and takes them away
/// again.
pub(crate) fn inside<T>(
    clone: &Target<'_>,
    tree: &Tree,
    runner: &mut dyn Runner,
    tell: &mut dyn FnMut(Remark<'_>),
    work: impl FnOnce(&mut Inside<'_>, &mut dyn FnMut(Remark<'_>)) -> Result<T, Error>,
) -> Result<T, Error> {
    let efivars = clone.machine.path(EFIVARS);
    let has_efivars = fs::read_dir(efivars).is_ok_and(|mut entries| entries.next().is_some());
    let mut mounted = Vec::new();
    let mut done = Ok(());
    for what in BINDS.into_iter().chain(has_efivars.then_some(EFIVARS)) {
        done = bind(clone, tree, runner, what).map(|at| mounted.push(at));
        if done.is_err() {
            break;
        }
    }
    let done = done.and_then(|()| hide(clone, runner).map(|at| mounted.extend(at)));
    let root = clone.root.display().to_string();
    let done = done.and_then(|()| work(&mut Inside { root, tree, runner }, tell));
    for at in mounted.iter().rev() {
        if let Err(failure) = runner.write(&Call::new("umount", [at])) {
            // Something that was started in there still runs.
            tell(Remark::Step(&format!("{failure}; it goes when nobody uses it any more")));
            if let Err(failure) = runner.write(&Call::new("umount", ["--lazy", at])) {
                tell(Remark::Step(&failure.to_string()));
            }
        }
    }
    done
}

/// Shows the kernel's command line without what is this session's.
fn hide(clone: &Target<'_>, runner: &mut dyn Runner) -> Result<Option<String>, Error> {
    let line = clone.machine.file(LINE.trim_start_matches('/')).unwrap_or_default();
    let (ours, others): (Vec<&str>, Vec<&str>) =
        line.split_whitespace().partition(|word| word.starts_with(OURS));
    if ours.is_empty() {
        return Ok(None);
    }
    let shown = clone.machine.path(SHOWN_LINE);
    let written = shown.parent().map_or(Ok(()), fs::create_dir_all);
    written
        .and_then(|()| fs::write(&shown, others.join(" ") + "\n"))
        .map_err(|e| format!("{}: {e}", shown.display()))?;
    let at = format!("{}{LINE}", clone.root.display());
    let mount = Call::new("mount", ["--bind", &shown.display().to_string(), &at]);
    runner.write(&mount).map_err(|failure| failure.to_string())?;
    Ok(Some(at))
}

fn bind(clone: &Target<'_>, tree: &Tree, runner: &mut dyn Runner, what: &str) -> Result<String, Error> {
    // What is below /sys comes with it.
    if what != EFIVARS {
        tree.make_dir(what)?;
        if !tree.is_real_dir(what) {
            return Err(format!(
                "{what} of the clone is no directory, so nothing can be mounted there: make it one"
            )
            .into());
        }
    }
    let at = format!("{}{what}", clone.root.display());
    runner.write(&Call::new("mount", ["--bind", what, &at])).map_err(|failure| failure.to_string())?;
    Ok(at)
}
