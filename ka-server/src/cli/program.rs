//! `ka-d-server`: a key to be made, or one stream to be served.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ka_core::cli::args;
use ka_core::console::exit::Exit;
use ka_core::console::reporter::Reporter;
use ka_core::console::{run, secrets};
use ka_core::net::Stream;
use ka_core::stream::{self, CommandSource, FileSource, ReadAt, StdinSource};
use ka_desc::manifest::OWN;

use super::console::json::Event;
use super::console::{self, Serving};
use super::server::{Options, PROGRAM, Served, Source, page};
use crate::keys::{Sent, is_exposed};
use crate::serve::serve;

/// The whole program, from the command line to the exit status. It must be called before there is a second thread.
pub fn main(args: impl IntoIterator<Item = OsString>) -> Exit {
    if let Err(e) = secrets::keep() {
        return run::no_start(PROGRAM, &e);
    }
    let options = match Options::parse(args) {
        Ok(options) => options,
        Err(error) => return args::refuse(&error),
    };
    match options.generate.text(Options::command(), &page()) {
        Some(text) => run::print(&text),
        None => run::block_on(PROGRAM, start(options)),
    }
}

/// Runs what the command line says.
async fn start(options: Options) -> Exit {
    let tell = match Reporter::new(PROGRAM, options.session.tell.json) {
        Ok(tell) => tell,
        Err(e) => return run::no_start(PROGRAM, &e),
    };
    let exit = match &options.session.key.make_key {
        Some(path) => make_key(&options, path, &tell),
        None => serve_one(options, &tell).await,
    };
    tell.finish();
    exit
}

fn make_key(options: &Options, path: &Path, tell: &Reporter) -> Exit {
    match options.session.key.make(path) {
        Ok(words) => {
            tell.say(words);
            Exit::Fine
        }
        Err(why) => {
            tell.fail(&why.to_string(), Exit::NoStart);
            Exit::NoStart
        }
    }
}

async fn serve_one(options: Options, tell: &Reporter) -> Exit {
    let (source, everything) = (options.source(), options.sends_everything());
    let root = Path::new("/");
    let sent = [Sent { here: root, at: Some(root) }];
    let secret = options.session.key.keys().secrets().find(|path| is_exposed(path, &sent, &[OWN.as_ref()]));
    let voice = tell.clone();
    let open = move || {
        if let (true, Some(path)) = (everything, secret) {
            return Err(io::Error::other(format!(
                "{} is on the file system that is sent, and every node would have this server's secrets: keep it on \
                 another one, such as /run",
                path.display()
            )));
        }
        let mut stream = open(&source)?;
        stream.source = Box::new(Heeded { source: stream.source, tell: voice, bytes: 0 });
        Ok(vec![stream])
    };
    let served = Arc::new(Served::from(options));
    let session = Arc::clone(&served);
    console::serve(served, tell, async move |inbox, told| {
        serve(session.session(), open, inbox, move |progress| told.take(&progress)).await
    })
    .await
}

/// The name that nodes see is no secret, so it is not the command.
fn open(source: &Source) -> io::Result<Stream> {
    let (name, source): (_, Box<dyn stream::Source>) = match source {
        Source::Command(command) => ("command".into(), Box::new(CommandSource::spawn(command)?)),
        Source::File(path) => (file_name(path), Box::new(FileSource::open(path)?)),
        Source::Stdin => ("stdin".into(), Box::new(StdinSource::open()?)),
    };
    Ok(Stream { name, metadata: Vec::new(), source })
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| "file".into(), |name| name.to_string_lossy().into_owned())
}

/// A source of which it is said at once if it gives nothing: that is a stream, but seldom the one that was meant.
struct Heeded {
    source: Box<dyn stream::Source>,
    tell: Reporter,
    bytes: u64,
}

impl stream::Source for Heeded {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.source.read(buf)?;
        self.bytes += n as u64;
        Ok(n)
    }

    fn ready(&mut self, timeout: Duration) -> io::Result<bool> {
        self.source.ready(timeout)
    }

    fn size(&self) -> Option<u64> {
        self.source.size()
    }

    fn again(&self) -> Option<Box<dyn ReadAt>> {
        self.source.again()
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        self.source.finish()?;
        if self.bytes == 0 {
            let text = "the source gave nothing: there are no bytes to send".to_owned();
            self.tell.say(format!("warning: {text}"));
            self.tell.event(&Event::Warning { text: &text });
        }
        Ok(())
    }

    fn abort(self: Box<Self>) {
        self.source.abort();
    }
}
