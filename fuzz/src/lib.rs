//! Parts that fuzz targets share: what a corpus begins with, where that is too large to be kept, or this machine's own.
//!
//! | foreign bytes | target |
//! |---|---|
//! | prefaces and control messages; frames' bodies; discovery | `control`; `data`; `discovery` |
//! | the pieces in which frames come, of data links and control connections | `frames` |
//! | statements and blocks; places that children claim | `tape`; `ring` |
//! | a session's words in any order | `coordinator` |
//! | a plan, its boot records, what streams are for, what nodes say of themselves | `plan` |
//! | descs; keys, sizes, rates, times | `desc`; `key` |
//! | tables in sfdisk's JSON, with the desc, plan and boot records of such a disk; blkid's words | `sfdisk`; `blkid` |
//! | mounts; fstab; the log of an NTFS | `mountinfo`; `fstab`; `ntfs` |
//! | a kernel's lists of modules, a module's firmware; programs' headers | `modules`; `elf` |
//!
//! Without a target: handshakes, which are of fixed lengths (their tests cut and change them everywhere); texts of which a
//! line's words are looked at and no more (commands of the control socket, `grub.cfg`, `ld.so.conf`, what efibootmgr and the
//! lists of initramfs say). Archives, kernels and other file systems are not read at all: tools do that.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// Puts inputs into the corpus: the first directory that the command line names.
pub fn begin_with(inputs: impl IntoIterator<Item = Vec<u8>>) {
    let Some(corpus) = env::args().skip(1).map(PathBuf::from).find(|path| path.is_dir()) else { return };
    for (number, input) in inputs.into_iter().enumerate() {
        let path = corpus.join(format!("begin-{number}"));
        fs::write(&path, input).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
}

/// A file's bytes; `None`, and a line that says so, if it cannot be read.
pub fn file(path: impl AsRef<Path>) -> Option<Vec<u8>> {
    let path = path.as_ref();
    fs::read(path).inspect_err(|e| eprintln!("the corpus begins without {}: {e}", path.display())).ok()
}

/// What a command prints; `None`, and a line that says so, if it fails.
pub fn output(program: &str, args: &[&str]) -> Option<Vec<u8>> {
    let path = format!("{}:/usr/sbin:/sbin", env::var("PATH").unwrap_or_default());
    let (why, said) = match Command::new(program).args(args).env("PATH", path).output() {
        Ok(output) if output.status.success() => return Some(output.stdout),
        Ok(output) => (output.status.to_string(), String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(e) => (e.to_string(), String::new()),
    };
    eprintln!("the corpus begins without the output of {program} {}: {why} {said}", args.join(" "));
    None
}

/// Runs `take` with the path of a sparse image of this many bytes, on which this command was run; its path is the last
/// argument.
pub fn image<T>(bytes: u64, program: &str, args: &[&str], take: impl FnOnce(&str) -> Option<T>) -> Option<T> {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.as_file().set_len(bytes).expect("a sparse file");
    let path = file.path().to_str().expect("a plain path");
    output(program, &[args, &[path]].concat())?;
    take(path)
}
