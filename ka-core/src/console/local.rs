//! The way to a server without a key, for programs on its own host: a socket in a directory of this user's own.
//!
//! Only this user, or root, may write there. So a key would add nothing; and nothing is asked of the network.

use std::fs::{self, DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::geteuid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::key::env;
use crate::types::SessionName;

/// The directory of root's sockets. It is the same for a service and for a shell, which have different environments.
const ROOTS: &str = "/run/ka";

/// The suffix of the names of sockets.
const SUFFIX: &str = ".socket";

/// A server on this host answers at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// More than an answer has.
const ANSWER_BYTES: u64 = 4096;

/// Only its owner may enter it, and write in it.
const MODE: u32 = 0o700;

/// The directory of this user's sockets, for a server: it is made if it is not there.
///
/// # Errors
/// There is no place for it, or somebody else could put a socket there.
pub fn directory() -> io::Result<PathBuf> {
    let dir = path().ok_or(io::ErrorKind::NotFound)?;
    make(&dir)?;
    Ok(dir)
}

fn path() -> Option<PathBuf> {
    match env("XDG_RUNTIME_DIR") {
        _ if geteuid().is_root() => Some(ROOTS.into()),
        dir => Some(Path::new(&dir?).join("ka")),
    }
}

fn make(dir: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(MODE).create(dir) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        _ => check(dir),
    }
}

/// Finds that it is this user's alone. What nobody else may write, nobody else can exchange for a link.
fn check(dir: &Path) -> io::Result<()> {
    let above = dir.parent().unwrap_or(Path::new("/"));
    if is_ours(&fs::symlink_metadata(dir)?) && is_ours(&fs::metadata(above)?) {
        return Ok(());
    }
    Err(io::Error::other("it is not a directory that only this user can write, so it is not used"))
}

fn is_ours(meta: &Metadata) -> bool {
    let owned = meta.uid() == geteuid().as_raw() || meta.uid() == 0;
    meta.is_dir() && owned && meta.mode() & 0o022 == 0
}

/// The socket of the server of a session of this name. A name has no control characters, so no two have the same path.
#[must_use]
pub fn socket(dir: &Path, session: &SessionName) -> PathBuf {
    dir.join(session.as_str().replace('/', "\u{1}") + SUFFIX)
}

/// Whether this is the name of such a socket.
#[must_use]
pub fn is_socket(path: &Path) -> bool {
    path.to_string_lossy().ends_with(SUFFIX)
}

/// The answer of a server on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The session starts with so many nodes.
    Going(u32),
    /// The session does not start, for this reason.
    Refused(String),
    /// There is no such session of this user on this host.
    Nobody,
}

/// Has the session of this name start, if this host serves it for this user.
pub async fn go(session: &SessionName) -> Answer {
    match path().filter(|dir| check(dir).is_ok()) {
        Some(dir) => go_at(&socket(&dir, session)).await,
        None => Answer::Nobody,
    }
}

async fn go_at(path: &Path) -> Answer {
    let Ok(mut stream) = UnixStream::connect(path).await else { return Answer::Nobody };
    let ask = async {
        stream.write_all(b"go\n").await?;
        stream.shutdown().await?;
        let mut answer = String::new();
        stream.take(ANSWER_BYTES).read_to_string(&mut answer).await?;
        io::Result::Ok(answer)
    };
    match tokio::time::timeout(PATIENCE, ask).await {
        Ok(Ok(answer)) => read(answer.trim_end()),
        Ok(Err(e)) => Answer::Refused(format!("the server on this host gives no answer: {e}")),
        Err(_) => Answer::Refused("the server on this host gives no answer".into()),
    }
}

fn read(answer: &str) -> Answer {
    let mut words = answer.split(' ');
    let nodes = words.next().filter(|word| *word == "ok").and_then(|_| words.next()?.parse().ok());
    match (nodes, answer.strip_prefix("error: ")) {
        (Some(nodes), _) => Answer::Going(nodes),
        (None, Some(why)) => Answer::Refused(why.into()),
        (None, None) => Answer::Refused(format!("the server on this host says `{answer}`")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_directory_that_others_could_change_is_not_used() {
        let above = tempfile::tempdir().unwrap();
        let dir = above.path().join("ka");
        make(&dir).unwrap();
        assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o777, MODE);
        make(&dir).unwrap();
        let allow = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        for path in [&dir, above.path()] {
            for mode in [0o770, 0o702, 0o777] {
                allow(path, mode);
                assert!(make(&dir).is_err(), "{} {mode:o}", path.display());
            }
            allow(path, 0o700);
        }
        make(&dir).unwrap();
        let (link, file) = (above.path().join("link"), above.path().join("file"));
        symlink(&dir, &link).unwrap();
        fs::write(&file, "").unwrap();
        assert!(make(&link).is_err() && make(&file).is_err());
        if geteuid().is_root() {
            std::os::unix::fs::chown(&dir, Some(65_534), None).unwrap();
            assert!(make(&dir).is_err(), "somebody else's");
        }
    }

    #[test]
    fn names_have_places_of_their_own() {
        let dir = Path::new("/run/ka");
        let place = |name: &str| socket(dir, &SessionName::new(name).unwrap());
        assert_eq!(place("lab"), Path::new("/run/ka/lab.socket"));
        assert!([place(".."), place("../x"), place("/")].iter().all(|path| path.parent() == Some(dir)));
        assert_ne!(place("a/b"), place("ab"));
        assert!(place(&"x".repeat(64)).as_os_str().len() < 100, "the system's limit is 107");
    }

    #[test]
    fn answers_are_read() {
        assert_eq!(read("ok 3 nodes"), Answer::Going(3));
        assert_eq!(read("error: no node is waiting"), Answer::Refused("no node is waiting".into()));
        for odd in ["", "ok", "ok many", "hm"] {
            assert!(matches!(read(odd), Answer::Refused(_)), "{odd}");
        }
    }
}
