//! Standard error and output, each behind a thread of its own.
//!
//! The thread that moves the stream never writes to a terminal: one that is held (Ctrl-S, a pager, a dead SSH
//! connection) would hold up every node. What can be left out, a frame of the live view or one more progress, is left
//! out while the reader is slow; what cannot is kept, up to 16 MiB. A reader that is gone is no error: the session goes on.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender, SyncSender};
use std::thread;
use std::time::Duration;

use rustix::termios::tcgetwinsize;

use crate::types::printable;

/// The longest time that the end of the program waits for a slow reader.
const LINGER: Duration = Duration::from_secs(5);

/// While so many pages wait to be written, those that can be left out are.
const CROWDED: usize = 64;

/// While so many bytes wait to be written, further lines are left out, and counted: peers may bring about any number of
/// lines, and a reader may stand still for ever.
const WAITING_BYTES: usize = 16 << 20;

/// One of the two standard outputs.
#[derive(Clone, Debug)]
pub struct Printer {
    pages: Sender<Page>,
    waiting: Arc<Waiting>,
    live: bool,
}

/// What the reader has not taken yet.
#[derive(Debug, Default)]
struct Waiting {
    pages: AtomicUsize,
    bytes: AtomicUsize,
    left_out: AtomicU64,
    /// What comes now are the last words.
    ends: AtomicBool,
}

#[derive(Debug)]
enum Page {
    Line(Styled),
    Frame(Vec<Styled>),
    Flush(SyncSender<()>),
}

impl Page {
    /// About how much memory it takes.
    fn bytes(&self) -> usize {
        let line = |line: &Styled| line.text.len() + size_of::<Self>();
        match self {
            Self::Line(text) => line(text),
            Self::Frame(lines) => lines.iter().map(line).sum(),
            Self::Flush(_) => 0,
        }
    }
}

/// A line, and how it is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Styled {
    /// The line.
    pub text: String,
    /// Its colour, where there are any.
    pub tone: Tone,
}

/// The tone in which a line is to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words say all")]
pub enum Tone {
    #[default]
    Plain,
    Good,
    Doubtful,
    Bad,
}

impl Tone {
    /// A line to be read so.
    pub fn of(self, text: impl Into<String>) -> Styled {
        Styled { text: text.into(), tone: self }
    }

    /// The sequence that sets the colour; every terminal that has colours has these.
    fn colour(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Good => Some("\x1b[32m"),
            Self::Doubtful => Some("\x1b[33m"),
            Self::Bad => Some("\x1b[31m"),
        }
    }
}

impl<T: Into<String>> From<T> for Styled {
    fn from(text: T) -> Self {
        Tone::Plain.of(text)
    }
}

/// The terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words say all")]
pub struct Size {
    pub columns: usize,
    pub rows: usize,
}

impl Size {
    /// Lines that a live view may have: with one more it could not be drawn over.
    #[must_use]
    pub fn lines(self) -> usize {
        self.rows.saturating_sub(1)
    }
}

impl Printer {
    /// Standard error: for people.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn stderr() -> io::Result<Self> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let live = io::stderr().is_terminal() && set("TERM").is_some_and(|term| term != "dumb");
        Self::start(io::stderr(), live, live && set("NO_COLOR").is_none())
    }

    /// Standard output: for programs.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn stdout() -> io::Result<Self> {
        Self::start(io::stdout(), false, false)
    }

    fn start(mut out: impl Write + Send + 'static, live: bool, colours: bool) -> io::Result<Self> {
        let (pages, inbox) = mpsc::channel::<Page>();
        let waiting = Arc::new(Waiting::default());
        let taken = Arc::clone(&waiting);
        thread::Builder::new().name("printer".into()).spawn(move || {
            let mut screen = Screen { colours, view: Vec::new(), drawn: Vec::new() };
            for page in inbox {
                let bytes = page.bytes();
                let text = match page {
                    Page::Line(line) => screen.line(&line, window_size()),
                    Page::Frame(frame) => screen.frame(frame, window_size()),
                    Page::Flush(done) => {
                        let _ = done.send(());
                        continue;
                    }
                };
                let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
                taken.pages.fetch_sub(1, Ordering::Relaxed);
                taken.bytes.fetch_sub(bytes, Ordering::Relaxed);
            }
        })?;
        Ok(Self { pages, waiting, live })
    }

    /// Whether there is a terminal on which a live view can be drawn.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// Prints a line. Only one for which too many others wait is left out.
    pub fn line(&self, line: impl Into<Styled>) {
        if self.has_room() || self.waiting.ends.load(Ordering::Relaxed) {
            self.send(Page::Line(line.into()));
        } else {
            self.waiting.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The number of lines that were left out since this was asked last. 0 as long as there is no room to tell it.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        if self.has_room() { self.waiting.left_out.swap(0, Ordering::Relaxed) } else { 0 }
    }

    /// From now on no line is left out: these are the last words.
    pub fn ends(&self) {
        self.waiting.ends.store(true, Ordering::Relaxed);
    }

    fn has_room(&self) -> bool {
        self.waiting.bytes.load(Ordering::Relaxed) < WAITING_BYTES
    }

    /// Prints a line unless the reader is slow.
    pub fn passing(&self, line: impl Into<Styled>) {
        if !self.crowded() {
            self.line(line);
        }
    }

    /// Draws the live view anew, below the lines; or takes it away, if it has none.
    pub fn frame(&self, lines: Vec<Styled>) {
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
        self.waiting.pages.load(Ordering::Relaxed) >= CROWDED
    }

    fn send(&self, page: Page) {
        self.waiting.pages.fetch_add(1, Ordering::Relaxed);
        self.waiting.bytes.fetch_add(page.bytes(), Ordering::Relaxed);
        // The thread ends only when the last sender does.
        let _ = self.pages.send(page);
    }
}

/// The terminal's present size.
#[must_use]
pub fn window_size() -> Size {
    match tcgetwinsize(io::stderr()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
            Size { columns: size.ws_col.into(), rows: size.ws_row.into() }
        }
        _ => Size { columns: 80, rows: 24 },
    }
}

/// The contents of the terminal: lines that stay, and below them the live view, which is drawn over.
#[derive(Debug)]
struct Screen {
    colours: bool,
    /// The live view as it was given.
    view: Vec<Styled>,
    /// The columns of each line of it that stands there now.
    drawn: Vec<usize>,
}

impl Screen {
    fn line(&mut self, line: &Styled, size: Size) -> String {
        let erased = self.erase(size);
        let line = self.coloured(&safe(&line.text), line.tone);
        format!("{erased}{line}\n{}", self.draw(size))
    }

    fn frame(&mut self, frame: Vec<Styled>, size: Size) -> String {
        self.view = frame;
        let erased = self.erase(size);
        erased + &self.draw(size)
    }

    /// A line that wraps, or one more than the terminal has, could not be drawn over. The last line is the summary, so it
    /// is the last to go.
    fn draw(&mut self, size: Size) -> String {
        let left_out = self.view.len().saturating_sub(size.lines());
        let most = self.view.len() - left_out;
        let shown =
            self.view.iter().take(most.saturating_sub(1)).chain(self.view.last().filter(|_| most > 0));
        let lines: Vec<_> = shown.map(|l| (fitted(&safe(&l.text), size.columns - 1), l.tone)).collect();
        self.drawn = lines.iter().map(|(text, _)| width(text)).collect();
        lines.iter().map(|(text, tone)| self.coloured(text, *tone) + "\n").collect()
    }

    /// Lines that are longer than a terminal which became narrower take more rows of it than they did; what went beyond
    /// its top cannot be called back. Each row is erased by itself: a terminal that is told to erase all from its top on
    /// (as tmux is) keeps what was there among the lines that stay.
    fn erase(&self, size: Size) -> String {
        let rows = |columns: &usize| columns.div_ceil(size.columns).max(1);
        match self.drawn.iter().map(rows).sum::<usize>().min(size.lines()) {
            0 => String::new(),
            n => format!("\x1b[{n}A\r{}\x1b[{n}A", "\x1b[2K\n".repeat(n)),
        }
    }

    fn coloured(&self, text: &str, tone: Tone) -> String {
        match tone.colour().filter(|_| self.colours) {
            Some(colour) => format!("{colour}{text}\x1b[0m"),
            None => text.to_owned(),
        }
    }
}

/// Whatever a peer or a command put into the text, the terminal is not at their disposal.
fn safe(line: &str) -> String {
    printable(line, usize::MAX)
}

/// The most columns that `text` takes. Letters of East Asia and pictures are two wide; what is combined with the letter
/// before it counts, too.
#[must_use]
pub fn width(text: &str) -> usize {
    text.chars().map(columns).sum()
}

fn columns(c: char) -> usize {
    if c < '\u{1100}' { 1 } else { 2 }
}

/// As much of `text` as surely fits into so many columns.
#[must_use]
pub fn fitted(text: &str, most: usize) -> String {
    let mut used = 0;
    let fits = |c: &char| {
        used += columns(*c);
        used <= most
    };
    text.chars().take_while(fits).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use proptest::prelude::*;

    use super::*;

    const USUAL: Size = Size { columns: 80, rows: 24 };

    fn screen(colours: bool) -> Screen {
        Screen { colours, view: Vec::new(), drawn: Vec::new() }
    }

    fn frame(lines: &[&str]) -> Vec<Styled> {
        lines.iter().map(|line| (*line).into()).collect()
    }

    #[test]
    fn the_view_is_drawn_over_and_lines_stay_above_it() {
        let mut screen = screen(false);
        assert_eq!(screen.line(&"a".into(), USUAL), "a\n");
        assert_eq!(screen.frame(frame(&["x", "y"]), USUAL), "x\ny\n");
        let erased = "\x1b[2A\r\x1b[2K\n\x1b[2K\n\x1b[2A";
        assert_eq!(screen.line(&"b".into(), USUAL), format!("{erased}b\nx\ny\n"));
        assert_eq!(screen.frame(Vec::new(), USUAL), erased);
        assert_eq!(screen.line(&"c".into(), USUAL), "c\n");
    }

    #[test]
    fn the_view_fits_its_summary_is_last_and_no_text_commands_the_terminal() {
        let mut screen = screen(false);
        let lines = frame(&[&"x".repeat(99), "\x1b[2J", "z", "summary"]);
        let size = |columns, rows| Size { columns, rows };
        assert_eq!(screen.frame(lines.clone(), size(10, 4)), "xxxxxxxxx\n\\u{1b}[2J\nsummary\n");
        assert_eq!(screen.frame(lines.clone(), size(9, 2)), "\x1b[1A\r\x1b[2K\n\x1b[1Asummary\n");
        assert_eq!(screen.frame(lines.clone(), size(9, 1)), "");
        assert_eq!(screen.frame(lines, size(1, 2)), "\n");
        assert_eq!((fitted("山山山", 5), width("山e\u{301}")), ("山山".into(), 4));
    }

    #[test]
    fn colours_only_where_there_are_any() {
        let lines = || vec![Tone::Bad.of("node 1  FAILED"), Tone::Plain.of("50 %")];
        let drawn = screen(true).frame(lines(), USUAL);
        assert_eq!(drawn, "\x1b[31mnode 1  FAILED\x1b[0m\n50 %\n");
        assert_eq!(screen(false).frame(lines(), USUAL), "node 1  FAILED\n50 %\n");
        assert_eq!(screen(true).line(&Tone::Good.of("OK"), USUAL), "\x1b[32mOK\x1b[0m\n");
    }

    /// A terminal as tmux, VTE and others are: lines that are too long wrap, and wrap anew when it is resized.
    #[derive(Default)]
    struct Terminal {
        /// The lines that were written, and the one that the cursor is at the beginning of.
        lines: Vec<String>,
    }

    impl Terminal {
        /// Takes what a screen writes. Whatever is above the top of the window stays.
        fn write(&mut self, text: &str, size: Size) {
            let text = match text.strip_prefix("\x1b[").and_then(|text| text.split_once("A\r\x1b[2K")) {
                Some((up, rest)) => {
                    self.up(up.parse().unwrap(), size);
                    // As many rows are erased as it went up, and it goes up again.
                    let up = format!("\x1b[{up}A");
                    rest.split_once(&up).unwrap().1
                }
                None => text,
            };
            self.lines.extend(text.lines().map(str::to_owned));
        }

        fn up(&mut self, rows: usize, size: Size) {
            let mut left = rows.min(size.rows - 1);
            while left > 0 {
                let last = self.lines.pop().unwrap();
                let takes = last.len().div_ceil(size.columns).max(1);
                assert!(takes <= left, "a line is erased from its middle on: {last}");
                left -= takes;
            }
        }
    }

    /// Checks a terminal after these frames, with a line after each, as the terminal gets these sizes in turn.
    fn shown(sizes: &[Size], frames: &[(usize, usize)]) -> Result<(), TestCaseError> {
        let (mut screen, mut terminal) = (screen(false), Terminal::default());
        for (step, (count, length)) in frames.iter().enumerate() {
            let size = sizes[step % sizes.len()];
            terminal.write(&screen.frame(vec!["f".repeat(*length).into(); *count], size), size);
            prop_assert_eq!(screen.drawn.len(), (*count).min(size.rows - 1));
            prop_assert!(screen.drawn.iter().all(|width| *width < size.columns));
            terminal.write(&screen.line(&format!("s{step}").into(), size), size);
            let stay = terminal.lines.iter().filter(|line| line.starts_with('s')).count();
            let all = (stay, terminal.lines.len());
            prop_assert_eq!(all, (step + 1, step + 1 + screen.drawn.len()), "{:?}", terminal.lines);
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn no_frame_is_smeared_into_a_small_window(
            size in (1_usize..60, 1_usize..9),
            frames in prop::collection::vec((0_usize..12, 0_usize..70), 1..20),
        ) {
            shown(&[Size { columns: size.0, rows: size.1 }], &frames)?;
        }

        /// Lines that a narrower terminal pushes out beyond its top are lost, so this one is high enough.
        #[test]
        fn no_frame_is_smeared_when_the_window_becomes_wider_or_narrower(
            columns in prop::collection::vec(1_usize..60, 2..20),
            frames in prop::collection::vec((0_usize..12, 0_usize..70), 1..20),
        ) {
            let sizes: Vec<_> = columns.into_iter().map(|columns| Size { columns, rows: 10_000 }).collect();
            shown(&sizes, &frames)?;
        }
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
        let printer = Printer::start(out.clone(), false, false).unwrap();
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
    fn a_reader_that_stands_still_costs_so_many_bytes_and_is_told_what_it_missed() {
        let out = Shared::default();
        let held = out.0.lock().unwrap();
        let printer = Printer::start(out.clone(), false, false).unwrap();
        let line = "x".repeat(1000);
        (0..100_000).for_each(|_| printer.line(line.clone()));
        let waiting = printer.waiting.bytes.load(Ordering::Relaxed);
        assert!(waiting <= WAITING_BYTES + 2000, "{waiting} bytes");
        assert_eq!(printer.left_out(), 0, "it would not hear it");
        printer.ends();
        printer.line("last words");
        drop(held);
        printer.finish();
        let taken = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        assert!(taken.ends_with("\nlast words\n"));
        assert_eq!(printer.left_out() + taken.lines().count() as u64, 100_001);
        assert_eq!(printer.left_out(), 0);
    }

    #[test]
    fn a_reader_that_is_gone_is_no_error() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let printer = Printer::start(writer, false, false).unwrap();
        printer.line("to nobody");
        printer.finish();
    }
}
