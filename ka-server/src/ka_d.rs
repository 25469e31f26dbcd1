//! `ka-d`: what is done on the golden node so that others become like it.

use std::ffi::OsString;
use std::io::{self, Write};

use clap::{Args, Command, FromArgMatches};
use ka_core::cli::args;
use ka_core::console::exit::Exit;
use ka_core::console::run;
use ka_desc::cli::pages::{Page, asked, with_pages};
use ka_desc::run::Here;

use crate::{clone, rescue};

/// The program's name.
pub const PROGRAM: &str = "ka-d";

/// For help, manual pages and completions.
#[must_use]
pub fn command() -> Command {
    // What is said of a program stands last: options that are added bring words of their own.
    let rescue = rescue::Options::augment_args(Command::new("rescue")).about(
        "Build a rescue system for the nodes from this system: a kernel, an initrd, and the boot entries for them",
    );
    let all = Command::new(PROGRAM)
        .about("Clones this golden node onto others")
        .version(env!("CARGO_PKG_VERSION"))
        .arg_required_else_help(true)
        .subcommand_value_name("clone|rescue")
        .subcommand(clone::cli::Options::command().name("clone"))
        .subcommand(rescue);
    with_pages(all, page)
}

/// The words of help and manual pages besides the options.
#[must_use]
pub fn page(subcommand: Option<&str>) -> Page {
    match subcommand {
        Some("clone") => clone::cli::page(),
        Some(_) => rescue::page(),
        None => Page {
            examples: &[
                ("ka-d clone --dry-run", "shows what clones of this machine would become"),
                ("ka-d rescue /srv/tftp/ka", "builds what the nodes boot"),
                ("ka-d clone -n 30", "waits for thirty nodes, and makes them clones"),
                ("ka-d help clone", "says all about one of them, as `ka-d clone --help` does"),
            ],
            exits: Exit::rows(),
            see_also: &["ka-d-clone(1)", "ka-d-rescue(1)", "ka-d-install(1)", "ka-desc(1)"],
            ..Page::default()
        },
    }
}

/// The whole program, from the command line to the exit status. It must be called before there is a second thread.
pub fn main(args: impl IntoIterator<Item = OsString>) -> Exit {
    let done = command().try_get_matches_from(args).and_then(|matches| {
        if let Some(text) = asked(command(), &matches, page) {
            return Ok(run::print(&text));
        }
        match matches.subcommand() {
            Some(("clone", typed)) => Ok(clone::run(clone::cli::Options::read(typed)?)),
            Some((_, typed)) => Ok(build_rescue(&rescue::Options::from_arg_matches(typed)?)),
            None => Ok(Exit::Usage),
        }
    });
    done.unwrap_or_else(|error| args::refuse(&error))
}

fn build_rescue(options: &rescue::Options) -> Exit {
    match rescue::build(options, &mut Here, &mut say) {
        Ok(entries) => run::print(entries.as_bytes()),
        Err(why) => {
            why.lines().for_each(|line| say(&format!("{PROGRAM}: {line}")));
            Exit::NoStart
        }
    }
}

/// People read standard error.
fn say(text: &str) {
    // Nobody is left to tell when the terminal is gone.
    let _ = writeln!(io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        command().debug_assert();
    }
}
