//! The lines that a command says on its standard error.

use std::io::{BufRead, BufReader, PipeReader, Read};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

/// The longest line that is passed on whole. A longer one comes in several.
const LINE_BYTES: u64 = 1000;

/// The first line of a command, and the number of its lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Its first line.
    pub first: Option<String>,
    /// The number of its lines.
    pub lines: usize,
}

/// Passes on each line that comes through this pipe, with its number from 1 and without its end, on a thread of its own.
/// A summary comes back when the pipe's other end is closed; nothing does, if the system gives no thread.
pub fn follow(pipe: PipeReader, mut line: impl FnMut(usize, &str) + Send + 'static) -> Receiver<Said> {
    let (tx, all) = channel();
    let _ = thread::Builder::new().name("ka-log".into()).spawn(move || {
        let mut said = Said::default();
        let mut reader = BufReader::new(pipe);
        loop {
            let mut bytes = Vec::new();
            match reader.by_ref().take(LINE_BYTES).read_until(b'\n', &mut bytes) {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
            let text = String::from_utf8_lossy(&bytes);
            let text = text.trim_end();
            said.lines += 1;
            said.first.get_or_insert_with(|| text.to_owned());
            line(said.lines, text);
        }
        let _ = tx.send(said);
    });
    all
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};

    use super::*;

    #[test]
    fn each_line_is_passed_on_and_all_of_them_are_counted() {
        let (pipe, mut command) = io::pipe().unwrap();
        let (tx, lines) = channel();
        let all = follow(pipe, move |number, text| tx.send((number, text.to_owned())).unwrap());
        let long = "x".repeat(LINE_BYTES as usize);
        command.write_all(&[b"one\r\n\xff\n", long.as_bytes(), b"y"].concat()).unwrap();
        drop(command);
        let said = all.recv().unwrap();
        assert_eq!(said, Said { first: Some("one".into()), lines: 4 });
        let lines: Vec<_> = lines.iter().collect();
        assert_eq!(lines[2..], [(3, long), (4, "y".into())]);
        let (silent, _) = io::pipe().unwrap();
        assert_eq!(follow(silent, |_, _| ()).recv().unwrap(), Said::default());
    }
}
