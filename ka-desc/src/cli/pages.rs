//! The pages of a command line, for people and packagers: examples and statuses in its help, a manual page for each
//! command, and completions.
//!
//! All programs here have theirs from this file, because it is the lowest crate with a command line.

use clap::builder::Resettable;
use clap::{ArgMatches, Args, Command, FromArgMatches};
pub use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};

/// Words and what they mean.
pub type Rows = &'static [(&'static str, &'static str)];

/// The words of a command's help and manual page besides its options.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Command lines, and what they do; if that is not plain.
    pub examples: Rows,
    /// Every status that it ends with, and what that says.
    pub exits: Vec<(u8, &'static str)>,
    /// Environment variables that it heeds.
    pub environment: Rows,
    /// Files that it reads or writes without being told.
    pub files: Rows,
    /// Pages to read next.
    pub see_also: &'static [&'static str],
}

impl Page {
    /// The text below the options in the help.
    #[must_use]
    pub fn help(&self) -> String {
        let mut text = String::from("Examples:\n");
        for (command, what) in self.examples {
            text += &format!("  {command}\n");
            if !what.is_empty() {
                text += &format!("      {what}\n");
            }
        }
        text += "\nExit status:\n";
        for (code, says) in &self.exits {
            text += &format!("  {code}  {says}\n");
        }
        text
    }

    /// The sections behind the options of a manual page.
    fn sections(&self) -> Roff {
        let mut roff = Roff::new();
        let exits: Vec<(String, &str)> =
            self.exits.iter().map(|(code, says)| (code.to_string(), *says)).collect();
        section(&mut roff, "EXIT STATUS", exits.iter().map(|(code, says)| (code.as_str(), *says)));
        section(&mut roff, "ENVIRONMENT", self.environment.iter().copied());
        section(&mut roff, "FILES", self.files.iter().copied());
        section(&mut roff, "EXAMPLES", self.examples.iter().copied());
        if !self.see_also.is_empty() {
            roff.control("SH", ["SEE ALSO"]);
            roff.text([roman(self.see_also.join(", "))]);
        }
        roff
    }
}

fn section<'a>(roff: &mut Roff, title: &str, rows: impl Iterator<Item = (&'a str, &'a str)>) {
    for (at, (word, what)) in rows.enumerate() {
        if at == 0 {
            roff.control("SH", [title]);
        }
        roff.control("TP", []);
        roff.text([bold(word)]);
        roff.text([roman(what)]);
    }
}

/// The texts that readers and packagers ask for, instead of work.
#[derive(Args, Clone, Debug)]
pub struct Generate {
    /// Print the manual page
    #[arg(long, exclusive = true)]
    pub man: bool,

    /// Print the completions for a shell
    #[arg(long, exclusive = true, value_name = "SHELL")]
    pub completions: Option<Shell>,
}

/// The part of [`Generate`] that each subcommand has.
#[derive(Args, Clone, Debug)]
struct OwnPage {
    /// Print the manual page
    #[arg(long, exclusive = true)]
    man: bool,
}

impl Generate {
    /// Whether anything was asked for.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.man || self.completions.is_some()
    }

    /// The text asked for, if any was.
    #[must_use]
    pub fn text(&self, command: Command, page: &Page) -> Option<Vec<u8>> {
        match self.completions {
            Some(shell) => Some(completions(command, shell)),
            None => self.man.then(|| man(command, page)),
        }
    }
}

/// A program with subcommands, each with its page in its help and with `--man`; `page` knows them by the subcommand's
/// name, and the program's own by none.
#[must_use]
pub fn with_pages(command: Command, page: impl Fn(Option<&str>) -> Page) -> Command {
    let command = with::<Generate>(command).after_help(page(None).help()).propagate_version(true);
    command.mut_subcommands(|sub| {
        let help = page(Some(sub.get_name())).help();
        with::<OwnPage>(sub).after_help(help)
    })
}

/// Adds arguments, which would bring words of their own about the whole program.
fn with<T: Args>(command: Command) -> Command {
    let about = Resettable::from(command.get_about().cloned());
    let long = Resettable::from(command.get_long_about().cloned());
    T::augment_args(command).about(about).long_about(long)
}

/// The text that such a program's command line asks for, if it does.
#[must_use]
pub fn asked(
    mut command: Command,
    matches: &ArgMatches,
    page: impl Fn(Option<&str>) -> Page,
) -> Option<Vec<u8>> {
    let own = Generate::from_arg_matches(matches).ok()?;
    match matches.subcommand() {
        // Nothing is done then, wherever it stands.
        Some((name, inner)) if inner.get_flag("man") || own.man => {
            // That gives it its whole name.
            command.build();
            Some(man(command.find_subcommand(name)?.clone(), &page(Some(name))))
        }
        _ => own.text(command, &page(None)),
    }
}

fn man(command: Command, page: &Page) -> Vec<u8> {
    let version = command.get_version().unwrap_or_default().to_owned();
    let man = Man::new(command.clone()).source(format!("ka {version}"));
    let mut text = Vec::new();
    man.render_title(&mut text)
        .and_then(|()| man.render_name_section(&mut text))
        .and_then(|()| synopsis(&command).to_writer(&mut text))
        .and_then(|()| man.render_description_section(&mut text))
        .and_then(|()| man.render_options_section(&mut text))
        .and_then(|()| commands(&command).to_writer(&mut text))
        .and_then(|()| page.sections().to_writer(&mut text))
        .and_then(|()| man.render_version_section(&mut text))
        .expect("a vector takes everything");
    text
}

/// The usage as the help has it, and not each option twice.
fn synopsis(command: &Command) -> Roff {
    let usage = command.clone().render_usage().to_string();
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]);
    roff.text([bold(usage.trim_start_matches("Usage:").trim())]);
    roff
}

/// Each subcommand by its page's name.
fn commands(command: &Command) -> Roff {
    let mut roff = Roff::new();
    let subs = command.get_subcommands().filter(|sub| sub.get_name() != "help");
    for (at, sub) in subs.enumerate() {
        if at == 0 {
            roff.control("SH", ["COMMANDS"]);
        }
        roff.control("TP", []);
        let page = format!("{}-{}", command.get_name(), sub.get_name());
        roff.text([bold(sub.get_name()), roman(" ("), italic(page), roman("(1))")]);
        roff.text([sub.get_about().map_or_else(|| roman(""), |about| roman(about.to_string()))]);
    }
    roff
}

fn completions(mut command: Command, shell: Shell) -> Vec<u8> {
    let name = command.get_name().to_owned();
    // The generator for bash writes a hyphen in a program's name in two ways, and its subcommands are never found: it is
    // given another name, and the shell the right one.
    let plain = if shell == Shell::Bash { name.replace('-', "_") } else { name.clone() };
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, &plain, &mut text);
    let text = String::from_utf8(text).expect("names and words of ours");
    let mended = |line: &str| match shell {
        Shell::Bash if line.trim_start().starts_with("complete ") => {
            line.strip_suffix(&plain).unwrap_or(line).to_owned() + &name
        }
        // To that for fish, the `help` that is typed is the one that may follow.
        Shell::Fish if line.contains("_using_subcommand help;") => line.replace(" help\" -f", "\" -f"),
        _ => line.to_owned(),
    };
    text.lines().map(|line| mended(line) + "\n").collect::<String>().into_bytes()
}
