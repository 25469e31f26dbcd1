//! The frames of a control connection: a length of four bytes (little-endian), and a sealed message.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::limits;
use crate::wire::{Malformed, TAG_BYTES};

/// Reads the next frame's sealed message. `Ok(None)`: the other side closed the connection between two frames.
///
/// # Errors
/// In words: cut within a frame, or longer than one may be.
pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<Vec<u8>>, String> {
    let mut len = [0; 4];
    match stream.read(&mut len).await {
        Ok(0) => return Ok(None),
        Ok(n) => stream.read_exact(&mut len[n..]).await.map_err(cut)?,
        Err(e) => return Err(e.to_string()),
    };
    let len = u32::from_le_bytes(len) as usize;
    if len > limits::CONTROL_BYTES + TAG_BYTES {
        return Err(Malformed::TooLong.to_string());
    }
    let mut sealed = vec![0; len];
    stream.read_exact(&mut sealed).await.map_err(cut)?;
    Ok(Some(sealed))
}

fn cut(e: io::Error) -> String {
    if e.kind() == io::ErrorKind::UnexpectedEof {
        "the connection was cut within a message".into()
    } else {
        e.to_string()
    }
}
