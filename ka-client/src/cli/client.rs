//! `ka-d-client`: has a session start, or receives its one stream.

use std::ffi::OsString;
use std::io;

use ka_core::cli::args;
use ka_core::console::exit::Exit;
use ka_core::console::reporter::Reporter;
use ka_core::console::{key, local, run as runtime, secrets, units};
use ka_core::net::{self, JoinError};
use ka_core::stream::{CommandSink, FileSink, Sink, StdoutSink};
use ka_core::tape::chain::StreamInfo;
use ka_core::types::SessionName;

use super::console::json::Event;
use super::console::{self, Config, exit_of};
use super::receive::{Options, Output, page};
use crate::receive::{label, receive};

/// The program's name.
pub const PROGRAM: &str = "ka-d-client";

/// The whole program, from the command line to the exit status. It must be called before there is a second thread.
pub fn main(args: impl IntoIterator<Item = OsString>) -> Exit {
    if let Err(e) = secrets::keep() {
        return runtime::no_start(PROGRAM, &e);
    }
    let options = match Options::parse(args) {
        Ok(options) => options,
        Err(error) => return args::refuse(&error),
    };
    match options.generate.text(Options::command(), &page()) {
        Some(text) => runtime::print(&text),
        None => runtime::block_on(PROGRAM, run(options)),
    }
}

/// Runs what the command line says.
async fn run(options: Options) -> Exit {
    let tell = match Reporter::new(PROGRAM, options.join.tell.json) {
        Ok(tell) => tell,
        Err(e) => return runtime::no_start(PROGRAM, &e),
    };
    let exit = if options.go {
        go(&options, &tell).await
    } else {
        match options.join.config(label(), options.wait) {
            Ok(config) => run_node(config, &options, &tell).await,
            Err(why) => fail(&tell, &why.to_string(), Exit::Usage),
        }
    };
    tell.finish();
    exit
}

/// Receives the one stream.
async fn run_node(config: Config, options: &Options, tell: &Reporter) -> Exit {
    let received = console::receive(config, tell, |client, (_, inbox), told| {
        let mut opener = Opener::new(options)?;
        let open = Box::new(move |info: &StreamInfo| opener.open(info));
        Ok(receive(client, open, inbox, move |progress| told.take(&progress)))
    });
    received.await.exit
}

/// `--go`: has the session start.
async fn go(options: &Options, tell: &Reporter) -> Exit {
    let key = match (options.join.key.find(), &options.join.session) {
        (Ok(Some(key)), _) => key,
        (Ok(None), Some(name)) if options.join.host.is_none() => return go_here(name, tell).await,
        (Ok(None), _) => return fail(tell, key::NONE, Exit::Usage),
        (Err(why), _) => return fail(tell, &why.to_string(), Exit::Usage),
    };
    let config = options.join.client(key, label(), false);
    let answer = tokio::select! {
        answer = net::go(&config) => answer,
        who = runtime::interrupted() => Err(JoinError::Stopped(who.into())),
    };
    match answer {
        Ok(nodes) => going(tell, nodes),
        Err(error) => fail(tell, &error.to_string(), exit_of(&error)),
    }
}

/// The same without a key, which needs none on the server's own host.
async fn go_here(name: &SessionName, tell: &Reporter) -> Exit {
    match local::go(name).await {
        local::Answer::Going(nodes) => going(tell, nodes),
        local::Answer::Refused(why) => fail(tell, &format!("refused: {why}"), Exit::Refused),
        local::Answer::Nobody => {
            let here = format!("this user serves no session `{name}` on this host");
            fail(tell, &format!("{here}, and from elsewhere {}", key::NONE), Exit::Usage)
        }
    }
}

fn going(tell: &Reporter, nodes: u32) -> Exit {
    tell.say(format!("the session starts with {}", units::nodes(nodes)));
    tell.event(&Event::Going { nodes });
    Exit::Fine
}

fn fail(tell: &Reporter, why: &str, exit: Exit) -> Exit {
    tell.fail(why, exit);
    exit
}

/// Opens the one stream's sink.
struct Opener {
    output: Output,
    /// What is not a command is opened before the session is joined: what is wrong with it is known while that costs
    /// nothing.
    open: Option<Open>,
    json: bool,
}

enum Open {
    File(FileSink),
    Stdout(StdoutSink),
}

impl Opener {
    fn new(options: &Options) -> io::Result<Self> {
        let output = options.output();
        let open = match &output {
            Output::File(path) => Some(Open::File(FileSink::open(path)?)),
            Output::Stdout => Some(Open::Stdout(StdoutSink::open()?)),
            Output::Command(_) => None,
        };
        Ok(Self { output, open, json: options.join.tell.json })
    }

    fn open(&mut self, info: &StreamInfo) -> io::Result<Box<dyn Sink>> {
        if info.number > 0 {
            let name = &info.name;
            return Err(io::Error::other(format!(
                "the session has another stream, `{name}`, and --exec and --output take one"
            )));
        }
        Ok(match (&self.output, self.open.take()) {
            (_, Some(Open::File(file))) => {
                file.check_size(info.size.unwrap_or(0))?;
                Box::new(file)
            }
            (_, Some(Open::Stdout(stdout))) => Box::new(stdout),
            // Standard output is JSON's, so the command may not print there.
            (Output::Command(command), None) if self.json => {
                Box::new(CommandSink::spawn_printing_to_stderr(command)?)
            }
            (Output::Command(command), None) => Box::new(CommandSink::spawn(command)?),
            (Output::File(_) | Output::Stdout, None) => {
                return Err(io::Error::other("it was written already"));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn a_second_stream_is_refused() {
        let mut open =
            Opener::new(&Options::try_parse_from(["ka-d-client", "-s", "x", "-e", "cat"]).unwrap()).unwrap();
        let info = StreamInfo { number: 1, name: "two".into(), metadata: Vec::new(), size: None };
        let error = open.open(&info).err().unwrap();
        assert_eq!(
            error.to_string(),
            "the session has another stream, `two`, and --exec and --output take one"
        );
    }
}
