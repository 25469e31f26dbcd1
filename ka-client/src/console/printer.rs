//! Standard error and output, each behind a thread of its own.
//!
//! The thread that moves the stream never writes to a terminal: one that is held (Ctrl-S, a pager, a dead SSH
//! connection) would hold up every node. What can be left out, a frame of the live view or one more progress, is left
//! out while the reader is slow; what cannot is kept. A reader that is gone is no error: the session goes on.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender, SyncSender};
use std::thread;
use std::time::Duration;

use ka_core::types::printable;
use rustix::termios::tcgetwinsize;

/// How long the end of the program may wait for a slow reader.
const LINGER: Duration = Duration::from_secs(5);

/// While so many pages wait to be written, those that can be left out are.
const CROWDED: usize = 64;

/// One of the two standard outputs.
#[derive(Clone, Debug)]
pub struct Printer {
    pages: Sender<Page>,
    waiting: Arc<AtomicUsize>,
    live: bool,
}

#[derive(Debug)]
enum Page {
    Line(String),
    Frame(Vec<String>),
    Flush(SyncSender<()>),
}

impl Printer {
    /// Standard error: for people.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn stderr() -> io::Result<Self> {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        Self::start(io::stderr(), io::stderr().is_terminal() && !dumb)
    }

    /// Standard output: for programs.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn stdout() -> io::Result<Self> {
        Self::start(io::stdout(), false)
    }

    fn start(mut out: impl Write + Send + 'static, live: bool) -> io::Result<Self> {
        let (pages, inbox) = mpsc::channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let taken = Arc::clone(&waiting);
        thread::Builder::new().name("printer".into()).spawn(move || {
            let mut screen = Screen::default();
            for page in inbox {
                let text = match page {
                    Page::Line(line) => screen.line(&line),
                    Page::Frame(frame) => screen.frame(frame, window_size()),
                    Page::Flush(done) => {
                        let _ = done.send(());
                        continue;
                    }
                };
                let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
                taken.fetch_sub(1, Ordering::Relaxed);
            }
        })?;
        Ok(Self { pages, waiting, live })
    }

    /// Whether there is a terminal on which a live view can be drawn.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// Prints a line, whatever it takes.
    pub fn line(&self, text: impl Into<String>) {
        self.send(Page::Line(text.into()));
    }

    /// Prints a line unless the reader is slow.
    pub fn passing(&self, text: impl Into<String>) {
        if !self.crowded() {
            self.line(text);
        }
    }

    /// Draws the live view anew, below the lines; or takes it away, if it has none.
    pub fn frame(&self, lines: Vec<String>) {
        if self.live && (lines.is_empty() || !self.crowded()) {
            self.send(Page::Frame(lines));
        }
    }

    /// Waits a while for everything to be written.
    pub fn finish(&self) {
        let (done, written) = mpsc::sync_channel(1);
        if self.pages.send(Page::Flush(done)).is_ok() {
            let _ = written.recv_timeout(LINGER);
        }
    }

    fn crowded(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) >= CROWDED
    }

    fn send(&self, page: Page) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // The thread ends only when the last sender does.
        let _ = self.pages.send(page);
    }
}

/// Columns and rows of the terminal.
fn window_size() -> (usize, usize) {
    match tcgetwinsize(io::stderr()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => (80, 24),
    }
}

/// What stands on the terminal: lines that stay, and below them the live view, which is drawn over.
#[derive(Debug, Default)]
struct Screen {
    view: Vec<String>,
}

impl Screen {
    fn line(&mut self, line: &str) -> String {
        let mut text = self.erase();
        text.push_str(&safe(line));
        text.push('\n');
        text.push_str(&self.draw());
        text
    }

    fn frame(&mut self, frame: Vec<String>, (columns, rows): (usize, usize)) -> String {
        let mut text = self.erase();
        // A line that wraps, or one more than the terminal has, could not be drawn over.
        self.view = frame.iter().take(rows - 1).map(|line| cut(&safe(line), columns - 1)).collect();
        text.push_str(&self.draw());
        text
    }

    fn draw(&self) -> String {
        self.view.iter().map(|line| format!("{line}\n")).collect()
    }

    fn erase(&self) -> String {
        match self.view.len() {
            0 => String::new(),
            n => format!("\x1b[{n}A\r\x1b[J"),
        }
    }
}

/// Whatever a peer or a command put into the text, the terminal is not at their disposal.
fn safe(line: &str) -> String {
    printable(line, usize::MAX)
}

/// As much of `line` as surely fits. Letters of East Asia and pictures are two columns wide.
fn cut(line: &str, columns: usize) -> String {
    let mut used = 0;
    let fits = |c: &char| {
        used += if *c < '\u{1100}' { 1 } else { 2 };
        used <= columns
    };
    line.chars().take_while(fits).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn the_view_is_drawn_over_and_lines_stay_above_it() {
        let mut screen = Screen::default();
        assert_eq!(screen.line("a"), "a\n");
        assert_eq!(screen.frame(vec!["x".into(), "y".into()], (80, 24)), "x\ny\n");
        assert_eq!(screen.line("b"), "\x1b[2A\r\x1b[Jb\nx\ny\n");
        assert_eq!(screen.frame(Vec::new(), (80, 24)), "\x1b[2A\r\x1b[J");
        assert_eq!(screen.line("c"), "c\n");
    }

    #[test]
    fn the_view_fits_and_no_text_commands_the_terminal() {
        let mut screen = Screen::default();
        let frame = vec!["x".repeat(99), "\x1b[2J".into(), "z".into()];
        assert_eq!(screen.frame(frame, (10, 3)), "xxxxxxxxx\n\\u{1b}[2J\n");
        assert_eq!(cut("山山山", 5), "山山");
    }

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(buf);
            Ok(buf.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn all_lines_come_and_in_order_but_passing_ones_may_be_left_out() {
        let out = Shared::default();
        let held = out.0.lock().unwrap();
        let printer = Printer::start(out.clone(), false).unwrap();
        (0..1000).for_each(|n| printer.line(n.to_string()));
        printer.passing("left out");
        drop(held);
        printer.finish();
        let expected: String = (0..1000).map(|n| format!("{n}\n")).collect();
        assert_eq!(String::from_utf8_lossy(&out.0.lock().unwrap()), expected);
        printer.passing("not left out");
        printer.finish();
        assert!(out.0.lock().unwrap().ends_with(b"not left out\n"));
    }

    #[test]
    fn a_reader_that_is_gone_is_no_error() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let printer = Printer::start(writer, false).unwrap();
        printer.line("to nobody");
        printer.finish();
    }
}
