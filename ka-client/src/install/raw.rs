//! A raw partition as a sink: every byte of it in order, or its used blocks by partclone.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::process::Command;

use bytes::Bytes;
use ka_core::stream::{CommandSink, Sink, Stop};
use ka_desc::manifest::{Manifest, PARTCLONE, Raw, RawFormat};
use ka_desc::run::{Here, Runner};
use ka_desc::write::Node;
use rustix::fs::{FallocateFlags, fallocate};

use super::log::Log;

/// Runs of zeros are looked for in pieces of so many bytes.
const RUN_BYTES: usize = 64 << 10;

/// The program that knows this file system's used blocks.
fn program(fs: &str) -> String {
    format!("partclone.{fs}")
}

/// The file systems of the plan's raw partitions whose used blocks can be written here.
pub(super) fn tools(plan: &Manifest, runner: &dyn Runner) -> Vec<&'static str> {
    let wanted = |fs: &&str| plan.raw.iter().any(|raw| raw.fs.as_deref() == Some(fs));
    PARTCLONE.into_iter().filter(wanted).filter(|fs| runner.has(&program(fs))).collect()
}

/// Writes a raw partition in the form in which it comes.
pub(super) struct RawSink {
    node: Node,
    bytes: u64,
    fs: Option<String>,
    log: Log,
    writer: Writer,
}

enum Writer {
    /// The first byte, which says the form, is not here yet.
    None,
    Blocks(Blocks),
    Partclone(CommandSink),
}

impl RawSink {
    pub(super) fn new(node: Node, raw: &Raw, log: Log) -> Self {
        Self { node, bytes: raw.bytes, fs: raw.fs.clone(), log, writer: Writer::None }
    }

    fn begin(&self, form: u8) -> io::Result<Writer> {
        match (RawFormat::of_byte(form), &self.fs) {
            (Some(RawFormat::Bytes), _) => {
                let file = OpenOptions::new().write(true).open(self.node.path())?;
                Ok(Writer::Blocks(Blocks { file, at: 0, bytes: self.bytes }))
            }
            (Some(RawFormat::Partclone), Some(fs)) if !Here.has(&program(fs)) => {
                let why = format!(
                    "only its used blocks come, and there is no {} (Debian's package partclone)",
                    program(fs)
                );
                Err(io::Error::other(why))
            }
            (Some(RawFormat::Partclone), Some(fs)) => {
                let mut partclone = Command::new(program(fs));
                partclone.args([
                    "--restore",
                    "--quiet",
                    "--logfile",
                    "/dev/null",
                    "--source",
                    "-",
                    "--output",
                ]);
                let (said, theirs) = io::pipe()?;
                partclone.arg(self.node.path()).stderr(theirs);
                let sink = CommandSink::run(partclone)?;
                // How it ends says whether all is well.
                drop(self.log.follow("partclone", said));
                Ok(Writer::Partclone(sink))
            }
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "its blocks come in a form that is not known here",
            )),
        }
    }

    fn put(&mut self, blocks: &[Bytes], stop: &Stop) -> io::Result<()> {
        match &mut self.writer {
            Writer::Blocks(writer) => writer.write(blocks, stop),
            Writer::Partclone(sink) => sink.write(blocks, stop),
            Writer::None => {
                let Some(at) = blocks.iter().position(|block| !block.is_empty()) else { return Ok(()) };
                self.writer = self.begin(blocks[at][0])?;
                let mut rest = blocks[at..].to_vec();
                rest[0] = rest[0].slice(1..);
                self.put(&rest, stop)
            }
        }
    }
}

impl Sink for RawSink {
    fn write(&mut self, blocks: &[Bytes], stop: &Stop) -> io::Result<()> {
        self.put(blocks, stop)
            .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", self.node.path().display())))
    }

    fn finish(self: Box<Self>, stop: &Stop) -> io::Result<()> {
        let path = self.node.path().display();
        match self.writer {
            Writer::None => Err(io::Error::other("nothing came")),
            Writer::Blocks(writer) => writer.finish(),
            Writer::Partclone(sink) => Box::new(sink).finish(stop).and_then(|()| {
                let device = File::open(self.node.path());
                device.and_then(|device| device.sync_all())
            }),
        }
        .map_err(|e| io::Error::new(e.kind(), format!("{path}: {e}")))
    }

    /// Stops partclone, if it runs. What was written stays: a partition that is not named as complete is none.
    fn abort(self: Box<Self>) {
        if let Writer::Partclone(sink) = self.writer {
            Box::new(sink).abort();
        }
    }
}

/// All bytes of a partition, in order.
struct Blocks {
    file: File,
    at: u64,
    bytes: u64,
}

impl Blocks {
    fn write(&mut self, blocks: &[Bytes], stop: &Stop) -> io::Result<()> {
        for piece in blocks.iter().flat_map(|block| block.chunks(RUN_BYTES)) {
            if stop.is_set() {
                return Err(io::Error::new(io::ErrorKind::Interrupted, "interrupted"));
            }
            self.put(piece).map_err(|e| io::Error::new(e.kind(), format!("at byte {}: {e}", self.at)))?;
        }
        Ok(())
    }

    fn put(&mut self, piece: &[u8]) -> io::Result<()> {
        let (at, len) = (self.at, piece.len() as u64);
        if at + len > self.bytes {
            let why = format!("more than the {} bytes that were announced come", self.bytes);
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        // Zeros take the place of what was there; where the disk can do that by itself, nothing is written.
        let zeros = piece.iter().all(|byte| *byte == 0);
        if !zeros
            || fallocate(&self.file, FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE, at, len).is_err()
        {
            self.file.write_all_at(piece, at)?;
        }
        self.at += len;
        Ok(())
    }

    fn finish(self) -> io::Result<()> {
        if self.at != self.bytes {
            let why = format!("{} bytes came of the {} that were announced", self.at, self.bytes);
            return Err(io::Error::other(why));
        }
        self.file.sync_all()
    }
}
