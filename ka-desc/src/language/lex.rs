//! Text to words: blanks separate them, quotes hold them together, `#` ends a line.

use super::problem::{Problem, Span};
use crate::limits::LINE_CHARS_MAX;

/// A word, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    /// It stood in quotes, so it is a value and never a keyword.
    pub(super) quoted: bool,
    pub(super) span: Span,
}

/// The words of one line, numbered `line`.
pub(super) fn words(text: &str, line: usize) -> Result<Vec<Word>, Problem> {
    let problem = |column: usize, width: usize, what: &str, way_out: &str| Problem {
        span: Span { line, column, width },
        what: what.into(),
        way_out: way_out.into(),
    };
    let chars: Vec<char> = text.strip_suffix('\r').unwrap_or(text).chars().collect();
    if chars.len() > LINE_CHARS_MAX {
        let what =
            format!("a line has at most {LINE_CHARS_MAX} characters, and this one has {}", chars.len());
        return Err(problem(1, 1, &what, "is it a desc file at all?"));
    }
    if let Some(at) = chars.iter().position(|c| c.is_control() && *c != '\t') {
        return Err(problem(at + 1, 1, "a control character", "a desc is plain text; delete it"));
    }
    let blank = |c: char| c.is_whitespace();
    let mut words = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        if blank(chars[at]) {
            at += 1;
            continue;
        }
        if chars[at] == '#' {
            break;
        }
        let start = at;
        let quoted = chars[at] == '"';
        let mut word = String::new();
        if quoted {
            at += 1;
            loop {
                match chars.get(at) {
                    None => {
                        let width = chars.len() - start;
                        return Err(problem(
                            start + 1,
                            width,
                            "a quote that is not closed",
                            "end it with \"",
                        ));
                    }
                    Some('"') => break,
                    Some('\\') => {
                        at += 1;
                        match chars.get(at) {
                            Some(c @ ('"' | '\\')) => word.push(*c),
                            _ => {
                                let way_out =
                                    "within quotes, write \\\" for a quote and \\\\ for a backslash";
                                return Err(problem(at, 1, "a backslash before something else", way_out));
                            }
                        }
                    }
                    Some(c) => word.push(*c),
                }
                at += 1;
            }
            at += 1;
        }
        while !quoted && at < chars.len() && !blank(chars[at]) && chars[at] != '"' {
            word.push(chars[at]);
            at += 1;
        }
        if at < chars.len() && !blank(chars[at]) {
            let way_out = "put a blank between them, or the whole word in quotes";
            return Err(problem(at + 1, 1, "a quote next to a word", way_out));
        }
        words.push(Word { text: word, quoted, span: Span { line, column: start + 1, width: at - start } });
    }
    Ok(words)
}

/// The rest of a line.
pub(super) struct Rest<'a> {
    words: std::slice::Iter<'a, Word>,
    /// The word before.
    last: &'a Word,
}

impl<'a> Rest<'a> {
    /// All behind the first of a line's words.
    pub(super) fn behind(first: &'a Word, words: &'a [Word]) -> Self {
        Self { words: words.iter(), last: first }
    }

    pub(super) fn next(&mut self) -> Option<&'a Word> {
        let word = self.words.next()?;
        self.last = word;
        Some(word)
    }

    /// The next word, which must be there; `expected` says what it would be.
    pub(super) fn need(&mut self, expected: &str) -> Result<&'a Word, Problem> {
        let Span { line, column, width } = self.last.span;
        let behind = Span { line, column: column + width, width: 1 };
        self.next().ok_or_else(|| Problem {
            span: behind,
            what: "the line ends too early".into(),
            way_out: format!("expected {expected}"),
        })
    }

    pub(super) fn end(&mut self) -> Result<(), Problem> {
        self.next().map_or(Ok(()), |word| wrong(word, "one word too many", "the line ends before it"))
    }
}

pub(super) fn wrong<T>(
    word: &Word,
    what: impl Into<String>,
    way_out: impl Into<String>,
) -> Result<T, Problem> {
    Err(Problem { span: word.span, what: what.into(), way_out: way_out.into() })
}

/// A value as the text must have it for [`words`] to read it back.
pub(super) fn quote(value: &str) -> String {
    let bare = !value.is_empty()
        && !value.starts_with('#')
        && !value.chars().any(|c| c.is_whitespace() || matches!(c, '"' | '\\'));
    if bare { value.into() } else { format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(line: &str) -> Vec<String> {
        words(line, 1).unwrap().into_iter().map(|w| w.text).collect()
    }

    #[test]
    fn words_quotes_and_comments() {
        assert_eq!(texts("\tlinux  20G # the rest\r"), ["linux", "20G"]);
        assert_eq!(texts(r#"label "My \"old\" \\ disk" x#y"#), ["label", r#"My "old" \ disk"#, "x#y"]);
        assert_eq!(texts("   # indented"), Vec::<String>::new());
        for value in ["", "a b", "#x", "a\"b", "\\", "plain", "x#y", "ü ü"] {
            assert_eq!(texts(&quote(value)), [value]);
        }
    }

    #[test]
    fn what_is_no_line_of_words() {
        for (line, column) in
            [("a \"b", 3), ("a\"b\"", 2), ("\"a\"b", 4), ("\"a\\nb\"", 3), ("a\u{7}", 2), ("a\0b", 2)]
        {
            assert_eq!(words(line, 1).unwrap_err().span.column, column, "{line:?}");
        }
        assert!(words(&"x".repeat(2000), 1).is_err());
    }
}
