//! The options that both programs have, and what a wrong one is told.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::{Args, CommandFactory, error::ErrorKind};

use crate::console::exit::Exit;
use crate::console::units;
use crate::limits;
use crate::net::Ports;
use crate::types::BadName;
use crate::types::Invalid;
use crate::types::SessionName;

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
pub struct OutputArgs {
    /// Write how it ended to FILE, as JSON (docs/json.md says what is in it); it appears when it is whole
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,

    /// Print what happens on standard output, one JSON object per line (docs/json.md lists them)
    #[arg(long)]
    pub json: bool,
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
pub fn session(text: &str) -> Result<SessionName, BadName> {
    SessionName::new(text)
}

/// Reads a port.
///
/// # Errors
/// A sentence that says what a port is.
pub fn port(text: &str) -> Result<u16, Invalid> {
    number(text, 1..=u16::MAX.into()).map_err(|range| format!("a port is a number from {range}").into())
}

/// Reads a number within `range`.
///
/// # Errors
/// The range, in words, to be put into a sentence.
pub fn number<T: TryFrom<u64>>(text: &str, range: RangeInclusive<u64>) -> Result<T, Invalid> {
    let number = text.parse().ok().filter(|n| range.contains(n)).and_then(|n| T::try_from(n).ok());
    number.ok_or_else(|| format!("{} to {}", range.start(), range.end()).into())
}

fn port_range(text: &str) -> Result<RangeInclusive<u16>, Invalid> {
    let (first, last) = text.split_once('-').ok_or("a range of ports is written like 30764-31275")?;
    let (first, last) = (port(first)?, port(last)?);
    if first > last {
        return Err(format!("the first port is above the last; write it {last}-{first}").into());
    }
    Ok(first..=last)
}

fn window(text: &str) -> Result<u64, Invalid> {
    let bytes = units::parse_size(text)?;
    if bytes < limits::WINDOW_BYTES_MIN {
        return Err(format!("a window has at least {}", units::size(limits::WINDOW_BYTES_MIN)).into());
    }
    Ok(bytes)
}
