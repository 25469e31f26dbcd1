//! The kind of file that an end of a stream is.

use std::fs::{File, Metadata};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// The kind of a file, as far as it matters for reading, and its size when it was opened.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Regular(u64),
    Block(u64),
    Fifo,
    Other,
}

impl Kind {
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let kind = metadata.file_type();
        Ok(if kind.is_file() {
            Self::Regular(metadata.len())
        } else if kind.is_block_device() {
            Self::Block(device_size(file)?)
        } else if kind.is_fifo() {
            Self::Fifo
        } else {
            Self::Other
        })
    }
}

pub(super) fn refuse_directory(path: &Path, metadata: &Metadata) -> io::Result<()> {
    if metadata.is_dir() {
        let text = format!("{} is a directory", path.display());
        return Err(io::Error::new(io::ErrorKind::IsADirectory, text));
    }
    Ok(())
}

/// A block device's metadata does not know its size, but its end can be found.
fn device_size(mut device: &File) -> io::Result<u64> {
    let size = device.seek(SeekFrom::End(0))?;
    device.rewind()?;
    Ok(size)
}
