//! A word as a shell takes it.

use std::ffi::OsStr;

use crate::types::is_hidden;

/// A word as a shell takes it.
#[must_use]
pub fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else if word.chars().any(is_hidden) {
        let escaped: String =
            word.chars().map(|c| if c == '\'' { r"\'".into() } else { escaped(c) }).collect();
        format!("$'{escaped}'")
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

pub(crate) fn escaped(c: char) -> String {
    match c {
        '\\' => r"\\".into(),
        c if is_hidden(c) => format!(r"\U{:08x}", u32::from(c)),
        c => c.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_through_a_shell() {
        for (word, text) in [
            ("abc-1.2", "abc-1.2"),
            ("", "''"),
            ("(cd /dir && tar c *)", "'(cd /dir && tar c *)'"),
            ("it's", r"'it'\''s'"),
            ("a\nb'\\", r"$'a\U0000000ab\'\\'"),
            ("a\u{202e}b", r"$'a\U0000202eb'"),
        ] {
            assert_eq!(quoted(OsStr::new(word)), text);
        }
    }
}
