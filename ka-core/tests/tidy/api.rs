//! The public API of each crate as a committed text, so that a change of it is seen, and decided.
//!
//! Left out: the command lines, which are for the programs, and the simulator, which is for tests.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;

use quote::ToTokens;
use syn::{Fields, File, ImplItem, Item, Signature, Type, UseTree, Visibility};

use super::source::{MEMBERS, Module, is_test, root, sources};

/// Modules that are not for embedders.
const LEFT_OUT: [&str; 2] = ["cli", "sim"];

/// The modules of a crate.
struct Crate<'a> {
    modules: BTreeMap<&'a [String], &'a File>,
}

impl Crate<'_> {
    /// Every public item below a module, by the path under which users name it.
    fn list(&self, module: &Module, path: &str, lines: &mut BTreeSet<String>) {
        let Some(file) = self.modules.get(module.as_slice()) else { return };
        for item in &file.items {
            match item {
                Item::Mod(item) if LEFT_OUT.iter().any(|name| item.ident == name) => {}
                Item::Mod(item) if is_public(&item.vis) && !is_test(&item.attrs) => {
                    let inner = [module.as_slice(), &[item.ident.to_string()]].concat();
                    let path = format!("{path}::{}", item.ident);
                    match &item.content {
                        None => self.list(&inner, &path, lines),
                        Some((_, items)) => {
                            items.iter().for_each(|item| self.item(item, module, &path, lines))
                        }
                    }
                }
                Item::Use(item) if is_public(&item.vis) => {
                    self.reexport(&item.tree, module.clone(), path, lines)
                }
                item => self.item(item, module, path, lines),
            }
        }
    }

    fn reexport(&self, tree: &UseTree, mut from: Module, path: &str, lines: &mut BTreeSet<String>) {
        match tree {
            UseTree::Path(part) => {
                match part.ident.to_string().as_str() {
                    "crate" => from.truncate(1),
                    "super" => drop(from.pop()),
                    "self" => {}
                    name => from.push(name.into()),
                }
                self.reexport(&part.tree, from, path, lines);
            }
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.reexport(tree, from.clone(), path, lines));
            }
            UseTree::Name(name) => self.named(&name.ident.to_string(), &from, path, lines),
            UseTree::Glob(_) => self.list(&from, path, lines),
            UseTree::Rename(_) => drop(lines.insert(format!("{path}::{}", text(tree)))),
        }
    }

    /// The item of this name in a module, or what that module re-exports by this name.
    fn named(&self, name: &str, from: &Module, path: &str, lines: &mut BTreeSet<String>) {
        let Some(file) = self.modules.get(from.as_slice()) else {
            lines.insert(format!("{path}::{name}: of another crate, {}", from.join("::")));
            return;
        };
        for item in &file.items {
            match item {
                Item::Use(item) => {
                    if let Some(inner) = names(&item.tree, name, from.clone()) {
                        self.named(name, &inner, path, lines);
                    }
                }
                item if name_of(item).is_some_and(|own| own == name) => self.item(item, from, path, lines),
                _ => {}
            }
        }
    }

    fn item(&self, item: &Item, module: &Module, path: &str, lines: &mut BTreeSet<String>) {
        let mut line = |what: String| {
            lines.insert(format!("{path}::{what}"));
        };
        match item {
            Item::Fn(item) if is_public(&item.vis) => line(signature(&item.sig)),
            Item::Const(item) if is_public(&item.vis) => line(format!("{}: {}", item.ident, text(&item.ty))),
            Item::Type(item) if is_public(&item.vis) => line(format!("{} = {}", item.ident, text(&item.ty))),
            Item::Trait(item) if is_public(&item.vis) => {
                line(format!("{} trait", item.ident));
                for inner in &item.items {
                    if let syn::TraitItem::Fn(inner) = inner {
                        line(format!("{}::{}", item.ident, signature(&inner.sig)));
                    }
                }
            }
            Item::Struct(item) if is_public(&item.vis) => {
                line(format!("{} struct", item.ident));
                fields(&item.fields, false).into_iter().for_each(|f| line(format!("{}::{f}", item.ident)));
                self.methods(&item.ident.to_string(), module, path, lines);
            }
            Item::Enum(item) if is_public(&item.vis) => {
                line(format!("{} enum", item.ident));
                for variant in &item.variants {
                    let all = fields(&variant.fields, true).join(", ");
                    line(format!("{}::{} {{{all}}}", item.ident, variant.ident));
                }
                self.methods(&item.ident.to_string(), module, path, lines);
            }
            _ => {}
        }
    }

    /// The methods of a type, from its own file and from those beside and below it.
    fn methods(&self, name: &str, module: &Module, path: &str, lines: &mut BTreeSet<String>) {
        let folder = &module[..module.len().saturating_sub(1).max(1)];
        let beside = |at: &&[String], file: &File| {
            *at == module
                || (at.starts_with(folder)
                    && !file.items.iter().any(|item| name_of(item).is_some_and(|own| own == name)))
        };
        for (_, file) in self.modules.iter().filter(|(at, file)| beside(at, file)) {
            for item in &file.items {
                let Item::Impl(item) = item else { continue };
                let Type::Path(of) = &*item.self_ty else { continue };
                if item.trait_.is_some() || of.path.segments.last().is_none_or(|last| last.ident != name) {
                    continue;
                }
                for inner in &item.items {
                    if let ImplItem::Fn(inner) = inner
                        && is_public(&inner.vis)
                    {
                        lines.insert(format!("{path}::{name}::{}", signature(&inner.sig)));
                    }
                }
            }
        }
    }
}

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

fn name_of(item: &Item) -> Option<String> {
    Some(match item {
        Item::Fn(item) => item.sig.ident.to_string(),
        Item::Const(item) => item.ident.to_string(),
        Item::Type(item) => item.ident.to_string(),
        Item::Trait(item) => item.ident.to_string(),
        Item::Struct(item) => item.ident.to_string(),
        Item::Enum(item) => item.ident.to_string(),
        _ => return None,
    })
}

/// The module from which a re-export takes this name.
fn names(tree: &UseTree, name: &str, mut from: Module) -> Option<Module> {
    match tree {
        UseTree::Path(part) => {
            from.push(part.ident.to_string());
            names(&part.tree, name, from)
        }
        UseTree::Group(group) => group.items.iter().find_map(|tree| names(tree, name, from.clone())),
        UseTree::Name(own) => (own.ident == name).then_some(from),
        UseTree::Glob(_) | UseTree::Rename(_) => None,
    }
}

fn fields(all: &Fields, private_too: bool) -> Vec<String> {
    all.iter()
        .enumerate()
        .filter(|(_, field)| private_too || is_public(&field.vis))
        .map(|(at, field)| {
            let name = field.ident.as_ref().map_or_else(|| at.to_string(), ToString::to_string);
            format!("{name}: {}", text(&field.ty))
        })
        .collect()
}

fn signature(sig: &Signature) -> String {
    format!("{}: {}", sig.ident, text(sig).replacen(&format!("fn {}", sig.ident), "fn", 1))
}

/// Code without the blanks that tokens have between them.
fn text(code: &impl ToTokens) -> String {
    let mut text = code.to_token_stream().to_string();
    for (from, to) in [
        (" :: ", "::"),
        (":: ", "::"),
        (" < ", "<"),
        (" > ", "> "),
        (" >", ">"),
        ("< ", "<"),
        ("& ", "&"),
        (" ,", ","),
        (" :", ":"),
        (" (", "("),
        ("( ", "("),
        (" )", ")"),
        ("[ ", "["),
        (" ]", "]"),
        (" ;", ";"),
        ("&'_ ", "&"),
    ] {
        text = text.replace(from, to);
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The API of each member, a line for each item.
fn apis() -> Vec<(&'static str, String)> {
    let sources = sources();
    MEMBERS
        .iter()
        .map(|member| {
            let own = sources.iter().filter(|source| source.member() == *member);
            let modules = own.map(|source| (source.module.as_slice(), &source.ast)).collect();
            let name = member.replace('-', "_");
            let mut lines = BTreeSet::new();
            Crate { modules }.list(&vec![name.clone()], &name, &mut lines);
            (*member, lines.into_iter().map(|line| line + "\n").collect())
        })
        .collect()
}

#[test]
fn the_public_api_is_as_it_was_decided() {
    for (member, api) in apis() {
        let path = root().join(format!("docs/api/{member}.txt"));
        if env::var_os("KA_API").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &api).unwrap();
        }
        let decided = fs::read_to_string(&path).unwrap_or_default();
        let difference = |from: &str, without: &str, sign: char| -> Vec<String> {
            let without: BTreeSet<&str> = without.lines().collect();
            from.lines().filter(|line| !without.contains(line)).map(|line| format!("{sign} {line}")).collect()
        };
        let changed = [difference(&decided, &api, '-'), difference(&api, &decided, '+')].concat();
        assert!(
            changed.is_empty(),
            "{}\nthe public API of {member} has changed. If that is meant, write CHANGELOG.md and \
             KA_API=write cargo test -p ka-core --all-features --test tidy api",
            changed.join("\n")
        );
    }
}

#[test]
fn no_engine_has_a_type_of_clap() {
    for (member, api) in apis() {
        assert!(api.lines().count() > 40, "{member} has an API");
        let wrong: Vec<_> = api.lines().filter(|line| line.contains("clap")).collect();
        assert_eq!(wrong, [""; 0], "{member}");
    }
}
