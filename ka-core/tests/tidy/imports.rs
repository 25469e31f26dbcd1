//! Imports run one way: among the files of a folder, among the folders of a crate, and among the crates.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{Module, Source, imports, paths, sources};

/// A member, and what each of its folders may import.
type Member = (&'static str, &'static [(&'static str, &'static [&'static str])]);

/// What each folder, or file that is in none, may import: of its own crate by name, of another one as `ka_desc`.
const MATRIX: &[Member] = &[
    (
        "ka-core",
        &[
            ("time", &[]),
            ("limits", &["time"]),
            ("types", &["limits"]),
            ("crypto", &["types"]),
            ("wire", &["crypto", "limits", "types"]),
            ("tape", &["crypto", "limits", "types", "wire"]),
            ("proto", &["crypto", "limits", "tape", "time", "types", "wire"]),
            ("stream", &["limits"]),
            ("net", &["crypto", "limits", "proto", "stream", "tape", "time", "types", "wire"]),
            ("sim", &["crypto", "limits", "proto", "time", "types", "wire"]),
            ("console", &["crypto", "limits", "net", "stream", "types", "wire"]),
            ("cli", &["console", "crypto", "limits", "net", "types"]),
        ],
    ),
    (
        "ka-desc",
        &[
            ("limits", &[]),
            ("private", &[]),
            ("error", &[]),
            ("run", &["error"]),
            ("phrases", &["run"]),
            ("language", &["limits"]),
            ("layout", &["language", "limits"]),
            ("show", &["language", "layout", "limits"]),
            ("manifest", &["error", "language", "limits"]),
            ("used", &[]),
            ("machine", &["error", "language", "layout", "phrases", "run", "show"]),
            ("system", &["error", "layout", "machine"]),
            (
                "write",
                &["error", "language", "layout", "limits", "machine", "phrases", "run", "show", "system"],
            ),
            ("boot", &["error", "language", "layout", "manifest", "write"]),
            ("capture", &["error", "language", "layout", "limits", "show", "system"]),
            (
                "cli",
                &[
                    "capture", "error", "language", "layout", "limits", "machine", "private", "run", "show",
                    "write",
                ],
            ),
        ],
    ),
    (
        "ka-client",
        &[
            ("receive", &["ka_core", "ka_desc"]),
            ("finish", &["ka_core", "ka_desc"]),
            ("install", &["finish", "receive", "ka_core", "ka_desc"]),
            ("cli", &["install", "receive", "ka_core", "ka_desc"]),
        ],
    ),
    (
        "ka-server",
        &[
            ("keys", &["ka_core", "ka_desc"]),
            ("golden", &["ka_core", "ka_desc"]),
            ("serve", &["keys", "ka_core", "ka_desc"]),
            ("clone", &["golden", "keys", "serve", "ka_core", "ka_desc"]),
            ("rescue", &["keys", "ka_core", "ka_desc"]),
            ("cli", &["clone", "golden", "keys", "rescue", "serve", "ka_core", "ka_desc"]),
        ],
    ),
];

/// A facade's users import from it; files of its own folder import from each other's files, or all would be one circle.
fn facades_of_their_own(imports: &BTreeMap<Module, BTreeSet<Module>>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (from, all) in imports {
        for to in all.iter().filter(|to| to.len() < from.len() && from.starts_with(to)) {
            wrong.push(format!("{} imports from {}, the facade above it", from.join("::"), to.join("::")));
        }
    }
    wrong
}

/// Circles among the files and folders of each folder.
fn circles(imports: &BTreeMap<Module, BTreeSet<Module>>) -> Vec<String> {
    let mut folders: BTreeMap<Module, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for (from, all) in imports {
        for to in all {
            let common = from.iter().zip(to).take_while(|(a, b)| a == b).count();
            if let (Some(a), Some(b)) = (from.get(common), to.get(common)) {
                let folder = folders.entry(from[..common].to_vec()).or_default();
                folder.entry(a.clone()).or_default().insert(b.clone());
            }
        }
    }
    let mut wrong = Vec::new();
    for (folder, edges) in folders {
        for start in edges.keys() {
            let (mut todo, mut seen) = (vec![start.clone()], BTreeSet::new());
            while let Some(at) = todo.pop() {
                for next in edges.get(&at).into_iter().flatten() {
                    if next == start {
                        wrong.push(format!("{}: {start} imports {at}, which imports it", folder.join("::")));
                    } else if seen.insert(next.clone()) {
                        todo.push(next.clone());
                    }
                }
            }
        }
    }
    wrong
}

/// Imports that the matrix does not have.
fn against_the_matrix(sources: &[Source], matrix: &[Member]) -> Vec<String> {
    let mut wrong = Vec::new();
    let all = imports(sources);
    for source in sources.iter().filter(|source| !source.top().is_empty()) {
        let folders = matrix.iter().find(|(member, _)| *member == source.member());
        let row = folders.and_then(|(_, folders)| folders.iter().find(|(folder, _)| *folder == source.top()));
        let Some((_, may)) = row else {
            wrong.push(format!("{}: the matrix has no row for {}", source.name, source.top()));
            continue;
        };
        for to in &all[&source.module] {
            let same_crate = to[0] == source.module[0];
            let name = if same_crate { to.get(1).map_or("", String::as_str) } else { &to[0] };
            if name != source.top() && !may.contains(&name) {
                wrong.push(format!("{} imports {}", source.name, to.join("::")));
            }
        }
    }
    wrong
}

/// Folders that the matrix names, and that are not there.
fn without_a_folder(sources: &[Source], matrix: &[Member]) -> Vec<String> {
    let there: BTreeSet<(&str, &str)> = sources.iter().map(|s| (s.member(), s.top())).collect();
    let rows =
        matrix.iter().flat_map(|(member, rows)| rows.iter().map(move |(folder, _)| (*member, *folder)));
    rows.filter(|row| !there.contains(row))
        .map(|(member, folder)| format!("{member} has no {folder}"))
        .collect()
}

/// Files outside of these folders that name one of these crates.
fn that_name(sources: &[Source], crates: &[&str], folders: &[&str]) -> Vec<String> {
    let names = |source: &&Source| {
        let all = paths(&source.ast);
        all.iter().any(|path| crates.contains(&path[0].as_str()))
    };
    let found = sources.iter().filter(|source| !folders.contains(&source.top())).filter(names);
    found.map(|source| source.name.clone()).collect()
}

#[test]
fn imports_make_no_circle() {
    let all = imports(&sources());
    assert!(all.values().map(BTreeSet::len).sum::<usize>() > 500, "imports are found");
    assert_eq!(facades_of_their_own(&all), [""; 0]);
    assert_eq!(circles(&all), [""; 0]);
}

#[test]
fn each_folder_imports_only_what_the_matrix_allows() {
    let sources = sources();
    assert_eq!(against_the_matrix(&sources, MATRIX), [""; 0]);
    assert_eq!(without_a_folder(&sources, MATRIX), [""; 0]);
}

#[test]
fn only_command_lines_know_clap_and_only_they_and_the_console_print() {
    let sources = sources();
    assert_eq!(that_name(&sources, &["clap", "clap_complete", "clap_mangen"], &["cli"]), [""; 0]);
    let prints = |source: &&Source| {
        let macros = ["println!(", "print!(", "eprintln!(", "eprint!(", "dbg!("];
        let streams = ["io::stdout()", "io::stderr()"];
        let code = source.text.split("#[cfg(test)]").next().unwrap_or_default();
        let own = code.replace("rustix::stdio::", "");
        !["cli", "console"].contains(&source.top())
            && (macros.iter().any(|text| code.contains(text))
                || streams.iter().any(|text| own.contains(text)))
    };
    let found: Vec<_> = sources.iter().filter(prints).map(|source| &source.name).collect();
    // A command's own errors go where the program's do.
    assert_eq!(found, ["ka-core/src/stream/command.rs"]);
}

#[test]
fn what_breaks_these_rules_is_found() {
    let made = |files: &[(&str, &str)]| -> Vec<Source> {
        files.iter().map(|(name, text)| Source::new(&format!("ka-core/src/{name}.rs"), text)).collect()
    };
    let circle = made(&[
        ("lib", "mod a;"),
        ("a/mod", "mod b; mod c; pub use b::B;"),
        ("a/b", "use super::c::C; pub struct B;"),
        ("a/c", "fn f() { println!(\"{}\", super::b::g()); }"),
        ("a/d", "#[cfg(test)] mod tests { use super::super::b::B; }"),
    ]);
    let all = imports(&circle);
    assert_eq!(circles(&all).len(), 2, "{:?}", circles(&all));
    assert_eq!(facades_of_their_own(&all), [""; 0]);
    let facade = made(&[("a/mod", "mod b; pub use b::B;"), ("a/b", "use super::Other;")]);
    assert_eq!(facades_of_their_own(&imports(&facade)).len(), 1);
    let rows: &[Member] = &[("ka-core", &[("a", &[]), ("gone", &[])])];
    let wrong = made(&[("a/mod", "use crate::b::B;"), ("b", "use clap::Args;")]);
    assert_eq!(against_the_matrix(&wrong, rows).len(), 2);
    assert_eq!(without_a_folder(&wrong, rows), ["ka-core has no gone"]);
    assert_eq!(that_name(&wrong, &["clap"], &["a"]), ["ka-core/src/b.rs"]);
}
