//! The mark of a finished clone: a file in its own root that names the session it is a clone of. A rescue system that is
//! started there once more reads it. So no machine is cloned twice in one session, and no other machine has a say in that.
//!
//! The file is in a directory that is never cloned and that only root can read.

use std::path::Path;

use ka_core::types::SessionId;
use ka_desc::error::Error;
use ka_desc::manifest::OWN;
use ka_desc::system::tree::Tree;

const MARK: &str = "/etc/ka/clone";

const MARK_BYTES_MAX: u64 = 4096;

/// The word before the session's identity.
const WORD: &str = "session ";

/// Leaves the mark in the clone that is mounted at `root`, and says so in a sentence.
pub(crate) fn leave(root: &Path, session: SessionId) -> Result<String, Error> {
    let tree = Tree::open(root, "the clone")?;
    tree.make_dir(OWN)?;
    tree.set_mode(OWN, 0o700)?;
    tree.replace(MARK, format!("{WORD}{session}\n").as_bytes())?;
    Ok(format!("{MARK} says of which session this machine is a clone"))
}

/// Takes the mark away again, as far as that is possible.
pub(crate) fn take_away(root: &Path) {
    let _ = Tree::open(root, "the clone").and_then(|tree| tree.remove(MARK));
}

/// The session of which the system at `root` is a clone.
pub(crate) fn read(root: &Path) -> Option<SessionId> {
    let bytes = Tree::open(root, "the clone").ok()?.read(MARK, MARK_BYTES_MAX).ok()??;
    String::from_utf8_lossy(&bytes).lines().find_map(|line| parse(line.strip_prefix(WORD)?))
}

fn parse(hex: &str) -> Option<SessionId> {
    let digits: Vec<u8> = hex.chars().map(|c| Some(c.to_digit(16)? as u8)).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks(2).map(|pair| pair[0] << 4 | pair.get(1).unwrap_or(&0)).collect();
    Some(SessionId(bytes.try_into().ok().filter(|_| digits.len() == 32)?))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_left_until_it_is_taken_away() {
        let dir = tempfile::tempdir().unwrap();
        let session = SessionId(std::array::from_fn(|i| i as u8 * 17));
        assert_eq!(read(dir.path()), None);
        for _ in 0..2 {
            leave(dir.path(), session).unwrap();
            assert_eq!(read(dir.path()), Some(session));
        }
        assert_eq!(fs::metadata(dir.path().join("etc/ka")).unwrap().permissions().mode() & 0o777, 0o700);
        take_away(dir.path());
        assert_eq!(read(dir.path()), None);
        for text in ["session", "session 12", &format!("session {session}0"), &format!(" session {session}")]
        {
            fs::write(dir.path().join("etc/ka/clone"), text).unwrap();
            assert_eq!(read(dir.path()), None, "{text}");
        }
    }
}
