//! Keys in files, in the environment, and on the kernel's command line.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::secrets::variable;
use crate::crypto::session_key::Key;
use crate::types::Invalid;

/// Longer than any key, however it is written.
const FILE_BYTES: u64 = 4096;

/// The kernel's command line, in which boot loaders put a key.
const KERNEL: &str = "/proc/cmdline";

/// The word before it there.
const PARAMETER: &str = "ka.key=";

/// The value of an environment variable, unless it is empty. (It is read here, not by the parser of the command line,
/// which would take it for an option that was given.)
#[must_use]
pub fn env(name: &str) -> Option<OsString> {
    variable(name).filter(|value| !value.is_empty())
}

/// The one key that is given: by an option (`key`, `file` or `insecure`), the environment, or the kernel's command line;
/// `None` if nothing is said of a key anywhere.
///
/// # Errors
/// In words: there are too many, or it is mistyped.
pub fn find(key: Option<String>, file: Option<PathBuf>, insecure: bool) -> Result<Option<Key>, Invalid> {
    let text = |name| env(name).map(|value| value.to_string_lossy().into_owned());
    let key = key.or_else(|| text("KA_KEY"));
    let file = file.or_else(|| env("KA_KEY_FILE").map(Into::into));
    choose(key, file, insecure, &|| fs::read_to_string(KERNEL).unwrap_or_default())
}

fn choose(
    key: Option<String>,
    file: Option<PathBuf>,
    insecure: bool,
    kernel: &dyn Fn() -> String,
) -> Result<Option<Key>, Invalid> {
    let given = match (&key, &file) {
        (Some(_), Some(_)) => {
            return Err("--key and --key-file (or KA_KEY and KA_KEY_FILE) are two keys: give one".into());
        }
        (Some(key), None) => Some(parse(key)?),
        (None, Some(path)) => Some(read(path).map_err(|e| e.to_string())?),
        (None, None) => None,
    };
    let line = Zeroizing::new(kernel());
    let booted = || line.split_ascii_whitespace().find_map(|word| word.strip_prefix(PARAMETER));
    match (given, insecure) {
        (Some(_), true) => {
            Err("a key and --insecure (or KA_INSECURE) contradict each other: give one".into())
        }
        (Some(key), false) => Ok(Some(key)),
        (None, true) if booted().is_some() => {
            Err(format!("{KERNEL} has a key ({PARAMETER}…), which --insecure (or KA_INSECURE) contradicts")
                .into())
        }
        (None, true) => Ok(Some(Key::insecure())),
        (None, false) => {
            booted().map(|key| parse(key).map_err(|e| format!("{KERNEL}: {e}").into())).transpose()
        }
    }
}

/// The message about a key that is not given.
pub const NONE: &str = "this session's key is needed: give the one that ka-d-server printed with --key, --key-file or KA_KEY, \
                    or as ka.key=… on the kernel's command line; or start both sides with --insecure (KA_INSECURE=1)";

/// Reads a key from a file.
///
/// # Errors
/// Names the path: it cannot be read, or is no key.
pub fn read(path: &Path) -> io::Result<Key> {
    let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    let mut text = Zeroizing::new(String::new());
    let mut file: Box<dyn Read> = match path.as_os_str() == "-" {
        true => Box::new(io::stdin()),
        false => Box::new(fs::File::open(path).map_err(named)?),
    };
    file.by_ref().take(FILE_BYTES).read_to_string(&mut text).map_err(named)?;
    parse(text.trim()).map_err(|e| named(io::Error::new(io::ErrorKind::InvalidData, e)))
}

fn parse(text: &str) -> Result<Key, Invalid> {
    Key::parse(text).map_err(|e| format!("{e}; copy the one that ka-d-server printed").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_from_one_place() {
        let key = Key::new([3; 12], &[9; 32]);
        let text = key.text().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        fs::write(&path, format!("{}\n", *text)).unwrap();
        let nothing = || String::new();
        let boot = || format!("root=/dev/ram0 ka.key={} quiet\n", *text);

        let find = |key: Option<&str>, file: Option<&Path>, insecure| {
            choose(key.map(Into::into), file.map(Into::into), insecure, &nothing)
        };
        let key = Ok(Some(key));
        assert_eq!(find(Some(&text), None, false), key);
        assert_eq!(find(None, Some(&path), false), key);
        assert_eq!(find(None, None, true), Ok(Some(Key::insecure())));
        assert_eq!(choose(None, None, false, &boot), key);
        assert_eq!(find(None, None, false), Ok(None));
        assert!(choose(None, None, true, &boot).unwrap_err().to_string().contains("contradicts"));
        let none = dir.path().join("none");
        for (a, says) in [
            (find(Some(&text), None, true), "contradict each other"),
            (find(Some(&text), Some(&path), false), "are two keys"),
            (find(Some(&text[1..]), None, false), "it has 49 characters"),
            (find(None, Some(&none), false), "none: No such file"),
        ] {
            let why = a.unwrap_err().to_string();
            assert!(why.contains(says) && !why.contains(&text[..20]), "{why}");
        }
    }
}
