//! The problems of a text: all of them at once, each with its place, a caret, and the way out.

use std::fmt;

use crate::limits::PROBLEMS_MAX;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The place of the problem in the text.
    pub span: Span,
    /// The problem, in words.
    pub what: String,
    /// The way out: what was expected, or what to write instead.
    pub way_out: String,
}

/// A stretch of one line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// The line, from 1.
    pub line: usize,
    /// The first character, from 1.
    pub column: usize,
    /// The number of characters.
    pub width: usize,
}

/// Everything that is wrong with a text, in its order, with the lines it speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    list: Vec<(Problem, String)>,
    more: usize,
}

impl Problems {
    /// Puts the problems in order, next to their lines of `text`; tells of the first 20 (`PROBLEMS_MAX`).
    pub(super) fn new(mut problems: Vec<Problem>, text: &str) -> Self {
        problems.sort_by_key(|p| p.span);
        let more = problems.len().saturating_sub(PROBLEMS_MAX);
        problems.truncate(PROBLEMS_MAX);
        let line = |p: &Problem| text.split('\n').nth(p.span.line.saturating_sub(1)).unwrap_or("").to_owned();
        Self { list: problems.into_iter().map(|p| (p.clone(), line(&p))).collect(), more }
    }

    /// The problems.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter().map(|(problem, _)| problem)
    }

    /// All of them as text, in the manner of compilers; `file` is what the text is called.
    #[must_use]
    pub fn render(&self, file: &str) -> String {
        let mut out = String::new();
        for (Problem { span, what, way_out }, line) in &self.list {
            let gutter = span.line.to_string();
            let blank = " ".repeat(gutter.len());
            // Tabs stay tabs, so that the caret stands below its word however wide they are.
            let before = line.chars().take(span.column - 1).map(|c| if c == '\t' { '\t' } else { ' ' });
            let before: String = before.collect();
            let carets = "^".repeat(span.width.max(1));
            let line: String = line.trim_end().chars().take(crate::limits::LINE_CHARS_MAX).collect();
            out += &format!("{file}:{gutter}:{}: {what}\n", span.column);
            out += &format!(" {gutter} | {line}\n {blank} | {before}{carets}\n {blank} = {way_out}\n");
        }
        if self.more > 0 {
            out += &format!("{file}: {} more problems\n", self.more);
        }
        out
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.render("desc").trim_end())
    }
}

impl std::error::Error for Problems {}
