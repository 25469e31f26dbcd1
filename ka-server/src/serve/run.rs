//! One session served, from its keys to its report.

use std::io;

use ka_core::console::privileges;
use ka_core::net::{self, Inbox, ServerConfig, ServerEvent, Stream};
use ka_core::proto::Report;
use ka_core::stream::Spool;
use ka_desc::error::Error;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::config::Config;

/// Something that happens while a session is served.
#[derive(Debug)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// The streams are there; the session is about to be opened.
    Streams(&'a [Stream]),
    /// The session is so far.
    Session(&'a ServerEvent),
    /// Something that people should know, in words.
    Remark(&'a str),
}

/// Serves a session. `open` makes its streams, last of all that can fail before it is open; so nothing is left running.
/// The control of `inbox` ([`Control::new`](net::Control::new)) starts and stops it. `progress` is called on several
/// threads, and must not block.
///
/// Dropping the future gives the session up.
///
/// # Errors
/// No session was opened: a key, the spool or a stream is not to be had; or [`Error::cause`] is a
/// [`ServeError`](net::ServeError).
pub async fn serve(
    config: &Config,
    open: impl FnOnce() -> io::Result<Vec<Stream>>,
    inbox: Inbox,
    progress: impl Fn(Progress<'_>) + Send + Sync + 'static,
) -> Result<Report, Error> {
    let key = Some(config.keys.server_key()?);
    if let Err(why) = allow_files(config.nodes) {
        progress(Progress::Remark(&format!("warning: {why}")));
    }
    let spool = config.spool.as_deref().map(Spool::open).transpose()?;
    let streams = open()?;
    progress(Progress::Streams(&streams));
    if spool.is_some() && streams.iter().all(|stream| stream.source.again().is_some()) {
        progress(Progress::Remark("--spool is not needed: the source can be read again as it is"));
    }
    let server = ServerConfig { spool, key, ..config.server() };
    let served = privileges::session(move |threads, remark: Option<String>| {
        remark.iter().for_each(|text| progress(Progress::Remark(text)));
        let events = move |event: ServerEvent| progress(Progress::Session(&event));
        net::serve(ServerConfig { threads, ..server }, streams, inbox, events)
    });
    served.await?.map_err(Error::from_cause)
}

/// Files that are open beside the connections to so many nodes, with room for those who have not said who they are.
const FILES: u64 = 1024;

/// The least of them without which a session cannot go on.
const FILES_MIN: u64 = 24;

/// Raises this process's limit on open files to what so many nodes need. An error, in words, if they cannot all get in.
fn allow_files(nodes: u32) -> Result<(), String> {
    let nodes = u64::from(nodes);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = nodes + FILES;
    let Some(now) = current.filter(|now| *now < wanted) else { return Ok(()) };
    let may = maximum.map_or(wanted, |most| most.min(wanted)).max(now);
    let may = setrlimit(Resource::Nofile, Rlimit { current: Some(may), maximum }).map_or(now, |()| may);
    if may >= nodes + FILES_MIN {
        return Ok(());
    }
    let needed = nodes + FILES_MIN;
    Err(format!("this process may have {may} files open, and {nodes} nodes need {needed}: see `ulimit -n`"))
}
