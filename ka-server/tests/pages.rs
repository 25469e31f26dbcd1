//! Help, manual pages and completions of all programs here, in the shells that people use.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use ka_client::cli::{install, receive as client};
use ka_desc::cli as desc;
use ka_desc::cli::pages::{Generate, Page, Shell, asked};
use ka_server::cli::{ka_d, server};
use tempfile::TempDir;

/// A program: its command line, and what its pages say, by subcommand.
struct Program {
    command: fn() -> clap::Command,
    page: fn(Option<&str>) -> Page,
}

const PROGRAMS: [Program; 5] = [
    Program { command: ka_d::command, page: ka_d::page },
    Program { command: desc::command, page: desc::page },
    Program { command: server::Options::command, page: |_| server::page() },
    Program { command: client::Options::command, page: |_| client::page() },
    Program { command: install::Options::command, page: |_| install::page() },
];

impl Program {
    fn name(&self) -> String {
        (self.command)().get_name().to_owned()
    }

    /// Its subcommands, and none for the program itself.
    fn subcommands(&self) -> Vec<Option<String>> {
        let command = (self.command)();
        let subs = command.get_subcommands().map(|sub| Some(sub.get_name().to_owned()));
        [None].into_iter().chain(subs).collect()
    }

    fn man(&self, subcommand: Option<&str>) -> String {
        let args =
            [Some(self.name().as_str()), subcommand, Some("--man")].map(|word| word.map(str::to_owned));
        let matches = (self.command)().try_get_matches_from(args.into_iter().flatten()).unwrap();
        String::from_utf8(asked((self.command)(), &matches, self.page).unwrap()).unwrap()
    }

    fn completions(&self, shell: Shell) -> Vec<u8> {
        let asked = Generate { man: false, completions: Some(shell) };
        asked.text((self.command)(), &Page::default()).unwrap()
    }
}

#[test]
fn every_command_has_examples_that_are_right() {
    for program in PROGRAMS {
        for subcommand in program.subcommands() {
            let page = (program.page)(subcommand.as_deref());
            assert!(!page.examples.is_empty(), "{} {subcommand:?}", program.name());
            for (example, _) in page.examples {
                let words = words(example);
                let read = (program.command)().try_get_matches_from(&words);
                // Help is an answer, too.
                let fine = read.as_ref().map_or_else(|error| !error.use_stderr(), |_| true);
                assert!(fine && words[0] == program.name(), "{example}: {read:?}");
            }
        }
    }
}

/// The words of a command line in which some stand in single quotes, up to where its output goes.
fn words(line: &str) -> Vec<String> {
    let line = line.split(" > ").next().unwrap();
    let quoted = line.split('\'').enumerate();
    quoted
        .flat_map(|(at, part)| {
            let inside = at % 2 == 1;
            let parts = if inside { vec![part] } else { part.split_whitespace().collect() };
            parts.into_iter().map(str::to_owned).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn every_command_has_help_and_a_manual_page_with_examples() {
    for program in PROGRAMS {
        for subcommand in program.subcommands() {
            let sub = subcommand.as_deref();
            let name =
                [Some(program.name().as_str()), sub].into_iter().flatten().collect::<Vec<_>>().join("-");
            let man = program.man(sub);
            let title = format!(".TH {name} 1");
            assert!(man.contains(&title), "{man}");
            for section in
                ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "\"EXIT STATUS\"", "EXAMPLES", "\"SEE ALSO\""]
            {
                assert!(man.contains(&format!("\n.SH {section}\n")), "{name}: {section}: {man}");
            }
            let mut command = (program.command)();
            let command =
                sub.map_or(&mut command.clone(), |sub| command.find_subcommand_mut(sub).unwrap()).clone();
            let help = command.clone().render_long_help().to_string();
            for part in ["Examples:\n  ", "\nExit status:\n  0  ", "--man", "Print version"] {
                let own = sub.is_none() || part != "Print version";
                assert!(!own || help.contains(part), "{name}: {part}: {help}");
            }
            assert!(sub.is_some() || help.contains("--completions"), "{help}");
            // Who mistypes a subcommand is shown the usage.
            let usage = command.clone().render_usage().to_string();
            let subs = command.get_subcommands().map(|sub| sub.get_name().to_owned());
            subs.filter(|sub| sub != "help").for_each(|sub| assert!(usage.contains(&sub), "{sub}: {usage}"));
            assert!(command.get_about().is_some_and(|about| !about.to_string().contains('[')), "{help}");
        }
    }
}

/// A command line that asks for a page does nothing else.
#[test]
fn a_page_is_all_that_is_done() {
    for words in [&["ka-d", "--man", "clone"][..], &["ka-d", "--completions", "bash", "clone"]] {
        let matches = ka_d::command().try_get_matches_from(words);
        assert!(
            matches.map_or(true, |matches| asked(ka_d::command(), &matches, ka_d::page).is_some()),
            "{words:?}"
        );
    }
}

/// Lines that are typed, and the word that a shell makes of the last one: there is one way only to go on.
const TYPED: [(&str, &str); 14] = [
    ("ka-d cl", "clone"),
    ("ka-d clone --finish-t", "--finish-timeout"),
    ("ka-d clone --slow by", "bypass"),
    ("ka-d rescue --kern", "--kernel"),
    ("ka-d --comp", "--completions"),
    ("ka-d help res", "rescue"),
    ("ka-desc capt", "capture"),
    ("ka-desc capture --flex", "--flexible"),
    ("ka-desc apply --deact", "--deactivate"),
    ("ka-desc plan --js", "--json"),
    ("ka-desc help umo", "umount"),
    ("ka-d-server --control-s", "--control-socket"),
    ("ka-d-client --discover-t", "--discover-timeout"),
    ("ka-d-install --then rebo", "reboot"),
];

/// The completions of all programs, each as `file` calls it, in a folder.
fn installed(shell: Shell, file: impl Fn(&str) -> String) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for program in PROGRAMS {
        fs::write(folder.path().join(file(&program.name())), program.completions(shell)).unwrap();
    }
    folder
}

/// The output of a shell that is given a script; `None`, having said so, where there is no such shell.
fn run(program: &str, args: &[&str], script: &str) -> Option<String> {
    let started = Command::new("timeout")
        .arg("60")
        .arg(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .and_then(|mut child| {
            child.stdin.take().unwrap().write_all(script.as_bytes())?;
            child.wait_with_output()
        });
    let output = started.unwrap();
    if output.status.code() == Some(127) {
        let text = format!("the completions of {program} cannot be tested here: there is no {program}");
        assert!(std::env::var_os("KA_EVERYTHING").is_none(), "{text}");
        let _ = writeln!(std::io::stderr(), "{text}");
        return None;
    }
    assert!(output.status.success(), "{program}: {:?}", output.status);
    Some(String::from_utf8(output.stdout).unwrap())
}

/// One line of answers for each line that is typed.
fn holds(shell: &str, answers: &str) {
    assert_eq!(answers.lines().count(), TYPED.len(), "{shell}: {answers}");
    for ((typed, expected), answer) in TYPED.iter().zip(answers.lines()) {
        assert_eq!(answer.trim(), *expected, "{shell}: {typed}");
    }
}

#[test]
fn bash_completes_subcommands_and_options() {
    let folder = installed(Shell::Bash, str::to_owned);
    let mut script = format!("for file in {}/*; do . $file; done\n", folder.path().display());
    for (typed, _) in TYPED {
        // As bash itself does it: the function that is registered, with the command, the word, and the one before.
        script += &format!(
            "COMP_WORDS=({typed}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMPREPLY=()\n\
             set -- $(complete -p ${{COMP_WORDS[0]}}); while [ $1 != -F ]; do shift; done\n\
             $2 ${{COMP_WORDS[0]}} ${{COMP_WORDS[-1]}} ${{COMP_WORDS[-2]}}; echo \"${{COMPREPLY[@]}}\"\n"
        );
    }
    if let Some(answers) = run("bash", &["--norc"], &script) {
        holds("bash", &answers);
    }
}

#[test]
fn fish_completes_subcommands_and_options() {
    let folder = installed(Shell::Fish, |name| format!("{name}.fish"));
    let mut script = format!("for file in {}/*; source $file; end\n", folder.path().display());
    for (typed, _) in TYPED {
        script += &format!("echo (complete --do-complete '{typed}' | string split --fields 1 \\t)\n");
    }
    if let Some(answers) = run("fish", &["--no-config"], &script) {
        holds("fish", &answers);
    }
}

/// In a terminal, because zsh completes nowhere else: each line is typed, a tab, and return; then the program, for which
/// a function stands, says what it was given.
#[test]
fn zsh_completes_subcommands_and_options() {
    let folder = installed(Shell::Zsh, |name| format!("_{name}"));
    let names = PROGRAMS.map(|program| program.name());
    let functions: String =
        names.iter().map(|name| format!("{name}() {{ print -r -- \"GOT<$argv[-1]>\" }}; ")).collect();
    let set_up = format!(
        "fpath=({} $fpath); autoload -Uz compinit; compinit -u -D; {functions} PS1='REA''DY'",
        folder.path().display()
    );
    let mut script = format!("zmodload zsh/zpty; zpty z zsh -f -i; zpty -w z {}\n", quoted(&set_up));
    for (typed, _) in TYPED {
        let keys = quoted(&format!("{typed}\t\r"));
        script += &format!(
            "zpty -r -m z said '*READY*'; zpty -w -n z {keys}; zpty -r -m z said '*GOT<*>*'\n\
             said=${{said##*GOT<}}; print -r -- ${{said%%>*}}\n"
        );
    }
    if let Some(answers) = run("zsh", &["-f"], &script) {
        holds("zsh", &answers);
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
