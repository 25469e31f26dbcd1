//! `ka-desc`, the program: what was typed, what is shown, what is asked. Decides nothing about disks.

mod exit;
mod fstab;
mod options;
pub mod pages;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use clap::FromArgMatches;
pub use exit::Exit;
use options::{Apply, Capture, Disks, Mount, Plan};
pub use options::{Command, Options, command, page};
use pages::asked;

use crate::capture::capture;
use crate::language::bytes::people;
use crate::language::{Desc, Disk, parse};
use crate::layout::{Found, Geometry, Plan as DiskPlan};
use crate::limits::TEXT_BYTES_MAX;
use crate::machine::{DeviceName, Machine, Refusal};
use crate::run::{DryRun, Here, Runner};
use crate::show::{self, json};
use crate::write::{self, Error, Prepared, Want};

/// How an attempt ends that does not end well: what to say, and the status.
type Ended<T = ()> = Result<T, (String, Exit)>;

/// The whole program, from the command line to the exit status.
pub fn main(args: impl IntoIterator<Item = OsString>) -> Exit {
    let read = command().try_get_matches_from(args).and_then(|matches| {
        let text = asked(command(), &matches, page);
        // Who asks for a page names no file.
        let options = if text.is_none() { Some(Options::from_arg_matches(&matches)?) } else { None };
        Ok((text, options.and_then(|options| options.command)))
    });
    let ended = match read {
        Ok((Some(text), _)) => print(&text),
        Ok((None, Some(command))) => run(command),
        Ok((None, None)) => Ok(()),
        Err(error) => {
            // Nobody is left to tell when the terminal is gone.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Fine };
        }
    };
    match ended {
        Ok(()) => Exit::Fine,
        Err((text, exit)) => {
            for line in text.lines() {
                say(line);
            }
            exit
        }
    }
}

fn run(command: Command) -> Ended {
    match command {
        Command::Check(args) => read_desc(&args.file).map(|desc| {
            let partitions: usize = desc.disks.iter().map(|disk| disk.partitions.len()).sum();
            let s = if partitions == 1 { "" } else { "s" };
            say(&format!("{}: {partitions} partition{s}, no errors", args.file.display()));
        }),
        Command::Plan(args) => plan(&args),
        Command::Apply(args) => apply(&args),
        Command::Capture(args) => capture_disk(&args),
        Command::Mount(args) => mount(&args),
        Command::Umount(args) => {
            write::unmount(&Machine::default(), &mut Here, &args.dir).map_err(|e| ended(&e))
        }
    }
}

fn plan(args: &Plan) -> Ended {
    let desc = read_desc(&args.file)?;
    let mut plans: Vec<(Disk, Option<String>, Option<Found>, DiskPlan)> = Vec::new();
    if args.size.is_empty() {
        let options =
            write::Options { image_sector_bytes: args.disks.sector_size, ..write::Options::default() };
        let machine = Machine::default();
        let found =
            write::find(&machine, &desc.disks, &wants(&machine, &args.disks)?).map_err(|e| ended(&e))?;
        let surveys = found.into_iter().map(|meant| write::survey(&machine, &mut Here, meant, &options));
        for (p, refusals) in each(surveys.map(|survey| survey.map_err(|e| ended(&e))))? {
            for refusal in refusals {
                say(&format!("apply will refuse: {refusal}"));
            }
            plans.push((p.disk, Some(p.facts.path.display().to_string()), p.found, p.plan));
        }
    } else {
        plans = each(desc.disks.into_iter().map(|disk| {
            let mut sizes = args
                .size
                .iter()
                .filter(|s| s.name == disk.name || (s.name.is_none() && args.size.len() == 1));
            let name = disk.name.clone().unwrap_or_default();
            let Some(size) = sizes.next() else {
                return Err((format!("which size has {name}? say --size {name}=SIZE"), Exit::Usage));
            };
            let geometry = Geometry { disk_bytes: size.value, sector_bytes: args.disks.sector_size };
            let plan = DiskPlan::new(&disk, geometry, None)
                .map_err(|e| ended(&Error::Misfit(format!("a disk of {}", people(size.value)).into(), e)))?;
            Ok((disk, None, None, plan))
        }))?;
    }
    if args.json {
        let list = plans.iter().map(|(d, path, found, plan)| {
            json::disk_plan(d.name.as_deref(), path.clone(), plan, found.as_ref())
        });
        let text = serde_json::to_string_pretty(&list.collect::<Vec<_>>()).expect("plans are JSON");
        return print(format!("{text}\n").as_bytes());
    }
    let mut text = String::new();
    for (disk, path, found, plan) in &plans {
        text += &picture(disk, path.as_deref(), found.as_ref(), plan);
    }
    print(text.as_bytes())
}

fn apply(args: &Apply) -> Ended {
    let desc = read_desc(&args.file)?;
    let machine = Machine::default();
    let options = write::Options {
        removable: args.removable,
        deactivate: args.deactivate,
        table_only: args.table_only,
        image_sector_bytes: args.disks.sector_size,
    };
    let all = prepare(&machine, &desc, &args.disks, &options)?;
    for p in &all {
        let text = picture(&p.disk, Some(&p.facts.path.display().to_string()), p.found.as_ref(), &p.plan);
        text.lines().for_each(say);
    }
    if !args.dry_run && !args.table_only && !rustix::process::geteuid().is_root() {
        let text = "making file systems needs root: run it as root, or say --table-only";
        return Err((text.into(), Exit::NoStart));
    }
    let mut dry = DryRun::new(io::stdout());
    let runner: &mut dyn Runner = if args.dry_run { &mut dry } else { &mut Here };
    if !args.dry_run && !args.yes {
        ask(&all)?;
    }
    let mut tell = |step: &write::Step| say(&step.to_string());
    write::apply(&machine, runner, &all, &options, &mut tell).map_err(|e| ended(&e))?;
    if let Some(dir) = &args.mount {
        write::mount(&machine, runner, &all, dir).map_err(|e| ended(&e))?;
    }
    say(if args.dry_run { "nothing was changed" } else { "done" });
    Ok(())
}

/// Whether these disks are really meant: a person must say so.
fn ask(all: &[Prepared]) -> Ended {
    if !io::stdin().is_terminal() {
        let text = "nobody is there to be asked: say --yes if all of that is really to be lost";
        return Err((text.into(), Exit::Refused));
    }
    let names: Vec<String> = all.iter().map(|p| p.facts.path.display().to_string()).collect();
    let _ = write!(io::stderr(), "ka-desc: write {}? Type yes: ", names.join(" and "));
    let mut answer = String::new();
    let heard = io::stdin().read_line(&mut answer);
    if heard.is_ok() && answer.trim() == "yes" {
        Ok(())
    } else {
        Err(("nothing was changed".into(), Exit::Refused))
    }
}

fn mount(args: &Mount) -> Ended {
    let desc = read_desc(&args.file)?;
    let machine = Machine::default();
    let options = write::Options {
        removable: args.removable,
        image_sector_bytes: args.disks.sector_size,
        ..write::Options::default()
    };
    let all = prepare(&machine, &desc, &args.disks, &options)?;
    for p in &all {
        let none = || vec!["there is no table".to_owned()];
        let differences = p.found.as_ref().map_or_else(none, |found| p.plan.differences(found));
        if !differences.is_empty() {
            let text =
                format!("{} is not what this desc makes: {}", p.facts.path.display(), differences.join("; "));
            return Err((text, Exit::Source));
        }
    }
    write::mount(&machine, &mut Here, &all, &args.dir).map_err(|e| ended(&e))
}

fn capture_disk(args: &Capture) -> Ended {
    let machine = Machine::default();
    let path = device(&machine, &args.device)?;
    let io = |e| ended(&Error::Io(path.clone(), e));
    let facts = machine.facts(&path, args.sector_size).map_err(io)?;
    let refusals = crate::machine::refusals(&facts, &crate::machine::Conditions::default());
    let no_disk = |r: &Refusal| matches!(r, Refusal::Partition(..) | Refusal::NoDisk(_) | Refusal::Empty(_));
    if let Some(refusal) = refusals.into_iter().find(no_disk) {
        return Err(ended(&Error::Refused(vec![refusal])));
    }
    // Whether it can be read at all, the kernel says in fewer words than a tool.
    File::open(&facts.path).map_err(io)?;
    let Some(found) = write::look(&mut Here, &facts).map_err(|e| ended(&e))? else {
        return Err((
            format!("{} has no partition table that a desc could make", facts.path.display()),
            Exit::Source,
        ));
    };
    let fstab = match &args.fstab {
        Some(file) => {
            std::fs::read_to_string(file).map_err(|e| (format!("{}: {e}", file.display()), Exit::NoStart))?
        }
        None => fstab::find(&machine, &facts, &found),
    };
    let captured = capture(&found, facts.geometry, &fstab, args.flexible)
        .map_err(|all| (all.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"), Exit::Source))?;
    let Geometry { disk_bytes, sector_bytes } = facts.geometry;
    let mut text = format!(
        "# {}: {}, sectors of {sector_bytes} bytes\ndesc {}\n",
        facts.path.display(),
        people(disk_bytes),
        crate::language::VERSION
    );
    for note in &captured.notes {
        say(note);
        text += &format!("# {note}\n");
    }
    print((text + &captured.desc.to_string()).as_bytes())
}

fn prepare(machine: &Machine, desc: &Desc, disks: &Disks, options: &write::Options) -> Ended<Vec<Prepared>> {
    let found = write::find(machine, &desc.disks, &wants(machine, disks)?).map_err(|e| ended(&e))?;
    let prepared = found.into_iter().map(|meant| write::prepare(machine, &mut Here, meant, options));
    each(prepared.map(|disk| disk.map_err(|e| ended(&e))))
}

/// All of them, or what is wrong with each; the status is that of the first.
fn each<T>(of: impl Iterator<Item = Ended<T>>) -> Ended<Vec<T>> {
    let (fine, wrong): (Vec<_>, Vec<_>) = of.partition(Result::is_ok);
    let texts: Vec<&str> = wrong.iter().filter_map(|e| Some(e.as_ref().err()?.0.as_str())).collect();
    match wrong.iter().find_map(|e| Some(e.as_ref().err()?.1)) {
        Some(exit) => Err((texts.join("\n"), exit)),
        None => Ok(fine.into_iter().flatten().collect()),
    }
}

/// Devices and expectations, put together by the names of the disks.
fn wants(machine: &Machine, disks: &Disks) -> Ended<Vec<Want>> {
    let mut wants: Vec<Want> = Vec::new();
    for d in &disks.disk {
        let path = Some(device(machine, &d.value)?);
        wants.push(Want { name: d.name.clone(), path, expect: Vec::new() });
    }
    for e in &disks.expect {
        match wants.iter_mut().find(|w| w.name == e.name) {
            Some(want) => want.expect.extend(e.value.clone()),
            None => wants.push(Want { name: e.name.clone(), path: None, expect: e.value.clone() }),
        }
    }
    Ok(wants)
}

/// Where a device is.
fn device(machine: &Machine, name: &DeviceName) -> Ended<PathBuf> {
    name.find(machine).map_err(|e| ended(&Error::Io(name.to_string().into(), e)))
}

/// A disk before and after, as people see it.
fn picture(disk: &Disk, path: Option<&str>, found: Option<&Found>, plan: &DiskPlan) -> String {
    const COLUMNS_MAX: usize = 100;
    let width = rustix::termios::tcgetwinsize(io::stdout())
        .map_or(80, |size| usize::from(size.ws_col).clamp(40, COLUMNS_MAX));
    let name = [disk.name.as_deref(), path].into_iter().flatten().collect::<Vec<_>>().join(" = ");
    let Geometry { disk_bytes, sector_bytes } = plan.geometry;
    let mut text = format!("{name}{}", if name.is_empty() { "" } else { ": " });
    text += &format!("{}, sectors of {sector_bytes} bytes, table {}\n", people(disk_bytes), plan.table);
    if path.is_some() {
        text += "before:\n";
        text += &show::bar(&show::before(found, plan.geometry), width);
        match found {
            Some(found) => text += &show::before_table(found, plan.geometry),
            None => text += "  no partition table\n",
        }
        text += "after:\n";
    }
    text += &show::bar(&show::after(plan), width);
    text += &show::plan_table(plan);
    if plan.out_of_reach_bytes() > 0 {
        let lost = people(plan.out_of_reach_bytes());
        text += &format!(
            "an MBR reaches 2^32 sectors: {lost} of this disk are out of reach; `table gpt` reaches all\n"
        );
    }
    let gone = |p: &&crate::layout::FoundPartition| {
        let stays = |q: &&crate::layout::Placed| q.line.action == crate::language::Action::Keep;
        !plan.partitions.iter().filter(stays).any(|q| q.number == p.number)
    };
    let lost: Vec<String> =
        found.iter().flat_map(|f| &f.partitions).filter(gone).map(|p| p.number.to_string()).collect();
    if !lost.is_empty() {
        text += &format!("what is on these partitions will be lost: {}\n", lost.join(", "));
    }
    text
}

fn read_desc(file: &Path) -> Ended<Desc> {
    let name = file.display().to_string();
    let failed = |e: io::Error| (format!("{name}: {e}"), Exit::NoStart);
    let mut text = Vec::new();
    // One byte more than a desc has tells that it is none.
    let most = TEXT_BYTES_MAX as u64 + 1;
    if name == "-" {
        io::stdin().take(most).read_to_end(&mut text).map_err(failed)?;
    } else {
        File::open(file).map_err(failed)?.take(most).read_to_end(&mut text).map_err(failed)?;
    }
    parse(&text).map_err(|problems| (problems.render(&name), Exit::Source))
}

fn ended(error: &Error) -> (String, Exit) {
    (error.to_string(), Exit::of(error))
}

fn print(text: &[u8]) -> Ended {
    io::stdout().write_all(text).map_err(|e| (format!("standard output: {e}"), Exit::NoStart))
}

/// People read standard error.
fn say(text: &str) {
    // Nobody is left to tell when the terminal is gone.
    let _ = writeln!(io::stderr(), "{text}");
}
