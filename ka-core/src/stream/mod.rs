//! The two ends of the pipe: [`Source`] and [`Sink`], and the ones that every tool needs.
//!
//! Both block, and each runs on a thread of its own (see `net::ends`): a slow disk never stands in the data
//! loop's way. An application brings its own by implementing the trait.
//!
//! A sink gets only verified bytes, in order, and one of two ends: [`Sink::finish`] when the whole stream came
//! and the source ended well, [`Sink::abort`] in every other case. It is never left to believe that a stream
//! which merely stopped is complete.

mod again;
mod command;
mod fd;
mod file;
mod kind;
mod lock;
pub mod ours;
mod output;
mod part;
mod pipe;
mod remains;
mod running;
mod said;
mod spool;
mod stdio;
mod traits;

pub use command::{CommandSink, CommandSource};
pub use file::FileSource;
pub use output::FileSink;
pub use remains::abandon;
pub use said::{Said, follow};
pub use spool::Spool;
pub use stdio::{StdinSource, StdoutSink};
pub use traits::{ReadAt, Sink, Source, Stop};
