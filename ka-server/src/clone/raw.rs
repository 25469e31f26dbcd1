//! A raw partition as a source: its used blocks by partclone if every node can write those, else all its bytes.

use std::fs::File;
use std::io;
use std::mem;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ka_core::stream::{CommandSource, ReadAt, Source, follow};
use ka_desc::error::Error;
use ka_desc::manifest::{Raw, RawFormat};
use ka_desc::phrases;
use ka_desc::run::{Here, Runner};
use ka_desc::used::ntfs;
use rustix::fs::{Advice, fadvise};

use crate::golden::inspect::image::attach;

/// A part of a disk or an image.
#[derive(Clone, Debug)]
pub(super) struct Range {
    /// The disk or image.
    pub(super) path: PathBuf,
    /// The offset of its first byte.
    pub(super) at: u64,
    /// The length of the part, in bytes.
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
    /// Partclone runs and has given nothing yet; it may end at once.
    Beginning(Packed, Arc<File>),
    /// The bytes that come first, and the source of the rest.
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
    /// The last line that partclone printed, other than that it failed.
    words: Arc<Mutex<String>>,
    _device: File,
}

impl RawSource {
    pub(super) fn new(range: Range, raw: Raw, lacks: Lacks, say: Box<dyn Fn(String) + Send>) -> Self {
        Self { range, raw, lacks, say, state: State::Waiting }
    }

    /// Only its used blocks; or why not.
    fn pack(&self, fs: &str, disk: &File) -> Result<Packed, Error> {
        let program = format!("partclone.{fs}");
        if !Here.has(&program) {
            return Err(format!("this machine has no {program} (Debian's package partclone)").into());
        }
        let lacking = (self.lacks)(fs);
        if !lacking.is_empty() {
            return Err(format!("{} did not say to have {program}", lacking.join(", ")).into());
        }
        if fs == "ntfs" {
            let at = self.range.at;
            let clean = ntfs::is_clean(|offset, buf| disk.read_exact_at(buf, at.saturating_add(offset)));
            if !clean.map_err(|e| e.to_string())? {
                return Err("its Windows was not shut down, but sleeps or was switched off".into());
            }
        }
        let Range { path, at, bytes, sector_bytes } = &self.range;
        let (node, device) = attach(&mut Here, path, *at, *bytes, *sector_bytes)?;
        let mut partclone = Command::new(program);
        let (said, theirs) = io::pipe().map_err(|e| e.to_string())?;
        partclone
            .args(["--clone", "--quiet", "--logfile", "/dev/null", "--output", "-", "--source", &node])
            .stderr(theirs);
        let partclone = CommandSource::run(partclone).map_err(|e| e.to_string())?;
        let words = Arc::new(Mutex::new(String::new()));
        let last = Arc::clone(&words);
        // The last thing that it says, but for that it fails.
        drop(follow(said, move |_, text| {
            if !text.is_empty() && !phrases::is_partclones_end(text) {
                text.trim().clone_into(&mut last.lock().unwrap_or_else(PoisonError::into_inner));
            }
        }));
        Ok(Packed { partclone, words, _device: device })
    }

    fn all(&self, disk: Arc<File>, why: Option<&str>) -> State {
        let why = why.map_or_else(String::new, |why| format!(": {why}"));
        (self.say)(format!("partition {} is sent with all its bytes{why}", self.raw.part));
        State::Running(
            vec![RawFormat::Bytes.byte()],
            Rest::Blocks(Blocks { disk, range: self.range.clone(), done: 0 }),
        )
    }

    fn begin(&self) -> io::Result<State> {
        let disk = Arc::new(open(&self.range)?);
        // A partition's own node has a memory of its own: what is in that must be on the disk, and be read from there.
        rustix::fs::sync();
        fadvise(&disk, 0, None, Advice::DontNeed)?;
        Ok(match self.raw.fs.as_deref().map(|fs| self.pack(fs, &disk)) {
            Some(Ok(packed)) => State::Beginning(packed, disk),
            Some(Err(why)) => self.all(disk, Some(&why.to_string())),
            None => self.all(disk, None),
        })
    }
}

/// Whether a partition can be read from its first sector to its last.
///
/// # Errors
/// The system's, with the path.
pub(super) fn check(range: &Range) -> io::Result<()> {
    let (disk, mut sector) = (open(range)?, vec![0; range.sector_bytes as usize]);
    let last = range.bytes.saturating_sub(range.sector_bytes.into());
    [0, last]
        .into_iter()
        .try_for_each(|at| disk.read_exact_at(&mut sector, range.at + at))
        .map_err(|e| io::Error::new(e.kind(), format!("{} at byte {}: {e}", range.path.display(), range.at)))
}

fn open(range: &Range) -> io::Result<File> {
    File::open(&range.path).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", range.path.display())))
}

impl Source for RawSource {
    fn ready(&mut self, timeout: Duration) -> io::Result<bool> {
        if let State::Waiting = self.state {
            self.state = self.begin()?;
        }
        if let State::Beginning(packed, _) | State::Running(_, Rest::Packed(packed)) = &mut self.state
            && !packed.partclone.ready(timeout)?
        {
            return Ok(false);
        }
        if let State::Beginning(..) = self.state
            && let State::Beginning(mut packed, disk) = mem::replace(&mut self.state, State::Failed)
        {
            let mut first = vec![0; 64 << 10];
            first[0] = RawFormat::Partclone.byte();
            let n = packed.partclone.read(&mut first[1..])?;
            first.truncate(1 + n);
            self.state = if n > 0 {
                (self.say)(format!("partition {} is sent with its used blocks, by partclone", self.raw.part));
                State::Running(first, Rest::Packed(packed))
            } else {
                let Packed { partclone, words, .. } = packed;
                let why = Box::new(partclone).finish().err();
                let why = why.map_or_else(|| "partclone gave nothing".into(), |e| e.to_string());
                let words = words.lock().unwrap_or_else(PoisonError::into_inner);
                self.all(disk, Some(&format!("{why}: {words}")))
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
        self.raw.fs.is_none().then_some(self.range.bytes + 1)
    }

    fn again(&self) -> Option<Box<dyn ReadAt>> {
        let disk = open(&self.range).ok().filter(|_| self.raw.fs.is_none())?;
        Some(Box::new(Blocks { disk: Arc::new(disk), range: self.range.clone(), done: 0 }))
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        match self.state {
            State::Running(_, Rest::Packed(packed)) => Box::new(packed.partclone).finish(),
            State::Running(_, Rest::Blocks(blocks)) => blocks.finish(),
            _ => Err(io::Error::other("the partition was not read")),
        }
    }

    fn abort(self: Box<Self>) {
        if let State::Beginning(packed, _) | State::Running(_, Rest::Packed(packed)) = self.state {
            Box::new(packed.partclone).abort();
        }
    }
}

/// All bytes of a part of a disk.
struct Blocks {
    disk: Arc<File>,
    range: Range,
    done: u64,
}

impl Blocks {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.read_from(buf, self.done)?;
        self.done += n as u64;
        Ok(n)
    }

    fn read_from(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = usize::try_from(self.range.bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let n = buf.len().min(left);
        self.disk.read_at(&mut buf[..n], self.range.at + offset)
    }

    fn finish(self) -> io::Result<()> {
        let Self { range, done, .. } = self;
        if done == range.bytes {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "{} ended after {done} bytes of the {} of a partition",
            range.path.display(),
            range.bytes
        )))
    }
}

/// As the stream has them, behind the byte that says the form.
impl ReadAt for Blocks {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        match (offset, buf) {
            (_, []) => Ok(0),
            (0, [form, ..]) => {
                *form = RawFormat::Bytes.byte();
                Ok(1)
            }
            (offset, buf) => self.read_from(buf, offset - 1),
        }
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
        let blocks =
            |range: &Range| Blocks { disk: Arc::new(open(range).unwrap()), range: range.clone(), done: 0 };
        let mut all = blocks(&range);
        let mut buf = [0; 16];
        assert_eq!((all.read(&mut buf).unwrap(), &buf[..4]), (4, &b"3456"[..]));
        assert_eq!(all.read(&mut buf).unwrap(), 0);
        assert_eq!((all.read_at(&mut buf, 4).unwrap(), buf[0]), (1, b'6'));
        assert_eq!((all.read_at(&mut buf, 0).unwrap(), buf[0]), (1, RawFormat::Bytes.byte()));
        assert_eq!((all.read_at(&mut buf, 5).unwrap(), all.read_at(&mut buf, 9).unwrap()), (0, 0));
        assert!(all.finish().is_ok());
        let short = blocks(&Range { bytes: 40, ..range });
        assert!(short.finish().unwrap_err().to_string().contains("ended after 0 bytes"));
    }
}
