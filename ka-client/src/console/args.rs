//! The options that both programs have, and what a wrong one is told.

use std::ffi::OsStr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::{Args, Command, CommandFactory, error::ErrorKind};
use clap_complete::Shell;
use ka_core::limits;
use ka_core::net::Ports;
use ka_core::types::SessionName;

use super::exit::Exit;
use super::units;

/// Where to listen and to ask, and how much to hold.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Network")]
pub struct NetArgs {
    /// Control TCP port: a server listens there, a client takes it for the server's [default: 30765 if it is free, and clients learn it from the server]
    #[arg(short = 'p', long, value_name = "PORT", value_parser = port)]
    pub port: Option<u16>,

    /// Data TCP port to listen on [default: 30764 if it is free, else one of --port-range]
    #[arg(short = 'P', long, value_name = "PORT", value_parser = port)]
    pub data_port: Option<u16>,

    /// Where further TCP ports come from, so that a firewall rule can name them [default: 30764-31275]
    #[arg(long, value_name = "FIRST-LAST", value_parser = port_range)]
    pub port_range: Option<RangeInclusive<u16>>,

    /// UDP port on which servers are asked for their session
    #[arg(long, value_name = "PORT", value_parser = port, default_value_t = limits::DISCOVERY_PORT)]
    pub discovery_port: u16,

    /// Network interface to ask from and to answer on; may be given several times [default: every wired one]
    #[arg(long, value_name = "NAME")]
    pub interface: Vec<String>,

    /// Bytes in flight to hold in memory at most, such as 64M [default: by the memory there is]
    #[arg(long, value_name = "SIZE", value_parser = window)]
    pub window: Option<u64>,
}

impl NetArgs {
    /// The same for a session.
    #[must_use]
    pub fn ports(&self) -> Ports {
        let defaults = Ports::default();
        Ports {
            control: self.port,
            data: self.data_port,
            range: self.port_range.clone().unwrap_or(defaults.range),
            discovery: self.discovery_port,
            interfaces: self.interface.clone(),
        }
    }
}

/// What to tell programs.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Output")]
pub struct TellArgs {
    /// Write how it ended to FILE, as JSON; it appears when it is whole
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,

    /// Print what happens on standard output, one JSON object per line
    #[arg(long)]
    pub json: bool,
}

/// What packagers ask for, instead of a session.
#[derive(Args, Clone, Debug)]
pub struct Generate {
    /// Print the man page
    #[arg(long, hide = true, exclusive = true)]
    pub man: bool,

    /// Print the completions for a shell
    #[arg(long, hide = true, exclusive = true, value_name = "SHELL")]
    pub completions: Option<Shell>,
}

impl Generate {
    /// Whether anything was asked for.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.man || self.completions.is_some()
    }

    /// The text asked for, if any was.
    #[must_use]
    pub fn text(&self, mut command: Command) -> Option<Vec<u8>> {
        if let Some(shell) = self.completions {
            let name = command.get_name().to_owned();
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut command, name, &mut text);
            return Some(text);
        }
        self.man.then(|| man_page(command))
    }
}

/// The exit statuses get a section of their own, where readers of man pages look for them.
fn man_page(command: Command) -> Vec<u8> {
    let man = clap_mangen::Man::new(command);
    let mut text = Vec::new();
    man.render_title(&mut text)
        .and_then(|()| man.render_name_section(&mut text))
        .and_then(|()| man.render_synopsis_section(&mut text))
        .and_then(|()| man.render_description_section(&mut text))
        .and_then(|()| man.render_options_section(&mut text))
        .expect("a vector takes everything");
    text.extend(b".SH \"EXIT STATUS\"\n");
    for (exit, says) in Exit::ALL {
        text.extend(format!(".TP\n{}\n{says}\n", exit.code()).bytes());
    }
    man.render_version_section(&mut text).expect("a vector takes everything");
    text
}

/// Says what is wrong with the command line (or prints the help that was asked for).
#[must_use]
pub fn refuse(error: &clap::Error) -> Exit {
    // Nobody is left to tell when the terminal is gone.
    let _ = error.print();
    if error.use_stderr() { Exit::Usage } else { Exit::Fine }
}

/// An error of the command line that no single option shows.
#[must_use]
pub fn wrong<T: CommandFactory>(text: &str) -> clap::Error {
    T::command().error(ErrorKind::ValueValidation, text)
}

/// Reads a session's name.
///
/// # Errors
/// A sentence that says what is wrong with it.
pub fn session(text: &str) -> Result<SessionName, String> {
    SessionName::new(text).map_err(|e| e.to_string())
}

/// Reads a port.
///
/// # Errors
/// A sentence that says what a port is.
pub fn port(text: &str) -> Result<u16, String> {
    number(text, 1..=u16::MAX.into()).map_err(|range| format!("a port is a number from {range}"))
}

/// Reads a number within `range`.
///
/// # Errors
/// The range, in words, to be put into a sentence.
pub fn number<T: TryFrom<u64>>(text: &str, range: RangeInclusive<u64>) -> Result<T, String> {
    let number = text.parse().ok().filter(|n| range.contains(n)).and_then(|n| T::try_from(n).ok());
    number.ok_or_else(|| format!("{} to {}", range.start(), range.end()))
}

fn port_range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let (first, last) = text.split_once('-').ok_or("a range of ports is written like 30764-31275")?;
    let (first, last) = (port(first)?, port(last)?);
    if first > last {
        return Err(format!("the first port is above the last; write it {last}-{first}"));
    }
    Ok(first..=last)
}

fn window(text: &str) -> Result<u64, String> {
    let bytes = units::parse_size(text)?;
    if bytes < limits::WINDOW_BYTES_MIN {
        return Err(format!("a window has at least {}", units::size(limits::WINDOW_BYTES_MIN)));
    }
    Ok(bytes)
}

/// A word as a shell takes it.
#[must_use]
pub fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else if word.chars().any(char::is_control) {
        let escaped: String =
            word.chars().map(|c| if c == '\'' { r"\'".into() } else { escaped(c) }).collect();
        format!("$'{escaped}'")
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn escaped(c: char) -> String {
    match c {
        '\\' => r"\\".into(),
        c if c.is_control() => format!(r"\u{:04x}", u32::from(c)),
        c => c.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_through_a_shell() {
        for (word, text) in [
            ("abc-1.2", "abc-1.2"),
            ("", "''"),
            ("(cd /dir && tar c *)", "'(cd /dir && tar c *)'"),
            ("it's", r"'it'\''s'"),
            ("a\nb'\\", r"$'a\u000ab\'\\'"),
        ] {
            assert_eq!(quoted(OsStr::new(word)), text);
        }
    }
}
