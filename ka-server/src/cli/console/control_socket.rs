//! The socket of `--control-socket`, and the one where this host's `ka-d-client -g` finds a session by its name: what may be
//! said to a running session, one command per line.
//!
//! ```text
//! rate 20M     ok
//! rate off     ok
//! go           ok 3 nodes, or: error: no node is waiting
//! stop         ok
//! status       ok 37 %  1.2 GiB of 3.4 GiB  …
//! ```
//!
//! Only this user and root may connect: it has mode 0600 from its first moment.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ka_core::console::{local, units};
use ka_core::types::SessionName;
use rustix::fs::{Mode, fchmod};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, listen, socket_with};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

/// Bytes of a line at most.
const LINE_BYTES: usize = 256;

/// Connections at a time.
const CONNECTIONS: usize = 8;

/// The command that a line has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Send at most so many bytes per second; `None`: as fast as it goes.
    Rate(Option<u64>),
    /// Start with whoever is there.
    Go,
    /// Stop the session.
    Stop,
    /// Say how far it is.
    Status,
}

impl Command {
    fn parse(line: &str) -> Result<Self, String> {
        let mut words = line.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some("rate"), Some("off"), None) => Ok(Self::Rate(None)),
            (Some("rate"), Some(rate), None) => {
                units::parse_rate(rate).map(|rate| Self::Rate(Some(rate))).map_err(|e| e.to_string())
            }
            (Some("go"), None, None) => Ok(Self::Go),
            (Some("stop"), None, None) => Ok(Self::Stop),
            (Some("status"), None, None) => Ok(Self::Status),
            _ => Err("the commands are: rate RATE, rate off, go, stop, status".into()),
        }
    }
}

/// The socket's place in the file system, which is empty again once this is dropped.
#[derive(Debug)]
pub(crate) struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Opens the socket at which clients on this host, of this user, find the session of this name.
///
/// # Errors
/// There is no place for it, or somebody has it.
pub(crate) fn open_here<F>(session: &SessionName, answer: F) -> io::Result<Place>
where
    F: Fn(Command) -> Result<String, String> + Send + Sync + 'static,
{
    open_in(&local::directory()?, session, answer)
}

/// A socket gets its name when it is heard at: so one of that name at which nobody listens is dead, whoever looks.
fn open_in<F>(dir: &Path, session: &SessionName, answer: F) -> io::Result<Place>
where
    F: Fn(Command) -> Result<String, String> + Send + Sync + 'static,
{
    // What servers that were killed have left.
    for entry in fs::read_dir(dir)?.flatten() {
        if local::is_socket(&entry.path()) {
            clear(&entry.path())?;
        }
    }
    let (path, unborn) = (local::socket(dir, session), dir.join(std::process::id().to_string()));
    let _ = fs::remove_file(&unborn);
    let listener = bind(&unborn)?;
    // Unlike a new name, a second one never takes another server's place.
    let linked = fs::hard_link(&unborn, &path);
    fs::remove_file(&unborn)?;
    linked?;
    tokio::spawn(accept(listener, Arc::new(answer)));
    Ok(Place(path))
}

/// Opens the socket and has `answer` hear its commands; its `Ok` follows the `ok`.
///
/// # Errors
/// Names the path and says what is wrong.
pub(crate) fn open<F>(path: &Path, answer: F) -> io::Result<Place>
where
    F: Fn(Command) -> Result<String, String> + Send + Sync + 'static,
{
    let cannot = |e: io::Error| io::Error::new(e.kind(), format!("cannot listen on {}: {e}", path.display()));
    clear(path).map_err(cannot)?;
    let listener = bind(path).map_err(cannot)?;
    tokio::spawn(accept(listener, Arc::new(answer)));
    Ok(Place(path.into()))
}

/// A socket's file gets the mode that the socket had before: one that were set afterwards would come too late, and
/// the process's umask is not this thread's alone.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    listen(&socket, CONNECTIONS as i32)?;
    UnixListener::from_std(socket.into())
}

/// Takes away what a server that was killed has left.
fn clear(path: &Path) -> io::Result<()> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket());
    if is_socket && is_dead(path)? { fs::remove_file(path) } else { Ok(()) }
}

/// Whether nobody listens there. Who does not answer, because it stands still, does.
fn is_dead(path: &Path) -> io::Result<bool> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    Ok(connect(&socket, &SocketAddrUnix::new(path)?) == Err(Errno::CONNREFUSED))
}

async fn accept<F>(listener: UnixListener, answer: Arc<F>)
where
    F: Fn(Command) -> Result<String, String> + Send + Sync + 'static,
{
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    while let Ok((mut stream, _)) = listener.accept().await {
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            // It fits into the socket's buffer, so that nobody is waited for.
            let _ = stream.try_write(b"error: too many connections\n");
            continue;
        };
        let answer = Arc::clone(&answer);
        tokio::spawn(async move {
            // Whoever hangs up has heard enough.
            let _ = converse(&mut stream, answer.as_ref()).await;
            drop(place);
        });
    }
}

async fn converse(
    stream: &mut UnixStream,
    answer: &(impl Fn(Command) -> Result<String, String> + Sync),
) -> io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader);
    while let Some(line) = read_line(&mut reader).await? {
        let answer = match Command::parse(&line).and_then(answer) {
            Ok(text) => format!("ok {text}").trim_end().to_owned(),
            Err(why) => format!("error: {why}"),
        };
        writer.write_all(format!("{answer}\n").as_bytes()).await?;
    }
    Ok(())
}

/// The next line; `None` at the end, and after a line that is too long.
async fn read_line(reader: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    reader.take(LINE_BYTES as u64).read_until(b'\n', &mut line).await?;
    let whole = line.len() < LINE_BYTES || line.ends_with(b"\n");
    Ok((whole && !line.is_empty()).then(|| String::from_utf8_lossy(&line).into_owned()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn commands_are_read() {
        assert_eq!(Command::parse("rate 20M\n"), Ok(Command::Rate(Some(20 << 20))));
        assert_eq!(Command::parse("  rate  off "), Ok(Command::Rate(None)));
        assert_eq!(Command::parse("go"), Ok(Command::Go));
        assert_eq!(Command::parse("stop"), Ok(Command::Stop));
        assert_eq!(Command::parse("status"), Ok(Command::Status));
        for line in ["", "rate", "rate 5 6", "go now", "quit", "rate fast"] {
            assert!(Command::parse(line).is_err(), "{line}");
        }
        assert!(Command::parse("rate 10").unwrap_err().contains("write 10M for 10 MiB/s"));
    }

    fn echo(command: Command) -> Result<String, String> {
        match command {
            Command::Go => Err("no node is waiting".into()),
            Command::Status => Ok("37 %".into()),
            _ => Ok(String::new()),
        }
    }

    async fn ask(path: &Path, lines: &str) -> String {
        let mut stream = UnixStream::connect(path).await.unwrap();
        stream.write_all(lines.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_conversation() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let place = open(&path, echo).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let answer = ask(&path, "rate 1M\ngo\nstatus\nhm\n").await;
        let expected = "ok\nerror: no node is waiting\nok 37 %\n\
                        error: the commands are: rate RATE, rate off, go, stop, status\n";
        assert_eq!(answer, expected);
        assert_eq!(ask(&path, &"x".repeat(LINE_BYTES)).await, "", "a line without end ends the conversation");
        assert!(open(&path, echo).unwrap_err().to_string().contains("in use"), "it lives");
        drop(place);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_session_has_its_place_on_this_host_until_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let (lab, other) = (SessionName::new("lab").unwrap(), SessionName::new("a/b").unwrap());
        let killed = local::socket(dir.path(), &SessionName::new("killed").unwrap());
        drop(std::os::unix::net::UnixListener::bind(&killed).unwrap());
        let place = open_in(dir.path(), &lab, echo).unwrap();
        assert!(!killed.exists());
        let path = local::socket(dir.path(), &lab);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(ask(&path, "status\n").await, "ok 37 %\n");
        let second = open_in(dir.path(), &lab, echo).unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::AlreadyExists, "it lives");
        drop(open_in(dir.path(), &other, echo).unwrap());
        assert_eq!(ask(&path, "status\n").await, "ok 37 %\n");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        drop(place);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    /// A server that is stopped accepts nobody, and its socket's queue fills up.
    #[tokio::test]
    async fn who_stands_still_is_neither_dead_nor_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("still.socket");
        let _still = bind(&path).unwrap();
        (0..10 * CONNECTIONS).for_each(|_| clear(&path).unwrap());
        assert!(path.exists());
    }

    #[tokio::test]
    async fn few_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let _place = open(&path, echo).unwrap();
        let mut held = Vec::new();
        for _ in 0..CONNECTIONS {
            held.push(UnixStream::connect(&path).await.unwrap());
        }
        let mut more = UnixStream::connect(&path).await.unwrap();
        let mut answer = String::new();
        more.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "error: too many connections\n");
    }

    #[tokio::test]
    async fn what_a_killed_server_left_is_replaced_and_anything_else_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (socket, file) = (dir.path().join("socket"), dir.path().join("file"));
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        drop(open(&socket, echo).unwrap());
        fs::write(&file, "precious").unwrap();
        assert!(open(&file, echo).is_err());
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    }
}
