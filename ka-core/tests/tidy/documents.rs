//! The references of the documents: links, paths, sections, constants, tests and identifiers that they name exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::source::{files, root};

/// The documents whose sections have numbers.
const NUMBERED: [&str; 2] = ["PROTOCOL", "BEHAVIOUR"];

/// The documents, with their names.
fn documents() -> Vec<(String, String)> {
    let folders = ["", "docs", "ka-desc", "ka-core/src"];
    let all = folders.iter().flat_map(|folder| fs::read_dir(root().join(folder)).unwrap().flatten());
    let pages = all.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "md"));
    let name = |path: &Path| path.strip_prefix(root()).unwrap().display().to_string();
    let mut pages: Vec<_> =
        pages.map(|path| (name(&path), prose(&fs::read_to_string(path).unwrap()))).collect();
    pages.sort();
    assert!(pages.len() >= 10, "{pages:?}");
    pages
}

fn document(name: &str) -> String {
    documents().into_iter().find(|(page, _)| page == name).unwrap().1
}

/// The text without its blocks of code.
fn prose(text: &str) -> String {
    text.split("\n```").step_by(2).collect()
}

/// The words in backticks.
pub(crate) fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// The number that a text begins with, such as `7.10.2`.
fn number(text: &str) -> String {
    let digits = text.chars().take_while(|c| c.is_ascii_digit() || *c == '.');
    digits.collect::<String>().trim_end_matches('.').to_owned()
}

/// The sections of a document: a heading, a row or a paragraph begins with each number, and no other one does.
fn sections(text: &str) -> Vec<String> {
    let before = std::iter::once("").chain(text.lines());
    let begins = |(before, line): (&str, &str)| {
        let first = before.is_empty() || line.starts_with(['#', '|']);
        line.trim_start_matches(['#', '|', ' ']).strip_prefix('§').filter(|_| first).map(number)
    };
    let all = before.zip(text.lines()).filter_map(begins);
    // The head of a table has the sign alone.
    let all: Vec<_> = all.filter(|section| !section.is_empty()).collect();
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "a number is given twice: {all:?}");
    all
}

/// The sections that a text cites, each with its document: the one named before it, or else the text's `own`.
fn cited<'a>(text: &'a str, own: &'a str) -> impl Iterator<Item = (&'static str, String)> + 'a {
    let pieces: Vec<_> = text.split('§').collect();
    let citations = pieces.windows(2).map(|pair| (pair[0], number(pair[1])));
    let citations: Vec<_> = citations.filter(|(_, section)| !section.is_empty()).collect();
    citations.into_iter().map(move |(before, section)| {
        let word = before.split_whitespace().next_back().unwrap_or_default();
        let word = word.trim_matches(|c: char| !c.is_alphanumeric()).trim_end_matches(".md");
        let of = |name: &str| NUMBERED.into_iter().find(|numbered| *numbered == name);
        (of(word).or(of(own)).unwrap_or("no document"), section)
    })
}

/// The comments of a source file, as text.
fn comments(source: &str) -> String {
    let lines = source.lines().map(str::trim_start).filter(|line| line.starts_with("//"));
    lines.map(|line| line.trim_start_matches(['/', '!'])).collect::<Vec<_>>().join("\n")
}

/// The name that a link to a heading has.
fn anchor(heading: &str) -> String {
    let plain = |c: &char| c.is_alphanumeric() || "-_ ".contains(*c);
    heading
        .trim_start_matches('#')
        .trim()
        .to_lowercase()
        .chars()
        .filter(plain)
        .collect::<String>()
        .replace(' ', "-")
}

#[test]
fn links_lead_somewhere() {
    for (name, text) in documents() {
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            // `embed.md` is a page of rustdoc, which checks the links to items.
            if link.starts_with("http") || name == "ka-core/src/embed.md" {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let folder = root().join(&name).parent().unwrap().to_owned();
            let path = if file.is_empty() { root().join(&name) } else { folder.join(file) };
            assert!(path.exists(), "{name}: {link}");
            let target = if heading.is_empty() { String::new() } else { fs::read_to_string(path).unwrap() };
            let mut headings = target.lines().filter(|line| line.starts_with('#')).map(anchor);
            assert!(heading.is_empty() || headings.any(|known| known == heading), "{name}: {link}");
        }
    }
}

#[test]
fn paths_exist() {
    let roots =
        ["ka-core/", "ka-server/", "ka-client/", "ka-desc/", "docs/", "fuzz/", "benches/", "tests/", ".ci/"];
    let crates = ["", "ka-core", "ka-server", "ka-client", "ka-desc"];
    // History names what was.
    for (name, text) in documents().iter().filter(|(name, _)| name != "CHANGELOG.md") {
        for path in quoted(text).filter(|word| roots.iter().any(|root| word.starts_with(root))) {
            let path = path.split([' ', ':']).next().unwrap();
            let found = crates.iter().any(|folder| root().join(folder).join(path).exists());
            assert!(found, "{name}: `{path}`");
        }
    }
}

#[test]
fn sections_exist() {
    let known = NUMBERED.map(|name| (name, sections(&document(&format!("{name}.md")))));
    let known: BTreeSet<_> = known
        .iter()
        .flat_map(|(name, all)| all.iter().map(move |section| (*name, section.clone())))
        .collect();
    let comments = files(&["src", "tests"]).into_iter().map(|(name, text)| (name, comments(&text)));
    for (name, text) in documents().into_iter().chain(comments) {
        let own = name.strip_suffix(".md").unwrap_or_default();
        let missing: Vec<_> = cited(&text, own).filter(|cited| !known.contains(cited)).collect();
        assert!(missing.is_empty(), "{name}: {missing:?}");
    }
}

#[test]
fn a_citation_is_of_the_document_before_it_or_of_its_own() {
    let text = "## §1 A\n\n§1.1 See `PROTOCOL.md §2.3`, BEHAVIOUR\n§4 (and\n§5.6).\n\n| § | x |\n| §7 | x |";
    let section = |section: &str| section.to_owned();
    assert_eq!(sections(text), ["1", "1.1", "7"].map(section));
    let own = [("BEHAVIOUR", "1"), ("BEHAVIOUR", "1.1")];
    let all =
        [&own[..], &[("PROTOCOL", "2.3"), ("BEHAVIOUR", "4"), ("BEHAVIOUR", "5.6"), ("BEHAVIOUR", "7")]];
    assert!(cited(text, "BEHAVIOUR").eq(all.concat().into_iter().map(|(of, at)| (of, section(at)))));
    assert!(cited("See §2.", "README").eq([("no document", section("2"))]));
}

#[test]
fn constants_exist() {
    let sources = files(&["src"]);
    let capital = |word: &&str| {
        word.starts_with(|c: char| c.is_ascii_uppercase())
            && word.len() > 2
            && word.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
    };
    // Those are the kernel's.
    let is_foreign = |word: &str| word.starts_with("SO_") || word.starts_with('E') && !word.contains('_');
    let exists = |name: &str| sources.iter().any(|(_, text)| text.contains(&format!("const {name}:")));
    for page in NUMBERED.map(|name| format!("{name}.md")) {
        let text = document(&page);
        let named: BTreeSet<_> = quoted(&text).filter(capital).filter(|word| !is_foreign(word)).collect();
        assert!(named.len() > 20, "{page}: {named:?}");
        // A row that names a file names that of the constant.
        for row in text.lines().filter(|row| row.starts_with('|') && row.contains(".rs`")) {
            let words: Vec<_> = quoted(row).collect();
            let file = fs::read_to_string(root().join("ka-core/src").join(words[1])).unwrap_or_default();
            assert!(file.contains(&format!("const {}:", words[0])), "{page}: {row}");
        }
        let missing: Vec<_> = named.into_iter().filter(|name| !exists(name)).collect();
        assert_eq!(missing, [""; 0], "{page}");
    }
}

#[test]
fn tests_that_promises_name_exist() {
    let sources = files(&["src", "tests"]);
    let promises = document("SPECIFICATION.md");
    let long = |word: &&str| {
        word.matches('_').count() > 2 && word.chars().all(|c| c.is_alphanumeric() || "_…".contains(c))
    };
    let named: BTreeSet<_> = quoted(&promises).filter(long).collect();
    assert!(named.len() > 20, "{named:?}");
    let declared = |name: &str| {
        let before = if name.starts_with('…') { "" } else { "fn " };
        let after = if name.ends_with('…') { "" } else { "(" };
        format!("{before}{}{after}", name.trim_matches('…'))
    };
    let exists = |name: &str| sources.iter().any(|(_, text)| text.contains(&declared(name)));
    let missing: Vec<_> = named.into_iter().filter(|name| !exists(name)).collect();
    assert_eq!(missing, [""; 0], "SPECIFICATION.md");
}

#[test]
fn identifiers_of_the_glossary_exist() {
    let sources = files(&["src"]);
    let glossary = document("docs/glossary.md");
    let named: Vec<_> = quoted(&glossary).filter(|word| word.starts_with("ka_")).collect();
    assert!(named.len() > 30, "{named:?}");
    for path in named {
        let (of, last) = path.rsplit_once("::").unwrap();
        let folder = format!("{}/src/", of.split("::").next().unwrap().replace('_', "-"));
        let owner = of.rsplit("::").next().unwrap();
        let declares = |text: &str, name: &str| {
            ["struct", "enum", "trait", "type", "fn", "const", "mod"]
                .iter()
                .flat_map(|kind| [" ", "(", "<", ";", ":"].map(|after| format!("{kind} {name}{after}")))
                .any(|item| text.contains(&item))
        };
        // A field or a variant is looked for where its type is.
        let member = |text: &str| {
            owner.starts_with(char::is_uppercase)
                && declares(text, owner)
                && [format!("pub {last}:"), format!("    {last}(")].iter().any(|item| text.contains(item))
                || text.contains(&format!("    {last} {{"))
                || text.contains(&format!("    {last},"))
        };
        let found = sources
            .iter()
            .filter(|(name, _)| name.starts_with(&folder))
            .any(|(_, text)| declares(text, last) || member(text));
        assert!(found, "docs/glossary.md: `{path}`");
    }
}
