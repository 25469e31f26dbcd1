//! The sources of all members, parsed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, File, Item, UseTree};

/// The members whose sources are looked at.
pub(crate) const MEMBERS: [&str; 4] = ["ka-core", "ka-desc", "ka-client", "ka-server"];

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A path of modules, the crate first: `ka_core::net::data`.
pub(crate) type Module = Vec<String>;

/// A source file below a member's `src`.
pub(crate) struct Source {
    /// The path from the workspace's root.
    pub(crate) name: String,
    pub(crate) module: Module,
    pub(crate) text: String,
    pub(crate) ast: File,
}

impl Source {
    pub(crate) fn new(name: &str, text: &str) -> Self {
        let ast = syn::parse_file(text).unwrap_or_else(|e| panic!("{name}: {e}"));
        Self { name: name.into(), module: module_of(name), text: text.into(), ast }
    }

    /// The folder below `src` that the file is in, or the file itself if it is in none: `net`, `limits`.
    pub(crate) fn top(&self) -> &str {
        self.module.get(1).map_or("", String::as_str)
    }

    pub(crate) fn member(&self) -> &str {
        self.name.split('/').next().unwrap_or_default()
    }
}

/// `ka-core/src/net/mod.rs` is the module `ka_core::net`.
fn module_of(name: &str) -> Module {
    let (member, path) = name.split_once("/src/").expect("it is below src");
    let path = path.strip_suffix(".rs").unwrap_or(path);
    let mut module = vec![member.replace('-', "_")];
    module.extend(path.split('/').filter(|part| !["lib", "mod"].contains(part)).map(str::to_owned));
    module
}

/// Every `.rs` file below these folders of each member.
pub(crate) fn files(folders: &[&str]) -> Vec<(String, String)> {
    let mut files = Vec::new();
    let mut todo: Vec<PathBuf> = MEMBERS
        .iter()
        .flat_map(|member| folders.iter().map(move |folder| root().join(member).join(folder)))
        .filter(|folder| folder.is_dir())
        .collect();
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(root()).unwrap().display().to_string();
                files.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    files.sort();
    files
}

/// The sources that are not tests, without the programs' seven lines.
pub(crate) fn sources() -> Vec<Source> {
    let all = files(&["src"]).into_iter().filter(|(name, _)| !name.contains("/src/bin/"));
    let all: Vec<Source> = all.map(|(name, text)| Source::new(&name, &text)).collect();
    assert!(all.len() > 150, "the sources are where they were");
    without_tests(all)
}

/// Leaves out the files that are modules for tests only.
pub(crate) fn without_tests(all: Vec<Source>) -> Vec<Source> {
    let mut tests = BTreeSet::new();
    for source in &all {
        for item in &source.ast.items {
            if let Item::Mod(item) = item
                && is_test(&item.attrs)
            {
                let mut module = source.module.clone();
                module.push(item.ident.to_string());
                tests.insert(module);
            }
        }
    }
    all.into_iter().filter(|source| !tests.contains(&source.module)).collect()
}

pub(crate) fn is_test(attrs: &[Attribute]) -> bool {
    attrs.iter().any(|attr| {
        let is_cfg = attr.path().is_ident("cfg");
        let is_only_test = attr.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"));
        (is_cfg && is_only_test) || attr.path().is_ident("test")
    })
}

/// The paths that a file names outside of tests, as the file writes them.
pub(crate) fn paths(ast: &File) -> BTreeSet<Vec<String>> {
    let mut paths = Paths::default();
    paths.visit_file(ast);
    paths.found
}

#[derive(Default)]
struct Paths {
    found: BTreeSet<Vec<String>>,
}

impl Paths {
    fn use_tree(&mut self, before: &[String], tree: &UseTree) {
        let with = |name: String| [before, &[name]].concat();
        match tree {
            UseTree::Path(path) => self.use_tree(&with(path.ident.to_string()), &path.tree),
            UseTree::Name(name) if name.ident == "self" => drop(self.found.insert(before.to_vec())),
            UseTree::Name(name) => drop(self.found.insert(with(name.ident.to_string()))),
            UseTree::Rename(name) if name.ident == "self" => drop(self.found.insert(before.to_vec())),
            UseTree::Rename(name) => drop(self.found.insert(with(name.ident.to_string()))),
            UseTree::Glob(_) => drop(self.found.insert(with("*".into()))),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.use_tree(before, tree)),
        }
    }

    /// Paths within macros, which are not parsed.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) if colons == 2 || path.is_empty() => {
                    path.push(ident.to_string());
                    colons = 0;
                    continue;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' && !path.is_empty() => {
                    colons += 1;
                    continue;
                }
                TokenTree::Ident(ident) => self.path_ended(&mut path, Some(ident.to_string())),
                TokenTree::Group(group) => {
                    self.path_ended(&mut path, None);
                    self.tokens(group.stream());
                }
                _ => self.path_ended(&mut path, None),
            }
            colons = 0;
        }
        self.path_ended(&mut path, None);
    }

    fn path_ended(&mut self, path: &mut Vec<String>, next: Option<String>) {
        if path.len() > 1 {
            self.found.insert(path.clone());
        }
        *path = next.into_iter().collect();
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_test(&item.attrs) {
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !is_test(&item.attrs) {
            self.use_tree(&[], &item.tree);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<_> = path.segments.iter().map(|s| s.ident.to_string()).collect();
        if segments.len() > 1 {
            self.found.insert(segments);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        self.visit_path(&mac.path);
        self.tokens(mac.tokens.clone());
    }

    // `pub(in crate::net)` is no import.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_attribute(&mut self, _: &'ast Attribute) {}
}

/// The modules that each module names, among `sources`.
pub(crate) fn imports(sources: &[Source]) -> BTreeMap<Module, BTreeSet<Module>> {
    let known: BTreeSet<&Module> = sources.iter().map(|source| &source.module).collect();
    let of = |source: &Source| {
        let children = source.ast.items.iter().filter_map(|item| match item {
            Item::Mod(item) if item.content.is_none() => Some(item.ident.to_string()),
            _ => None,
        });
        let children: BTreeSet<String> = children.collect();
        let named = paths(&source.ast).into_iter().filter_map(|path| {
            let full = absolute(&source.module, &children, &path)?;
            (1..=full.len()).rev().map(|n| full[..n].to_vec()).find(|prefix| known.contains(prefix))
        });
        (source.module.clone(), named.filter(|module| *module != source.module).collect())
    };
    sources.iter().map(of).collect()
}

/// A path with the crate first, if it is one of ours.
fn absolute(module: &Module, children: &BTreeSet<String>, path: &[String]) -> Option<Vec<String>> {
    let first = path.first()?.as_str();
    let (base, rest) = match first {
        "crate" => (module[..1].to_vec(), &path[1..]),
        "self" => (module.clone(), &path[1..]),
        "super" => {
            let up = path.iter().take_while(|part| *part == "super").count();
            (module[..module.len().saturating_sub(up)].to_vec(), &path[up..])
        }
        first if MEMBERS.iter().any(|member| member.replace('-', "_") == first) => (Vec::new(), path),
        first if children.contains(first) => (module.clone(), path),
        _ => return None,
    };
    Some([&base[..], rest].concat())
}
