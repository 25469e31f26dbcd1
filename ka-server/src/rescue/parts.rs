//! The parts of a rescue system, or everything that is missing for it, all at once.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use ka_desc::error::Error;
use ka_desc::run::Runner;
use ka_desc::system::tree::{PROGRAMS, Tree};
use ka_desc::write::Tool;

use super::config::Config;
use super::elf::Elf;
use super::kernel::Kernel;
use super::{iso, tools};

/// The parts of a rescue system.
pub(super) struct Parts {
    /// Our own programs: their names, and where they are.
    pub(super) binaries: Vec<(&'static str, PathBuf)>,
    /// The kernel.
    pub(super) kernel: Kernel,
    /// The tools' paths in the system.
    pub(super) tools: Vec<String>,
    /// The tools that would go along, too, but are not there.
    pub(super) absent: Vec<Tool>,
}

/// Finds everything, in this system. `key_is_known`: nobody has to fill in a key.
///
/// # Errors
/// What is missing or unfit: sentences.
pub(super) fn find(
    config: &Config,
    key_is_known: bool,
    tree: &Tree,
    runner: &dyn Runner,
) -> Result<Parts, Vec<String>> {
    let mut wrong = Vec::new();
    let mut binaries = Vec::new();
    for name in tools::BINARIES {
        binary(config.bin.as_deref(), name)
            .map_or_else(|why| wrong.push(why.to_string()), |file| binaries.push((name, file)));
    }
    let (missing, mut tools) = lookup(tree, tools::REQUIRED);
    wrong.extend(tools::sentences(&missing).into_iter().map(|what| format!("the rescue needs {what}")));
    wrong.extend(busybox(tree));
    if config.iso {
        if !key_is_known {
            wrong.push(
                "a disc needs the session's key, for nobody fills it in: run this as root, or give --key-file or --insecure"
                    .into(),
            );
        }
        wrong.extend(iso::missing(runner).into_iter().map(|what| format!("a disc needs {what}")));
    }
    let uname = rustix::system::uname();
    let running = config.root.is_none().then(|| uname.release().to_string_lossy());
    let kernel = Kernel::find(tree, config.kernel.as_deref(), running.as_deref());
    match kernel {
        Ok(kernel) if wrong.is_empty() => {
            let (absent, there) = lookup(tree, tools::OPTIONAL);
            tools.extend(there);
            tools.extend(family(tree));
            Ok(Parts { binaries, kernel, tools, absent })
        }
        kernel => {
            wrong.extend(kernel.err().map(|why| why.to_string()));
            Err(wrong)
        }
    }
}

/// One of our own programs, which must be static: then it runs whatever libraries the rescue has.
fn binary(folder: Option<&Path>, name: &str) -> Result<PathBuf, Error> {
    let own = std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_path_buf));
    let file = folder.map(Path::to_path_buf).or(own).unwrap_or_default().join(name);
    let way_out = format!("build it with `{}`, and name its directory with --bin", tools::BUILD);
    let bytes = fs::read(&file).map_err(|e| format!("{}: {e}: {way_out}", file.display()))?;
    match Elf::read(&bytes) {
        None => Err(format!("{} is no program for 64 bits: {way_out}", file.display()).into()),
        Some(elf) if !elf.is_static() => Err(format!("{} is not static: {way_out}", file.display()).into()),
        Some(_) => Ok(file),
    }
}

/// Returns what is wrong with the system's busybox, if there is one.
fn busybox(tree: &Tree) -> Option<String> {
    let file = tree.file(&tree.program("busybox")?).ok()?;
    let lacking = tools::lacking(&fs::read(file).ok()?);
    let sentence = || {
        let names = lacking.join(", ");
        format!("this busybox has no {names}: install another one (Debian's package busybox-static)")
    };
    (!lacking.is_empty()).then(sentence)
}

/// Which of these are not there, and the paths of the others.
fn lookup(tree: &Tree, list: &[Tool]) -> (Vec<Tool>, Vec<String>) {
    let (mut missing, mut paths) = (Vec::new(), Vec::new());
    for tool in list {
        tree.program(tool.program).map_or_else(|| missing.push(*tool), |path| paths.push(path));
    }
    (missing, paths)
}

/// The programs whose names begin as the family's do.
fn family(tree: &Tree) -> Vec<String> {
    let names: BTreeSet<String> =
        PROGRAMS.iter().flat_map(|folder| tree.list(folder).unwrap_or_default()).collect();
    let family = names.iter().filter(|name| name.starts_with(tools::FAMILY));
    family.filter_map(|name| tree.program(name)).collect()
}
