//! What members and strangers can do: each claim names its test, and each field of a member's messages its bound.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use syn::{Fields, Item, ItemEnum, ItemStruct, Type};

use super::documents::quoted;
use super::source::root;

/// Where the messages of members are.
const MESSAGES: &str = "ka-core/src/wire/control.rs";

/// A cell that says so has no test.
const UNTESTED: &str = "not tested";

/// The rows of tables, as cells, without heads and rulers.
fn rows(text: &str) -> Vec<Vec<&str>> {
    let lines: Vec<_> = text.lines().collect();
    let is_ruler = |at: usize| lines.get(at).is_some_and(|line| line.starts_with("|---"));
    let rows =
        (0..lines.len()).filter(|at| lines[*at].starts_with('|') && !is_ruler(*at) && !is_ruler(at + 1));
    rows.map(|at| lines[at].trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// The tests that a text names, each as its file and its name: `file: name`.
fn tests(text: &str) -> impl Iterator<Item = (&str, &str)> {
    quoted(text).filter_map(|word| word.split_once(": ")).filter(|(file, _)| file.ends_with(".rs"))
}

/// Which of the named tests are not where they should be.
fn missing(text: &str) -> Vec<String> {
    let is_there = |(file, name): &(&str, &str)| {
        fs::read_to_string(root().join(file)).is_ok_and(|source| source.contains(&format!("fn {name}(")))
    };
    tests(text).filter(|test| !is_there(test)).map(|(file, name)| format!("{file}: {name}")).collect()
}

fn document(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}

#[test]
fn tests_that_security_names_are_where_it_says() {
    for name in ["SECURITY.md", "BEHAVIOUR.md"] {
        assert_eq!(missing(&document(name)), [""; 0], "{name}");
    }
}

#[test]
fn each_claim_of_security_names_its_test_or_says_that_there_is_none() {
    let text = document("SECURITY.md");
    let rows = rows(&text);
    assert!(rows.len() > 40, "{rows:?}");
    let has_none = |row: &&Vec<&str>| {
        let last = row.last().unwrap();
        tests(last).next().is_none() && *last != UNTESTED
    };
    let without: Vec<_> = rows.iter().filter(has_none).collect();
    assert!(without.is_empty(), "{without:#?}");
}

/// The names of all fields of an enum's messages, as BEHAVIOUR has them. Structs of the same file are named by their fields,
/// enums by their variants, fields without a name by their types.
fn fields(ast: &syn::File, name: &str) -> BTreeSet<String> {
    let mut types = Types::default();
    for item in &ast.items {
        match item {
            Item::Struct(item) => drop(types.structs.insert(item.ident.to_string(), item)),
            Item::Enum(item) => drop(types.enums.insert(item.ident.to_string(), item)),
            _ => {}
        }
    }
    let mut found = BTreeSet::new();
    for variant in &types.enums[name].variants {
        let message = variant.ident.to_string();
        match variant.fields.iter().next().and_then(|field| types.structs.get(&of(&field.ty))) {
            Some(body) if variant.fields.len() == 1 => types.add(&mut found, &message, &body.fields),
            _ => types.add(&mut found, &message, &variant.fields),
        }
    }
    found
}

#[derive(Default)]
struct Types<'a> {
    structs: BTreeMap<String, &'a ItemStruct>,
    enums: BTreeMap<String, &'a ItemEnum>,
}

impl Types<'_> {
    fn add(&self, found: &mut BTreeSet<String>, before: &str, fields: &Fields) {
        if fields.is_empty() {
            found.insert(before.to_owned());
        }
        for field in fields {
            let ty = of(&field.ty);
            let name = field.ident.as_ref().map_or_else(|| ty.clone(), ToString::to_string);
            let name = format!("{before}.{name}");
            match self.enums.get(&ty) {
                Some(ty) => {
                    for variant in &ty.variants {
                        let name = format!("{name}.{}", variant.ident);
                        match &variant.fields {
                            Fields::Named(_) => self.add(found, &name, &variant.fields),
                            _ => drop(found.insert(name)),
                        }
                    }
                }
                None => drop(found.insert(name)),
            }
        }
    }
}

/// The name of a type, without what it is of.
fn of(ty: &Type) -> String {
    match ty {
        Type::Path(path) => path.path.segments.last().unwrap().ident.to_string(),
        _ => String::new(),
    }
}

#[test]
fn each_field_that_a_member_says_has_its_bound() {
    let ast = syn::parse_file(&document(MESSAGES)).unwrap();
    let text = document("BEHAVIOUR.md");
    let section = text.split("\n### ").find(|section| section.starts_with("§4.11 ")).unwrap();
    let named: Vec<_> =
        rows(section).into_iter().flat_map(|row| quoted(row[0]).collect::<Vec<_>>()).collect();
    let fields = fields(&ast, "ToCoordinator");
    assert!(fields.len() > 25, "{fields:?}");
    assert_eq!(named.iter().collect::<BTreeSet<_>>().len(), named.len(), "a field has two rows");
    assert_eq!(named.into_iter().map(str::to_owned).collect::<BTreeSet<_>>(), fields, "BEHAVIOUR §4.11");
}

#[test]
fn rows_tests_and_fields_are_read() {
    let text = "| a | b |\n|---|---|\n| c | `x.rs: y` and `y` |\n";
    assert_eq!(rows(text), [["c", "`x.rs: y` and `y`"]]);
    assert!(tests(text).eq([("x.rs", "y")]));
    assert_eq!(
        missing("`ka-core/tests/tidy/security.rs: nowhere`, `ka-core/tests/tidy/security.rs: missing`").len(),
        1
    );
    let ast = "enum To { A, B(u8, C), D(D), E(Vec<u8>) } enum C { F(u8), G { h: u8 } } struct D { i: [u8; 3], j: C }";
    let ast = syn::parse_file(ast).unwrap();
    let all = ["A", "B.C.F", "B.C.G.h", "B.u8", "D.i", "D.j.F", "D.j.G.h", "E.Vec"];
    assert_eq!(fields(&ast, "To").into_iter().collect::<Vec<_>>(), all);
}
