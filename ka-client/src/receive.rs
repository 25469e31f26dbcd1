//! Receives a session's streams: this host is a node, and each stream goes into a sink that the caller opens.
//!
//! Beyond [`net::join`]: the session runs on a thread with next to no rights
//! ([`privileges`]), and everything that happens is one kind of event.

use std::io;

use ka_core::console::privileges;
use ka_core::net::{self, ClientConfig, ClientEvent, Inbox, NodeEnd};
use ka_core::stream::Sink;
use ka_core::tape::chain::StreamInfo;
use ka_desc::error::Error;

/// Opens the sink of a stream that begins.
pub type OpenSink = Box<dyn FnMut(&StreamInfo) -> io::Result<Box<dyn Sink>> + Send>;

/// Something that happens while a session is received.
#[derive(Debug)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// This node is so far.
    Session(&'a ClientEvent),
    /// Something that people should know, in words.
    Remark(&'a str),
}

/// Receives a session's streams, each into the sink that `open` opens for it. The control of `inbox`
/// ([`Control::new`](net::Control::new)) stops it. `progress` is called on the session's thread, and must not block.
///
/// Dropping the future gives the session up: no sink is told that its stream is complete.
///
/// # Errors
/// This host never was a node of the session: [`Error::cause`] is a [`JoinError`](net::JoinError), or an [`io::Error`] if the system
/// gives no thread.
pub async fn receive(
    client: ClientConfig,
    open: OpenSink,
    inbox: Inbox,
    progress: impl Fn(Progress<'_>) + Send + Sync + 'static,
) -> Result<NodeEnd, Error> {
    let joined = privileges::session(move |threads, remark: Option<String>| {
        remark.iter().for_each(|text| progress(Progress::Remark(text)));
        let events = move |event: ClientEvent| progress(Progress::Session(&event));
        net::join(ClientConfig { threads, ..client }, open, inbox, events)
    });
    joined.await?.map_err(Error::from_cause)
}

/// This host's own name for itself.
#[must_use]
pub fn label() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
