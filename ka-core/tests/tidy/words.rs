//! Comments: each file says what it is, and doc comments name their subject.

use super::source::files;

/// First words that name nobody.
const PRONOUNS: [&str; 7] = ["Who", "What", "Whoever", "How", "Where", "It", "They"];

/// Of a hundred doc comments so many may begin with one of them.
const PER_HUNDRED: usize = 3;

/// The first lines of doc comments.
fn openings(text: &str) -> Vec<&str> {
    let is_doc = |line: &str| line.trim_start().starts_with("///") || line.trim_start().starts_with("//!");
    let lines: Vec<&str> = text.lines().collect();
    let first = |at: &usize| is_doc(lines[*at]) && (*at == 0 || !is_doc(lines[at - 1]));
    (0..lines.len()).filter(first).map(|at| lines[at].trim_start()).collect()
}

fn begins_with_a_pronoun(line: &str) -> bool {
    let word = line.split(|c: char| !c.is_alphanumeric()).find(|word| !word.is_empty());
    word.is_some_and(|word| PRONOUNS.contains(&word))
}

#[test]
fn every_file_says_what_it_is() {
    for (name, text) in files(&["src"]) {
        assert!(text.starts_with("//! "), "{name} begins with a sentence about itself");
    }
}

#[test]
fn doc_comments_name_their_subject() {
    let all = files(&["src"]);
    let openings: Vec<(&str, &str)> = all
        .iter()
        .flat_map(|(name, text)| openings(text).into_iter().map(move |line| (&name[..], line)))
        .collect();
    let wrong: Vec<_> = openings.iter().filter(|(_, line)| begins_with_a_pronoun(line)).collect();
    assert!(openings.len() > 3000, "doc comments are found");
    let most = openings.len() * PER_HUNDRED / 100;
    assert!(
        wrong.len() <= most,
        "{} of {} begin with a pronoun, at most {most} may: {wrong:#?}",
        wrong.len(),
        openings.len()
    );
}

#[test]
fn a_comment_without_a_subject_is_found() {
    let text = "//! Tree.\n//! What it is.\nfn f() {}\n    /// Who is there.\n    /// Or not.\n// What is no doc comment.\n/// The name.\n";
    assert_eq!(openings(text), ["//! Tree.", "/// Who is there.", "/// The name."]);
    let found: Vec<bool> = openings(text).into_iter().map(begins_with_a_pronoun).collect();
    assert_eq!(found, [false, true, false]);
}
