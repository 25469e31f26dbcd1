//! A raw partition as a source: its used blocks by partclone if every node can write those, else all its bytes.

use std::fs::File;
use std::io;
use std::mem;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use ka_client::plan::{Form, Raw};
use ka_core::stream::{CommandSource, Source};
use ka_desc::run::{Here, Runner};

use crate::golden::image::attach;

/// A part of a disk or an image.
#[derive(Clone, Debug)]
pub(super) struct Range {
    /// The disk or image.
    pub(super) path: PathBuf,
    /// Where it begins, in bytes.
    pub(super) at: u64,
    /// How long it is.
    pub(super) bytes: u64,
    /// The bytes of a sector.
    pub(super) sector_bytes: u32,
}

/// Tells which nodes cannot write the used blocks of a file system.
pub(super) type Lacks = Box<dyn Fn(&str) -> Vec<String> + Send>;

/// A raw partition.
pub(super) struct RawSource {
    range: Range,
    raw: Raw,
    lacks: Lacks,
    say: Box<dyn Fn(String) + Send>,
    state: State,
}

enum State {
    /// Nobody has asked for it yet.
    Waiting,
    /// It begins, unless it ends at once.
    Beginning(Packed),
    /// What comes first, and the rest.
    Running(Vec<u8>, Rest),
    Failed,
}

enum Rest {
    Packed(Packed),
    Blocks(Blocks),
}

/// A partclone that reads a loop device, which goes with it.
struct Packed {
    partclone: CommandSource,
    _device: File,
}

impl RawSource {
    pub(super) fn new(range: Range, raw: Raw, lacks: Lacks, say: Box<dyn Fn(String) + Send>) -> Self {
        Self { range, raw, lacks, say, state: State::Waiting }
    }

    /// Only its used blocks; or why not.
    fn pack(&self, fs: &str) -> Result<Packed, String> {
        let program = format!("partclone.{fs}");
        if !Here.has(&program) {
            return Err(format!("this machine has no {program} (Debian's package partclone)"));
        }
        let lacking = (self.lacks)(fs);
        if !lacking.is_empty() {
            return Err(format!("{} cannot take less: there is no {program}", lacking.join(", ")));
        }
        let Range { path, at, bytes, sector_bytes } = &self.range;
        let (node, device) = attach(&mut Here, path, *at, *bytes, *sector_bytes)?;
        let mut partclone = Command::new(program);
        partclone
            .args(["--clone", "--quiet", "--logfile", "/dev/null", "--output", "-", "--source", &node])
            .stderr(Stdio::null());
        let partclone = CommandSource::run(partclone).map_err(|e| e.to_string())?;
        Ok(Packed { partclone, _device: device })
    }

    fn all(&self, why: Option<&str>) -> io::Result<State> {
        let why = why.map_or_else(String::new, |why| format!(": {why}"));
        (self.say)(format!("partition {} is sent with all its bytes{why}", self.raw.part));
        Ok(State::Running(vec![Form::Bytes.byte()], Rest::Blocks(Blocks::open(&self.range)?)))
    }
}

impl Source for RawSource {
    fn ready(&mut self, timeout: Duration) -> io::Result<bool> {
        if let State::Waiting = self.state {
            self.state = match self.raw.fs.as_deref().map(|fs| self.pack(fs)) {
                Some(Ok(packed)) => State::Beginning(packed),
                Some(Err(why)) => self.all(Some(&why))?,
                None => self.all(None)?,
            };
        }
        if let State::Beginning(packed) | State::Running(_, Rest::Packed(packed)) = &mut self.state
            && !packed.partclone.ready(timeout)?
        {
            return Ok(false);
        }
        if let State::Beginning(_) = self.state
            && let State::Beginning(mut packed) = mem::replace(&mut self.state, State::Failed)
        {
            let mut ahead = vec![0; 64 << 10];
            ahead[0] = Form::Partclone.byte();
            let n = packed.partclone.read(&mut ahead[1..])?;
            ahead.truncate(1 + n);
            self.state = if n > 0 {
                (self.say)(format!("partition {} is sent with its used blocks, by partclone", self.raw.part));
                State::Running(ahead, Rest::Packed(packed))
            } else {
                // One that was not shut down, or sleeps.
                let why = Box::new(packed.partclone).finish().err();
                self.all(Some(&why.unwrap_or_else(|| "partclone has nothing to say".into())))?
            };
        }
        Ok(true)
    }

    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match &mut self.state {
            State::Running(first, _) if !first.is_empty() => {
                let n = buf.len().min(first.len());
                buf[..n].copy_from_slice(&first[..n]);
                first.drain(..n);
                Ok(n)
            }
            State::Running(_, Rest::Packed(packed)) => packed.partclone.read(buf),
            State::Running(_, Rest::Blocks(blocks)) => blocks.read(buf),
            _ => Err(io::Error::other("the partition was not opened")),
        }
    }

    fn size(&self) -> Option<u64> {
        Some(self.range.bytes + 1)
    }

    fn finish(self: Box<Self>) -> Result<(), String> {
        match self.state {
            State::Running(_, Rest::Packed(packed)) => Box::new(packed.partclone).finish(),
            State::Running(_, Rest::Blocks(blocks)) => blocks.finish(),
            _ => Err("the partition was not read".into()),
        }
    }

    fn abort(self: Box<Self>) {
        if let State::Beginning(packed) | State::Running(_, Rest::Packed(packed)) = self.state {
            Box::new(packed.partclone).abort();
        }
    }
}

/// All bytes of a part of a disk.
struct Blocks {
    file: File,
    range: Range,
    done: u64,
}

impl Blocks {
    fn open(range: &Range) -> io::Result<Self> {
        // A partition's own node has a memory of its own; what is in that must be on the disk.
        rustix::fs::sync();
        let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", range.path.display()));
        Ok(Self { file: File::open(&range.path).map_err(named)?, range: range.clone(), done: 0 })
    }

    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.range.bytes - self.done).unwrap_or(usize::MAX);
        let n = buf.len().min(left);
        let n = self.file.read_at(&mut buf[..n], self.range.at + self.done)?;
        self.done += n as u64;
        Ok(n)
    }

    fn finish(self) -> Result<(), String> {
        let Self { range, done, .. } = self;
        if done == range.bytes {
            return Ok(());
        }
        Err(format!(
            "{} ended after {done} bytes of the {} of a partition",
            range.path.display(),
            range.bytes
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_read_from_its_disk() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"0123456789").unwrap();
        let range = Range { path: file.path().into(), at: 3, bytes: 4, sector_bytes: 512 };
        let mut blocks = Blocks::open(&range).unwrap();
        let mut buf = [0; 16];
        assert_eq!((blocks.read(&mut buf).unwrap(), &buf[..4]), (4, &b"3456"[..]));
        assert_eq!(blocks.read(&mut buf).unwrap(), 0);
        assert!(blocks.finish().is_ok());
        let short = Blocks::open(&Range { bytes: 40, ..range }).unwrap();
        assert!(short.finish().unwrap_err().contains("ended after 0 bytes"));
    }
}
