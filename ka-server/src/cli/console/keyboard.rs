//! A key press on the terminal that a server was started from: the session starts with the nodes that are there.
//!
//! Keys come one by one and are not shown, which would spoil the live view. The terminal is put back as it was when the
//! program ends, also by a signal it hears or a panic. A program in the background leaves the terminal alone: who touches
//! it from there is stopped.

use std::io::{self, IsTerminal, Stdin};

use ka_core::console::reporter::Reporter;
use rustix::process::getpgrp;
use rustix::termios::{
    LocalModes, OptionalActions, QueueSelector, SpecialCodeIndex, Termios, tcflush, tcgetattr, tcgetpgrp,
    tcsetattr,
};

/// The key that starts the session: no key that people press to see whether somebody is there.
pub(crate) const KEY: char = 'g';

/// A terminal whose keys are heard. Dropped, it is as it was.
#[derive(Debug)]
pub(crate) struct Keyboard {
    terminal: Stdin,
    before: Termios,
}

impl Keyboard {
    /// The terminal, if people look at it and nothing else reads from it.
    pub(crate) fn open(tell: &Reporter, stdin_is_read: bool) -> Option<Self> {
        let terminal = io::stdin();
        if !tell.is_live() || stdin_is_read || !terminal.is_terminal() || !is_ours(&terminal) {
            return None;
        }
        let before = tcgetattr(&terminal).ok()?;
        let keyboard = Self { terminal, before };
        keyboard.quiet()?;
        Some(keyboard)
    }

    /// Whether the key was pressed since the last time. Never waits.
    pub(crate) fn pressed(&self) -> bool {
        if !is_ours(&self.terminal) || self.quiet().is_none() {
            return false;
        }
        let mut keys = [0; 64];
        let n = rustix::io::read(&self.terminal, &mut keys).unwrap_or(0);
        keys[..n].iter().any(|key| key.eq_ignore_ascii_case(&(KEY as u8)))
    }

    /// Keys come one by one, without being waited for; after a stop, a shell may have changed that.
    fn quiet(&self) -> Option<()> {
        let mut modes = tcgetattr(&self.terminal).ok()?;
        let shown = LocalModes::ICANON | LocalModes::ECHO;
        if modes.local_modes.intersects(shown) || modes.special_codes[SpecialCodeIndex::VMIN] != 0 {
            modes.local_modes.remove(shown);
            modes.special_codes[SpecialCodeIndex::VMIN] = 0;
            modes.special_codes[SpecialCodeIndex::VTIME] = 0;
            tcsetattr(&self.terminal, OptionalActions::Now, &modes).ok()?;
        }
        Some(())
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        if is_ours(&self.terminal) {
            // What was typed and not read is not for the shell. What is still to be shown is not waited for.
            let _ = tcflush(&self.terminal, QueueSelector::IFlush);
            let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
        }
    }
}

/// Whether this program is the one in the foreground.
fn is_ours(terminal: &Stdin) -> bool {
    tcgetpgrp(terminal).is_ok_and(|foreground| foreground == getpgrp())
}
