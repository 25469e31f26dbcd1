//! `ka-d`: what is done on the golden node so that others become like it.

use std::ffi::OsString;
use std::io::{self, Write};
use std::sync::Arc;

use clap::{Args, Command, FromArgMatches};
use ka_core::cli::args;
use ka_core::console::exit::Exit;
use ka_core::console::reporter::Reporter;
use ka_core::console::{run, secrets};
use ka_desc::cli::pages::{Page, asked, with_pages};
use ka_desc::run::Here;
use rustix::time::{ClockId, clock_gettime};

use super::clone::{self as cloning, Options, Served};
use super::console;
use super::rescue as rescuing;
use crate::clone::{Cloning, Config, Ready, ready};
use crate::keys::Place;
use crate::rescue;

/// The program's name.
pub const PROGRAM: &str = "ka-d";

/// For help, manual pages and completions.
#[must_use]
pub fn command() -> Command {
    // What is said of a program stands last: options that are added bring words of their own.
    let rescue = rescuing::Options::augment_args(Command::new("rescue")).about(
        "Build a rescue system for the nodes from this system: a kernel, an initrd, and the boot entries for them",
    );
    let all = Command::new(PROGRAM)
        .about("Clones this golden node onto others")
        .version(env!("CARGO_PKG_VERSION"))
        .arg_required_else_help(true)
        .subcommand_value_name("clone|rescue")
        .subcommand(Options::command().name("clone"))
        .subcommand(rescue);
    with_pages(all, page)
}

/// The words of help and manual pages besides the options.
#[must_use]
pub fn page(subcommand: Option<&str>) -> Page {
    match subcommand {
        Some("clone") => cloning::page(),
        Some(_) => rescuing::page(),
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
    if let Err(e) = secrets::keep() {
        return run::no_start(PROGRAM, &e);
    }
    let done = command().try_get_matches_from(args).and_then(|matches| {
        if let Some(text) = asked(command(), &matches, page) {
            return Ok(run::print(&text));
        }
        match matches.subcommand() {
            Some(("clone", typed)) => Ok(make_clones(Options::read(typed)?)),
            Some((_, typed)) => Ok(build_rescue(&rescuing::Options::from_arg_matches(typed)?)),
            None => Ok(Exit::Usage),
        }
    });
    done.unwrap_or_else(|error| args::refuse(&error))
}

/// The name of `ka-d clone` in messages.
const CLONE: &str = "ka-d clone";

/// `ka-d clone`. It must be called before there is a second thread.
fn make_clones(mut options: Options) -> Exit {
    let place = Place::own();
    let own = options.session.key.or_place(&place);
    // That needs no golden node.
    if let Some(path) = &options.session.key.make_key {
        let made = options.session.key.make(path);
        let exit = if made.is_ok() { Exit::Fine } else { Exit::NoStart };
        say(&format!("{CLONE}: {}", made.unwrap_or_else(|why| why.to_string())));
        return exit;
    }
    let (dry_run, json) = (options.dry_run, options.session.tell.json);
    let config = options.config(u64::try_from(clock_gettime(ClockId::Realtime).tv_sec).unwrap_or_default());
    let golden = match ready(&config) {
        Ok(golden) => golden,
        Err(problems) => {
            problems.iter().for_each(|problem| say(&format!("{CLONE}: {problem}")));
            return Exit::NoStart;
        }
    };
    if dry_run {
        let shown = io::stdout().write_all(golden.show(json).as_bytes());
        return if shown.is_ok() { Exit::Fine } else { Exit::NoStart };
    }
    let _ = io::stderr().write_all(golden.show(false).as_bytes());
    if own {
        if let Err(why) = place.ready() {
            return run::no_start(CLONE, &io::Error::other(why));
        }
        say(&format!(
            "the nodes' key is in {}; ka-d rescue puts it into boot entries",
            place.key().display()
        ));
    }
    run::block_on(CLONE, serve_clones(options, config, golden))
}

async fn serve_clones(options: Options, config: Config, golden: Ready) -> Exit {
    let tell = match Reporter::new(CLONE, options.session.tell.json) {
        Ok(tell) => tell,
        Err(e) => return run::no_start(CLONE, &e),
    };
    let cloning = Cloning::new();
    let served = Arc::new(Served::new(options, &config, cloning.clone()));
    let exit = console::serve(served, &tell, async move |inbox, told| {
        cloning.run(config, golden, inbox, move |progress| told.take(&progress)).await
    });
    let exit = exit.await;
    tell.finish();
    exit
}

fn build_rescue(options: &rescuing::Options) -> Exit {
    match rescue::build(&options.config(), &mut Here, &mut say) {
        Ok(entries) => run::print(entries.as_bytes()),
        Err(why) => {
            why.to_string().lines().for_each(|line| say(&format!("{PROGRAM}: {line}")));
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
