//! Which disk of this machine is meant for which of the golden node's. Pure.
//!
//! Two disks that could be meant are refused. A rule that prefers the right one on 99 machines takes the wrong one on the
//! hundredth.

use std::path::PathBuf;

use ka_core::console::units;
use ka_desc::error::Error;
use ka_desc::machine::Facts;
use ka_desc::write::Want;

/// The disks that are meant, before it is known which ones the golden node has. If there are none it is said why, and
/// whether that may change.
pub(super) fn meant(
    given: &[(Option<String>, PathBuf)],
    here: &[Facts],
) -> Result<Vec<PathBuf>, (bool, String)> {
    match (given, &fixed(here)[..]) {
        ([], []) => Err((true, none(here))),
        ([], [only]) => Ok(vec![only.path.clone()]),
        ([], _) => Err((
            false,
            format!(
                "which disk is meant{}? name it: --disk DEVICE, in a boot entry ka.disk=DEVICE",
                listed(here, ", of ")
            ),
        )),
        _ => Ok(given.iter().map(|(_, path)| path.clone()).collect()),
    }
}

/// The disks that may be meant without being named.
fn fixed(here: &[Facts]) -> Vec<&Facts> {
    here.iter().filter(|facts| !facts.usb && !facts.removable && !facts.read_only).collect()
}

fn none(here: &[Facts]) -> String {
    format!(
        "this machine has no disk that could be meant{}: is its driver there? (--check lists what is)",
        listed(here, " but these, which must be named with --disk: ")
    )
}

/// A disk for each of `names`: the one that was named for it, or the only one that can be meant.
///
/// Disks that hang on USB, can be taken out or cannot be written are not meant unless they are named: the rescue system
/// may have come from one.
pub(super) fn choose(
    names: &[String],
    given: &[(Option<String>, PathBuf)],
    here: &[Facts],
) -> Result<Vec<Want>, Error> {
    let mut wants: Vec<Want> = Vec::new();
    for (name, path) in given {
        let name = match name {
            None if names.len() > 1 => {
                return Err(format!(
                    "--disk {}: the golden node has the disks {}; say which one this is for: --disk NAME={}",
                    path.display(),
                    names.join(", "),
                    path.display()
                )
                .into());
            }
            None => names.first().cloned(),
            Some(name) if !names.contains(name) => {
                return Err(format!(
                    "--disk {name}={}: the golden node has no disk {name}, but {}",
                    path.display(),
                    names.join(", ")
                )
                .into());
            }
            Some(name) => Some(name.clone()),
        };
        wants.push(Want { name, path: Some(path.clone()), expect: Vec::new() });
    }
    let unnamed: Vec<&String> =
        names.iter().filter(|name| !wants.iter().any(|want| want.name.as_ref() == Some(*name))).collect();
    let fixed = fixed(here);
    match (&unnamed[..], &fixed[..], names.len()) {
        ([], ..) => {}
        ([name], [only], 1) => {
            wants.push(Want {
                name: Some((*name).clone()),
                path: Some(only.path.clone()),
                expect: Vec::new(),
            });
        }
        (_, [], _) => return Err(none(here).into()),
        (unnamed, ..) => {
            let name = unnamed[0];
            return Err(format!(
                "which disk is meant for the golden node's {name}{}? name it: --disk {name}=DEVICE, in a boot entry \
                 ka.disk={name}=DEVICE",
                listed(here, ", of ")
            ).into());
        }
    }
    Ok(wants)
}

/// `, of /dev/sda (500 GiB, model), /dev/sdb (4 GiB, USB)`
pub(super) fn listed(here: &[Facts], before: &str) -> String {
    let one = |facts: &Facts| {
        let mut words = vec![units::size(facts.geometry.disk_bytes)];
        words.extend(facts.model.first().cloned());
        words.extend(facts.usb.then(|| "USB".to_owned()));
        words.extend(facts.read_only.then(|| "read-only".to_owned()));
        format!("{} ({})", facts.path.display(), words.join(", "))
    };
    let list: Vec<String> = here.iter().map(one).collect();
    if list.is_empty() { String::new() } else { format!("{before}{}", list.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ka_desc::layout::Geometry;
    use ka_desc::machine::DiskKind;

    fn facts(name: &str, usb: bool) -> Facts {
        Facts {
            path: PathBuf::from("/dev").join(name),
            kind: DiskKind::Disk(name.into()),
            geometry: Geometry { disk_bytes: 1 << 30, sector_bytes: 512 },
            read_only: false,
            removable: false,
            usb,
            serial: Vec::new(),
            model: Vec::new(),
            wwn: Vec::new(),
            uses: Vec::new(),
        }
    }

    fn chosen(names: &[&str], given: &[(Option<&str>, &str)], here: &[Facts]) -> Result<Vec<String>, Error> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let given: Vec<_> =
            given.iter().map(|(name, path)| (name.map(str::to_owned), PathBuf::from(path))).collect();
        let wants = choose(&names, &given, here)?;
        Ok(wants.into_iter().map(|w| format!("{}={}", w.name.unwrap(), w.path.unwrap().display())).collect())
    }

    #[test]
    fn the_only_disk_is_meant_and_a_stick_is_not() {
        let here = [facts("vda", false), facts("sda", true)];
        assert_eq!(chosen(&["sda"], &[], &here).unwrap(), ["sda=/dev/vda"]);
        let said = chosen(&["sda"], &[], &here[1..]).unwrap_err().to_string();
        assert!(said.contains("/dev/sda (1 GiB, USB)"), "{said}");
        assert!(chosen(&["sda"], &[], &[]).unwrap_err().to_string().contains("no disk"));
    }

    #[test]
    fn one_of_two_must_be_named() {
        let here = [facts("sda", false), facts("sdb", false)];
        let said = chosen(&["sda"], &[], &here).unwrap_err().to_string();
        assert!(said.contains("--disk sda=DEVICE") && said.contains("/dev/sdb (1 GiB)"), "{said}");
        assert_eq!(chosen(&["sda"], &[(None, "/dev/sdb")], &here).unwrap(), ["sda=/dev/sdb"]);
        assert!(
            chosen(&["sda"], &[(Some("sdx"), "/dev/sdb")], &here)
                .unwrap_err()
                .to_string()
                .contains("no disk sdx")
        );
    }

    #[test]
    fn before_the_plan_is_known_the_only_disk_is_meant_or_what_was_named() {
        let here = [facts("vda", false), facts("sda", true), facts("vdb", false)];
        let of = |here: &[Facts]| meant(&[], here).map_err(|(may_appear, _)| may_appear);
        assert_eq!(of(&here[..2]), Ok(vec!["/dev/vda".into()]));
        assert_eq!((of(&here), of(&here[1..2]), of(&[])), (Err(false), Err(true), Err(true)));
        let given = [(None, "/dev/sda".into())];
        assert_eq!(meant(&given, &here), Ok(vec!["/dev/sda".into()]));
    }

    #[test]
    fn two_of_two_are_not_guessed() {
        let here = [facts("sda", false), facts("sdb", false)];
        assert!(chosen(&["sda", "sdb"], &[], &here).is_err());
        assert!(chosen(&["sda", "sdb"], &[(Some("sda"), "/dev/sda")], &here).is_err());
        assert!(chosen(&["sda", "sdb"], &[(None, "/dev/sda")], &here).is_err());
        let both = [(Some("sdb"), "/dev/sda"), (Some("sda"), "/dev/sdb")];
        assert_eq!(chosen(&["sda", "sdb"], &both, &here).unwrap(), ["sdb=/dev/sda", "sda=/dev/sdb"]);
    }
}
