//! A clone's streams: the plan, the files, raw partitions, boot records.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use ka_client::plan::{Plan, Purpose};
use ka_core::net::Stream;
use ka_core::stream::{CommandSource, FileSource, Reread, Source};

use super::gate::{Gated, Shared};

/// The exit status of a tar whose files changed while it read them.
const CHANGED: i32 = 1;

/// Where the bytes are.
pub(super) struct From {
    /// The plan.
    pub(super) plan: Plan,
    /// The boot records.
    pub(super) boot: Vec<u8>,
    /// The golden node's files, each file system in its place.
    pub(super) tree: PathBuf,
    /// The mount points below it, in the order in which they are packed.
    pub(super) mounts: Vec<PathBuf>,
    /// Directories that come empty.
    pub(super) excluded: Vec<PathBuf>,
    /// The raw partitions' devices.
    pub(super) raw: Vec<PathBuf>,
}

/// Makes the streams. `say` hears what tar says, and who is not ready when the files are sent.
pub(super) fn streams(
    from: From,
    gate: Shared,
    say: impl Fn(String) + Clone + Send + 'static,
) -> io::Result<Vec<Stream>> {
    let stream = |name: &str, purpose: Purpose, source: Box<dyn Source>| Stream {
        name: name.into(),
        metadata: purpose.to_metadata(),
        source,
    };
    let mut streams = vec![stream("plan", Purpose::Plan, Box::new(Memory::new(from.plan.to_bytes())))];
    let pack = pack(&from.tree, &from.mounts, &from.excluded);
    let files = Gated::new(
        gate,
        Box::new(move |late| {
            if !late.is_empty() {
                let names: Vec<String> = late.iter().map(ToString::to_string).collect();
                say(format!("not ready in time, and not waited for any longer: {}", names.join(", ")));
            }
            let mut pack = pack;
            let (said, theirs) = io::pipe()?;
            pack.stderr(theirs);
            let source = CommandSource::run(pack)?.accepting(CHANGED);
            follow(said, say);
            Ok(Box::new(source))
        }),
    );
    streams.push(stream("files", Purpose::Files, Box::new(files)));
    for (index, device) in from.raw.iter().enumerate() {
        let name = device.file_name().map_or_else(|| "raw".into(), |name| name.to_string_lossy());
        streams.push(stream(&name, Purpose::Raw(index), Box::new(FileSource::open(device)?)));
    }
    streams.push(stream("boot", Purpose::Boot, Box::new(Memory::new(from.boot))));
    Ok(streams)
}

/// The command that packs the files: everything that a tar can carry, each file system once.
fn pack(tree: &Path, mounts: &[PathBuf], excluded: &[PathBuf]) -> Command {
    let mut tar = Command::new("tar");
    tar.args(["--create", "--file=-", "--format=posix", "--xattrs", "--xattrs-include=*", "--acls"])
        .args(["--sparse", "--numeric-owner", "--one-file-system"])
        // When a file was last read is nobody's business, and would make every header twice as long.
        .arg("--pax-option=delete=atime,delete=ctime")
        .args(["--anchored", "--wildcards", "--wildcards-match-slash"])
        .arg("--directory")
        .arg(tree)
        .env("LC_ALL", "C.UTF-8");
    for path in excluded {
        // The directory itself comes, with its mode and owner.
        tar.arg(format!("--exclude=./{}/*", pattern(path)));
    }
    tar.args(mounts.iter().map(|path| Path::new(".").join(path.strip_prefix("/").unwrap_or(path))));
    tar
}

/// A path as tar's pattern for itself.
fn pattern(path: &Path) -> String {
    let mut pattern = String::new();
    for c in path.strip_prefix("/").unwrap_or(path).to_string_lossy().chars() {
        if "*?[]\\".contains(c) {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

/// Passes on what a program says. A live system's tar complains of many files.
fn follow(pipe: io::PipeReader, say: impl Fn(String) + Send + 'static) {
    use std::io::BufRead;
    const LINES: usize = 20;
    // Without a thread, what it says is lost, and how it ends still counts.
    let _ = std::thread::Builder::new().name("ka-log".into()).spawn(move || {
        let mut more = 0;
        for (at, line) in io::BufReader::new(pipe).split(b'\n').map_while(Result::ok).enumerate() {
            if at < LINES {
                say(String::from_utf8_lossy(&line).into_owned());
            } else {
                more += 1;
            }
        }
        if more > 0 {
            say(format!("tar: and {more} lines more"));
        }
    });
}

/// Bytes in memory, as often as they are wanted.
#[derive(Clone)]
struct Memory {
    bytes: bytes::Bytes,
    at: usize,
}

impl Memory {
    fn new(bytes: Vec<u8>) -> Self {
        Self { bytes: bytes.into(), at: 0 }
    }
}

impl Source for Memory {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = buf.len().min(self.bytes.len() - self.at);
        buf[..n].copy_from_slice(&self.bytes[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }

    fn size(&self) -> Option<u64> {
        Some(self.bytes.len() as u64)
    }

    fn again(&self) -> Option<Box<dyn Reread>> {
        Some(Box::new(self.clone()))
    }
}

impl Reread for Memory {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(self.bytes.len());
        let n = buf.len().min(self.bytes.len() - from);
        buf[..n].copy_from_slice(&self.bytes[from..from + n]);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_excluded_is_a_name_and_no_pattern() {
        assert_eq!(pattern(Path::new("/srv/a*b [x]\\")), r"srv/a\*b \[x\]\\");
    }

    #[test]
    fn an_excluded_directory_comes_empty_and_mounts_come_once() {
        let tree = tempfile::tempdir().unwrap();
        let at = |path: &str| tree.path().join(path);
        for path in ["srv/x*/deep", "srv/xy", "home/lab"] {
            std::fs::create_dir_all(at(path)).unwrap();
        }
        for path in ["srv/x*/.hidden", "srv/x*/deep/file", "srv/xy/kept", "home/lab/kept"] {
            std::fs::write(at(path), "").unwrap();
        }
        let mut tar = pack(tree.path(), &["/".into()], &["/srv/x*".into()]);
        let packed = tar.output().unwrap();
        assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
        let mut list = Command::new("tar")
            .arg("-t")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut list.stdin.take().unwrap(), &packed.stdout).unwrap();
        let names = String::from_utf8(list.wait_with_output().unwrap().stdout).unwrap();
        let mut names: Vec<&str> = names.lines().collect();
        names.sort_unstable();
        assert_eq!(
            names,
            ["./", "./home/", "./home/lab/", "./home/lab/kept", "./srv/", "./srv/x*/", "./srv/xy/", "./srv/xy/kept"]
        );
    }

    #[test]
    fn memory_is_read_and_read_again() {
        let mut memory = Memory::new(b"hello".to_vec());
        let mut buf = [0; 3];
        assert_eq!(memory.read(&mut buf).unwrap(), 3);
        assert_eq!(memory.read_at(&mut buf, 3).unwrap(), 2);
        assert_eq!((&buf[..2], memory.read(&mut buf).unwrap()), (&b"lo"[..], 2));
        assert_eq!((memory.read(&mut buf).unwrap(), memory.read_at(&mut buf, 9).unwrap()), (0, 0));
    }
}
