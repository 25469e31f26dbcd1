//! Errors are types: nothing that is public fails with a text alone.

use quote::ToTokens;
use syn::visit::{self, Visit};
use syn::{File, ImplItemFn, ItemFn, ItemTrait, ItemType, Signature, Visibility};

use super::source::{is_test, sources};

/// The names of what is `pub` in a file and fails with a `String`, or takes a function that does.
fn failing_with_texts(ast: &File) -> Vec<String> {
    let mut found = Found::default();
    found.visit_file(ast);
    found.0
}

#[derive(Default)]
struct Found(Vec<String>);

impl Found {
    fn look(&mut self, name: &dyn ToString, what: &impl ToTokens) {
        let text = what.to_token_stream().to_string().replace(' ', "");
        let fails = text
            .match_indices("Result<")
            .any(|(at, _)| ["String", "Vec<String>"].contains(&error_of(&text[at + "Result<".len()..])));
        if fails {
            self.0.push(name.to_string());
        }
    }

    fn function(&mut self, visibility: &Visibility, sig: &Signature) {
        if matches!(visibility, Visibility::Public(_)) {
            self.look(&sig.ident, sig);
        }
    }
}

/// The second argument of a `Result`, of which the text begins behind its `<`.
fn error_of(text: &str) -> &str {
    let (mut depth, mut begin) = (0_u32, text.len());
    for (at, c) in text.char_indices() {
        match c {
            '<' | '(' | '[' => depth += 1,
            // The head of an arrow closes nothing.
            '>' if text[..at].ends_with('-') => {}
            '>' if depth == 0 => return text.get(begin..at).unwrap_or_default(),
            '>' | ')' | ']' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => begin = at + 1,
            _ => {}
        }
    }
    ""
}

impl<'ast> Visit<'ast> for Found {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        self.function(&item.vis, &item.sig);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        self.function(&item.vis, &item.sig);
    }

    fn visit_item_trait(&mut self, item: &'ast ItemTrait) {
        if matches!(item.vis, Visibility::Public(_)) {
            self.look(&item.ident, item);
        }
    }

    fn visit_item_type(&mut self, item: &'ast ItemType) {
        if matches!(item.vis, Visibility::Public(_)) {
            self.look(&item.ident, &item.ty);
        }
    }

    fn visit_impl_item_type(&mut self, item: &'ast syn::ImplItemType) {
        if item.ident == "Err" && item.ty.to_token_stream().to_string() == "String" {
            self.0.push("Err".into());
        }
    }
}

#[test]
fn nothing_public_fails_with_a_text_alone() {
    let wrong: Vec<_> = sources()
        .iter()
        .flat_map(|source| {
            failing_with_texts(&source.ast).into_iter().map(|name| format!("{}: {name}", source.name))
        })
        .collect();
    assert_eq!(wrong, [""; 0], "give the error a type");
}

#[test]
fn what_fails_with_a_text_is_found() {
    let text = "
        pub fn a() -> Result<(), String> {}
        pub(crate) fn b() -> Result<(), String> {}
        pub fn c() -> Result<Vec<(u8, String)>, Error> {}
        pub fn d(open: impl Fn(&str) -> Result<Box<dyn Sink>, String>) {}
        pub type E = Box<dyn Fn() -> Result<Vec<u8>, String>>;
        pub trait F { fn f() -> Result<String, String>; }
        impl FromStr for G { type Err = String; }
        impl H { pub fn h() -> Result<String, Vec<String>> {} }
        impl H { pub fn j() -> Result<Vec<String>, H> {} }
        pub fn i() -> io::Result<String> {}
    ";
    assert_eq!(failing_with_texts(&syn::parse_file(text).unwrap()), ["a", "d", "E", "F", "Err", "h"]);
}
