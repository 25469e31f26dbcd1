//! Removes what a clone must not have in common with the golden node.
//!
//! The host name and the keys by which ssh knows a host stay: an admin may want either.

use ka_desc::error::Error;
use ka_desc::system::tree::Tree;

/// Files that hold what only one machine may have, and are made anew when they are missing: where, how their names
/// begin and end, and what they are.
const OWN: [(&str, &str, &str, &str); 14] = [
    ("/var/lib/systemd", "random-seed", "", "seed of random numbers"),
    ("/var/lib/urandom", "random-seed", "", "seed of random numbers"),
    ("/var/lib/systemd", "credential.secret", "", "key of systemd's credentials"),
    ("/var/lib/dhcp", "", ".leases", "DHCP lease"),
    ("/var/lib/dhclient", "", ".leases", "DHCP lease"),
    ("/var/lib/dhclient", "", ".lease", "DHCP lease"),
    ("/var/lib/NetworkManager", "", ".lease", "DHCP lease"),
    ("/var/lib/dhcpcd", "", ".lease", "DHCP lease"),
    ("/var/lib/dhcpcd", "duid", "", "DHCP identity"),
    ("/var/lib/dhcpcd", "secret", "", "key of its addresses"),
    ("/etc", "dhcpcd.duid", "", "DHCP identity"),
    ("/etc", "dhcpcd.secret", "", "key of its addresses"),
    ("/etc/udev/rules.d", "70-persistent-net.rules", "", "names of the golden node's network cards"),
    ("/etc/udev/rules.d", "75-persistent-net.rules", "", "names of the golden node's network cards"),
];

/// Takes it away, and gives a sentence for each. `esp` is where the EFI system partition is mounted.
pub(crate) fn make(tree: &Tree, esp: Option<&str>) -> Result<Vec<String>, Error> {
    const ID: &str = "/etc/machine-id";
    const DBUS_ID: &str = "/var/lib/dbus/machine-id";
    let mut changed = Vec::new();
    if tree.read(ID, 4096)?.is_some_and(|id| !id.is_empty()) {
        // Empty, not missing: systemd then takes a new one, and does not ask who is booting for the first time.
        tree.replace(ID, b"")?;
        changed.push(format!("{ID} is empty: the clone takes one of its own when it boots"));
    }
    if tree.is_own_file(DBUS_ID) && tree.remove(DBUS_ID)? {
        changed.push(format!("{DBUS_ID} is gone: it is made from {ID}"));
    }
    let loader = esp.map(|esp| (format!("{esp}/loader"), "random-seed", "", "seed of random numbers"));
    let all = OWN.iter().map(|(dir, start, end, what)| ((*dir).to_owned(), *start, *end, *what));
    for (dir, start, end, what) in all.chain(loader) {
        for name in tree.list(&dir)? {
            let is =
                if end.is_empty() { name == start } else { name.starts_with(start) && name.ends_with(end) };
            if is && tree.remove(&format!("{dir}/{name}"))? {
                changed.push(format!("{dir}/{name} is gone: {what}"));
            }
        }
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_what_is_there_is_changed_and_told() {
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree::open(dir.path(), "the clone").unwrap();
        assert_eq!(make(&tree, None).unwrap(), [""; 0]);
        let file = |path: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "golden").unwrap();
        };
        for path in [
            "etc/machine-id",
            "etc/hostname",
            "etc/ssh/ssh_host_ed25519_key",
            "etc/udev/rules.d/70-persistent-net.rules",
            "var/lib/dbus/machine-id",
            "var/lib/systemd/random-seed",
            "var/lib/systemd/credential.secret",
            "var/lib/dhcp/dhclient.eth0.leases",
            "var/lib/NetworkManager/internal-1-eth0.lease",
            "var/lib/NetworkManager/timestamps",
            "efi/loader/random-seed",
        ] {
            file(path);
        }
        let changed = make(&tree, Some("/efi")).unwrap();
        assert_eq!(changed.len(), 8, "{changed:#?}");
        assert_eq!(fs::read(dir.path().join("etc/machine-id")).unwrap(), b"");
        for stays in ["etc/hostname", "etc/ssh/ssh_host_ed25519_key", "var/lib/NetworkManager/timestamps"] {
            assert!(dir.path().join(stays).exists(), "{stays}");
        }
        assert_eq!(make(&tree, Some("/efi")).unwrap(), [""; 0], "once is enough");
        symlink("/etc/machine-id", dir.path().join("var/lib/dbus/machine-id")).unwrap();
        assert_eq!(make(&tree, None).unwrap(), [""; 0], "what leads to the other one is no file of its own");
    }
}
