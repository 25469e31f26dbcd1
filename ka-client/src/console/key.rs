//! Keys on command lines, in files, in the environment, and on the kernel's command line.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::FalseyValueParser;
use ka_core::key::Key;
use zeroize::Zeroizing;

/// Longer than any key, however it is written.
const FILE_BYTES: u64 = 4096;

/// Where boot loaders put a key.
const KERNEL: &str = "/proc/cmdline";

/// The word before it there.
const PARAMETER: &str = "ka.key=";

/// What lets this node in.
#[derive(Args, Clone)]
#[command(next_help_heading = "Security")]
pub struct KeyArgs {
    /// The key that ka-d-server printed; others on this host can see it, so --key-file, KA_KEY or `ka.key=` on the
    /// kernel's command line are better places
    #[arg(long, value_name = "KEY", env = "KA_KEY", hide_env_values = true)]
    key: Option<String>,

    /// Read the key from FILE, or from standard input if it is `-`
    #[arg(long, value_name = "FILE", env = "KA_KEY_FILE")]
    key_file: Option<PathBuf>,

    #[command(flatten)]
    insecure: InsecureArgs,
}

/// Doing without.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Security")]
pub struct InsecureArgs {
    /// No key on either side: anybody on this network can read, join and forge the session (or set KA_INSECURE=1)
    #[arg(long, env = "KA_INSECURE", value_parser = FalseyValueParser::new())]
    pub insecure: bool,
}

/// Shows no secret.
impl std::fmt::Debug for KeyArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyArgs").field("insecure", &self.insecure.insecure).finish_non_exhaustive()
    }
}

impl KeyArgs {
    /// Whether there is to be none.
    #[must_use]
    pub fn is_insecure(&self) -> bool {
        self.insecure.insecure
    }

    /// The key, from where there is one.
    ///
    /// # Errors
    /// In words: there is none, there are too many, or it is mistyped.
    pub fn key(&self) -> Result<Key, String> {
        self.key_or(&|| fs::read_to_string(KERNEL).unwrap_or_default())
    }

    fn key_or(&self, kernel: &dyn Fn() -> String) -> Result<Key, String> {
        let given = match (&self.key, &self.key_file) {
            (Some(_), Some(_)) => {
                return Err("--key and --key-file (or KA_KEY and KA_KEY_FILE) are two keys: give one".into());
            }
            (Some(key), None) => Some(parse(key)?),
            (None, Some(path)) => Some(read(path)?),
            (None, None) => None,
        };
        match (given, self.insecure.insecure) {
            (Some(_), true) => {
                Err("a key and --insecure (or KA_INSECURE) contradict each other: give one".into())
            }
            (Some(key), false) => Ok(key),
            (None, true) => Ok(Key::insecure()),
            (None, false) => {
                let line = Zeroizing::new(kernel());
                let word = line.split_ascii_whitespace().find_map(|word| word.strip_prefix(PARAMETER));
                word.map_or_else(|| Err(NONE.into()), |key| parse(key).map_err(|e| format!("{KERNEL}: {e}")))
            }
        }
    }
}

const NONE: &str = "this session's key is needed: give the one that ka-d-server printed with --key, --key-file or KA_KEY, \
                    or as ka.key=… on the kernel's command line; or start both sides with --insecure (KA_INSECURE=1)";

/// Reads a key from a file.
///
/// # Errors
/// In words, with the path: it cannot be read, or is no key.
pub fn read(path: &Path) -> Result<Key, String> {
    let named = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let mut text = Zeroizing::new(String::new());
    let mut file: Box<dyn Read> = match path.as_os_str() == "-" {
        true => Box::new(io::stdin()),
        false => Box::new(fs::File::open(path).map_err(|e| named(&e))?),
    };
    file.by_ref().take(FILE_BYTES).read_to_string(&mut text).map_err(|e| named(&e))?;
    parse(text.trim()).map_err(|e| named(&e))
}

fn parse(text: &str) -> Result<Key, String> {
    Key::parse(text).map_err(|e| format!("{e}; copy the one that ka-d-server printed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLIC: [u8; 32] = [9; 32];

    fn args(key: Option<&str>, file: Option<&Path>, insecure: bool) -> KeyArgs {
        KeyArgs {
            key: key.map(Into::into),
            key_file: file.map(Into::into),
            insecure: InsecureArgs { insecure },
        }
    }

    #[test]
    fn a_key_comes_from_one_place() {
        let key = Key::new([3; 12], &PUBLIC);
        let text = key.text().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        fs::write(&path, format!("{}\n", *text)).unwrap();
        let nothing = || String::new();
        let boot = || format!("root=/dev/ram0 ka.key={} quiet\n", *text);

        let find = |a: KeyArgs| a.key_or(&nothing);
        assert_eq!(find(args(Some(&text), None, false)).as_ref(), Ok(&key));
        assert_eq!(find(args(None, Some(&path), false)).as_ref(), Ok(&key));
        assert_eq!(find(args(None, None, true)), Ok(Key::insecure()));
        assert_eq!(args(None, None, false).key_or(&boot).as_ref(), Ok(&key));
        for (a, says) in [
            (args(None, None, false), "or start both sides with --insecure"),
            (args(Some(&text), None, true), "contradict each other"),
            (args(Some(&text), Some(&path), false), "are two keys"),
            (args(Some(&text[1..]), None, false), "it has 49 characters"),
            (args(None, Some(&dir.path().join("none")), false), "none: No such file"),
        ] {
            let why = find(a).unwrap_err();
            assert!(why.contains(says) && !why.contains(&text[..20]), "{why}");
        }
    }
}
