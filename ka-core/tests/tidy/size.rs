//! Sizes: of functions, files and folders; and who imports everything from above.

use std::collections::BTreeMap;

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::source::{Source, files, is_test, sources};

/// The longest function, from its name to its end, in lines.
const FUNCTION_LINES: usize = 80;

/// The longest file, tests included, in lines.
const FILE_LINES: usize = 600;

/// The most lines of a folder's own files, without their tests.
const FOLDER_LINES: usize = 3000;

/// Folders that may have more, because somebody has decided so: a simulated world is one thing, seen from many sides.
const LARGER: [(&str, usize); 1] = [("ka-core/src/sim", 3700)];

#[derive(Default)]
struct Functions {
    long: Vec<(String, usize)>,
}

impl Functions {
    fn look(&mut self, name: &syn::Ident, body: &syn::Block) {
        let lines = body.span().end().line + 1 - name.span().start().line;
        if lines > FUNCTION_LINES {
            self.long.push((name.to_string(), lines));
        }
    }
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.look(&item.sig.ident, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.look(&item.sig.ident, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(body) = &item.default {
            self.look(&item.sig.ident, body);
        }
        visit::visit_trait_item_fn(self, item);
    }
}

fn long_functions(text: &str) -> Vec<(String, usize)> {
    let mut functions = Functions::default();
    functions.visit_file(&syn::parse_file(text).unwrap());
    functions.long
}

/// `use super::*` outside of tests.
#[derive(Default)]
struct Globs(usize);

impl<'ast> Visit<'ast> for Globs {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_use_path(&mut self, path: &'ast syn::UsePath) {
        self.0 += usize::from(path.ident == "super" && matches!(*path.tree, syn::UseTree::Glob(_)));
        visit::visit_use_path(self, path);
    }
}

fn globs(source: &Source) -> usize {
    let mut globs = Globs::default();
    globs.visit_file(&source.ast);
    globs.0
}

/// Lines before the tests.
fn lines(text: &str) -> usize {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().lines().count()
}

#[test]
fn no_function_and_no_file_is_too_long_to_be_read() {
    let mut wrong = Vec::new();
    for (name, text) in files(&["src", "tests", "examples"]) {
        let length = text.lines().count();
        if length > FILE_LINES {
            wrong.push(format!("{name} has {length} lines"));
        }
        let long = long_functions(&text);
        wrong.extend(long.iter().map(|(function, lines)| format!("{name}: {function} has {lines} lines")));
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn no_folder_grows_unnoticed() {
    let mut folders: BTreeMap<String, usize> = BTreeMap::new();
    for source in sources() {
        let folder = source.name.rsplit_once('/').map_or("", |(folder, _)| folder);
        *folders.entry(folder.into()).or_default() += lines(&source.text);
    }
    let most = |folder: &str| {
        LARGER.iter().find(|(larger, _)| *larger == folder).map_or(FOLDER_LINES, |(_, lines)| *lines)
    };
    folders.retain(|folder, lines| *lines > most(folder));
    assert_eq!(folders, BTreeMap::new());
}

#[test]
fn only_tests_import_everything_from_above() {
    let found: Vec<_> = sources().iter().filter(|source| globs(source) > 0).map(|s| s.name.clone()).collect();
    assert_eq!(found, [""; 0]);
}

#[test]
fn what_is_too_long_or_imports_everything_is_found() {
    let long = format!("impl A {{ fn f() {{ {} }} }}", "\n;".repeat(FUNCTION_LINES));
    assert_eq!(long_functions(&long), [("f".to_owned(), FUNCTION_LINES + 1)]);
    let source = |text| globs(&Source::new("ka-core/src/a.rs", text));
    assert_eq!(source("use super::*;"), 1);
    assert_eq!(source("#[cfg(test)] mod tests { use super::*; }"), 0);
}
