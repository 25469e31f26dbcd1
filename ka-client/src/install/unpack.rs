//! A tar that unpacks, as a sink. It must end well, and must have had nothing to complain of.
//!
//! GNU tar only warns when an attribute or an access list cannot be set, and ends with status 0.

use std::io;
use std::process::Command;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use bytes::Bytes;
use ka_core::stream::{CommandSink, Said, Sink, Stop};

/// After its end, what it said is there within so long.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A tar at work.
pub(super) struct Unpack {
    tar: CommandSink,
    /// Its complaints.
    said: Receiver<Said>,
}

impl Unpack {
    pub(super) fn start(tar: Command, said: Receiver<Said>) -> io::Result<Self> {
        Ok(Self { tar: CommandSink::run(tar)?, said })
    }
}

impl Sink for Unpack {
    fn write(&mut self, blocks: &[Bytes], stop: &Stop) -> io::Result<()> {
        self.tar.write(blocks, stop)
    }

    fn finish(self: Box<Self>, stop: &Stop) -> io::Result<()> {
        let Self { tar, said } = *self;
        Box::new(tar).finish(stop)?;
        let why = match said.recv_timeout(LAST_WORDS) {
            Ok(Said { first: None, .. }) => return Ok(()),
            Ok(Said { first: Some(first), lines: 1 }) => format!("tar could not unpack all: {first}"),
            Ok(Said { first: Some(first), lines }) => {
                format!("tar could not unpack all: {first} (and {} lines more)", lines - 1)
            }
            Err(_) => "what tar said is not known".into(),
        };
        Err(io::Error::other(why))
    }

    fn abort(self: Box<Self>) {
        Box::new(self.tar).abort();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_tar_that_complains_has_not_unpacked_all_whatever_its_status() {
        let finished = |program: &str, said: Option<Said>| {
            let (tx, rx) = channel();
            said.into_iter().for_each(|said| tx.send(said).unwrap());
            drop(tx);
            Box::new(Unpack::start(Command::new(program), rx).unwrap())
                .finish(&Stop::new())
                .map_err(|e| e.to_string())
        };
        assert_eq!(finished("true", Some(Said::default())), Ok(()));
        let complaints = Said { first: Some("no room for user.x".into()), lines: 3 };
        let said = finished("true", Some(complaints)).unwrap_err();
        assert_eq!(said, "tar could not unpack all: no room for user.x (and 2 lines more)");
        assert!(finished("false", Some(Said::default())).unwrap_err().contains("status 1"));
        assert!(finished("true", None).is_err());
    }
}
