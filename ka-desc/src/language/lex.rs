//! Text to words: blanks separate them, quotes hold them together, `#` ends a line.

use super::problem::{Problem, Span};
use crate::limits::LINE_CHARS_MAX;

/// A word, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    /// The word stood in quotes, so it is a value and never a keyword.
    pub(super) quoted: bool,
    pub(super) span: Span,
}

/// The words of one line, numbered `line`. What is wrong is told to `problems`, and what is meant is guessed, so that the
/// rest of the line can be read, too. `None`: it is no line of text.
pub(super) fn words(text: &str, line: usize, problems: &mut Vec<Problem>) -> Option<Vec<Word>> {
    let mut problem = |column: usize, width: usize, what: &str, way_out: &str| {
        let span = Span { line, column, width };
        problems.push(Problem { span, what: what.into(), way_out: way_out.into() });
    };
    let chars: Vec<char> = text.strip_suffix('\r').unwrap_or(text).chars().collect();
    if chars.len() > LINE_CHARS_MAX {
        let what =
            format!("a line has at most {LINE_CHARS_MAX} characters, and this one has {}", chars.len());
        problem(1, 1, &what, "is it a desc file at all?");
        return None;
    }
    let blank = |c: char| c.is_whitespace() || c.is_control();
    if let Some(at) = chars.iter().position(|c| c.is_control() && *c != '\t') {
        problem(at + 1, 1, "a control character", "a desc is plain text; delete it");
    }
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
        let text = if quoted {
            at += 1;
            in_quotes(&chars, &mut at, &mut problem)
        } else {
            let word: String =
                chars[at..].iter().take_while(|c| !blank(**c) && **c != '"').copied().collect();
            at += word.chars().count();
            word
        };
        if at < chars.len() && !blank(chars[at]) {
            let way_out = "put a blank between them, or the whole word in quotes";
            problem(at + 1, 1, "a quote next to a word", way_out);
        }
        words.push(Word { text, quoted, span: Span { line, column: start + 1, width: at - start } });
    }
    Some(words)
}

/// The value between quotes, the first of which is before `at`. Behind the last one `at` is left.
fn in_quotes(chars: &[char], at: &mut usize, problem: &mut impl FnMut(usize, usize, &str, &str)) -> String {
    let start = *at;
    let mut word = String::new();
    loop {
        let c = chars.get(*at).copied();
        *at += 1;
        match (c, chars.get(*at)) {
            (None, _) => {
                *at = chars.len();
                problem(start, chars.len() + 1 - start, "a quote that is not closed", "end it with \"");
                return word;
            }
            (Some('"'), _) => return word,
            (Some('\\'), Some(c @ ('"' | '\\'))) => {
                word.push(*c);
                *at += 1;
            }
            (Some('\\'), _) => {
                let way_out = "within quotes, write \\\" for a quote and \\\\ for a backslash";
                problem(*at, 1, "a backslash before something else", way_out);
            }
            (Some(c), _) => word.push(c),
        }
    }
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

    /// The next word, which stays where it is.
    pub(super) fn peek(&self) -> Option<&'a Word> {
        self.words.as_slice().first()
    }

    /// Leaves out words up to one that is `known`.
    pub(super) fn skip_to(&mut self, known: impl Fn(&Word) -> bool) {
        while self.peek().is_some_and(|word| !known(word)) {
            self.next();
        }
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
        let mut problems = Vec::new();
        let words = words(line, 1, &mut problems).unwrap();
        assert_eq!(problems, [], "{line}");
        words.into_iter().map(|w| w.text).collect()
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
            let mut problems = Vec::new();
            words(line, 1, &mut problems);
            assert_eq!(problems[0].span.column, column, "{line:?}");
        }
        assert!(words(&"x".repeat(2000), 1, &mut Vec::new()).is_none());
    }

    #[test]
    fn what_is_wrong_with_a_word_does_not_hide_the_next() {
        let mut problems = Vec::new();
        let words = words("a\"b\\n\" c\u{7}d \"e", 1, &mut problems).unwrap();
        let columns: Vec<usize> = problems.iter().map(|p| p.span.column).collect();
        assert_eq!(columns, [9, 2, 4, 12]);
        let texts: Vec<&str> = words.iter().map(|w| w.text.as_str()).collect();
        assert_eq!(texts, ["a", "bn", "c", "d", "e"]);
    }
}
