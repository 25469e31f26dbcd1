//! The network interfaces worth asking from: the wired ones that carry, and loopback; and the addresses that they have
//! now, of both families.
//!
//! Absent: every wish to know more. What cannot be found out about an interface counts in its favour, because a
//! question too many costs a datagram and one too few costs the session.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::path::{Path, PathBuf};

use socket2::{Domain, Socket, Type};

/// An interface that is up, by one of its addresses. One with two addresses is listed twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name, without the label of an alias.
    pub name: String,
    /// The kernel's number for it: the scope of its link-local IPv6 addresses. 0 if it does not say.
    pub index: u32,
    /// The address.
    pub addr: IpAddr,
    /// The address that reaches all of its neighbours over IPv4, unless it has none.
    pub broadcast: Option<Ipv4Addr>,
    /// Whether it leads to this host only.
    pub loopback: bool,
}

impl Interface {
    /// A socket's address at this interface: a link-local one with its scope.
    #[must_use]
    pub fn at(&self, port: u16) -> SocketAddr {
        on_link(SocketAddr::new(self.addr, port), self.index)
    }
}

/// Every interface worth asking from now. A link may come up later: ask again then.
///
/// With `only` empty these are loopback and the wired interfaces that carry, without wireless ones, tunnels
/// and what containers and virtual machines bring along. Otherwise they are the interfaces named in `only`,
/// whatever they are, as far as they have an address by now.
///
/// # Errors
/// An interface in `only` that does not exist (the error names those that do), or the system's error.
pub fn usable(only: &[String]) -> io::Result<Vec<Interface>> {
    let addresses = if_addrs::get_if_addrs()?;
    let devices = device_names();
    if let Some(missing) = only.iter().find(|n| !exists(n, &addresses, &devices)) {
        return Err(no_such(missing, &addresses, &devices));
    }
    let sys = Sys::of_this_namespace(&devices);
    Ok(addresses.iter().filter_map(|a| listed(a, only, sys.as_ref())).collect())
}

/// Bytes per second that the fastest of these interfaces carries in each direction, as its driver says; `None` if none
/// of them does. Loopback carries whatever the machine does.
#[must_use]
pub fn carries(only: &[String]) -> Option<u64> {
    let sys = Sys::of_this_namespace(&device_names())?;
    let interfaces = usable(only).ok()?;
    interfaces
        .iter()
        .filter(|i| !i.loopback)
        .filter_map(|i| sys.mbit_per_s(&i.name))
        .max()
        .map(|m| m * 125_000)
}

/// Whether a connection to this address of ours is one to this host itself or to one of the interfaces `only`, as they
/// are now; any is, if none is named.
pub(crate) fn takes(only: &[String], local: SocketAddr) -> bool {
    let ip = local.ip().to_canonical();
    let same = |i: &Interface| i.addr == ip && (!needs_scope(ip) || i.at(0) == with_port(local, 0));
    only.is_empty() || ip.is_loopback() || usable(only).is_ok_and(|all| all.iter().any(same))
}

/// The addresses of a neighbour: a link-local IPv6 address without a scope may be on any of these links.
pub(crate) fn on_links(addr: SocketAddr, links: &[u32]) -> Vec<SocketAddr> {
    match addr {
        SocketAddr::V6(v6) if needs_scope(addr.ip()) && v6.scope_id() == 0 => {
            links.iter().map(|link| on_link(addr, *link)).collect()
        }
        _ => vec![addr],
    }
}

/// The links that a connection between `server` and `local`, our end, may lead over: the one it says, else the one that
/// has our address, else all of `interfaces` but loopback.
pub(crate) fn links(server: SocketAddr, local: SocketAddr, interfaces: &[Interface]) -> Vec<u32> {
    match server {
        SocketAddr::V6(v6) if v6.scope_id() != 0 => return vec![v6.scope_id()],
        _ => {}
    }
    let outer = || interfaces.iter().filter(|i| !i.loopback && i.index != 0);
    let ip = local.ip().to_canonical();
    let own: BTreeSet<_> = outer().filter(|i| i.addr == ip).map(|i| i.index).collect();
    let all = if own.is_empty() { outer().map(|i| i.index).collect() } else { own };
    all.into_iter().collect()
}

/// The number of an interface, by its name or as its number.
pub(crate) fn index(zone: &str) -> io::Result<u32> {
    if let Ok(number) = zone.parse() {
        return Ok(number);
    }
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, None)
        .or_else(|_| Socket::new(Domain::IPV4, Type::DGRAM, None))?;
    rustix::net::netdevice::name_to_index(&socket, zone).map_err(|_| {
        let devices = device_names();
        no_such(zone, &[], &devices)
    })
}

/// The reach of an address, the one to prefer first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    /// This very host is best reached without leaving it.
    Here,
    Ipv4,
    Ipv6,
    /// Other nodes may be on other links, and know a node only by the address it came from.
    Link,
}

pub(crate) fn reach(addr: IpAddr) -> Reach {
    match addr {
        addr if addr.is_loopback() => Reach::Here,
        IpAddr::V4(v4) if v4.is_link_local() => Reach::Link,
        addr if needs_scope(addr) => Reach::Link,
        IpAddr::V4(_) => Reach::Ipv4,
        IpAddr::V6(_) => Reach::Ipv6,
    }
}

/// Whether an address means something on one link only.
pub(crate) fn needs_scope(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

fn on_link(addr: SocketAddr, link: u32) -> SocketAddr {
    match addr {
        SocketAddr::V6(v6) if needs_scope(addr.ip()) => {
            SocketAddrV6::new(*v6.ip(), v6.port(), 0, link).into()
        }
        addr => addr,
    }
}

/// The same host and link, and another port.
pub(crate) fn with_port(mut addr: SocketAddr, port: u16) -> SocketAddr {
    addr.set_port(port);
    addr
}

fn exists(name: &str, addresses: &[if_addrs::Interface], devices: &BTreeSet<String>) -> bool {
    devices.contains(name) || addresses.iter().any(|a| base(&a.name) == name)
}

fn no_such(name: &str, addresses: &[if_addrs::Interface], devices: &BTreeSet<String>) -> io::Error {
    let mut there = devices.clone();
    there.extend(addresses.iter().map(|a| base(&a.name).to_owned()));
    let there = Vec::from_iter(there).join(", ");
    io::Error::new(io::ErrorKind::NotFound, format!("there is no network interface {name}, only {there}"))
}

fn listed(a: &if_addrs::Interface, only: &[String], sys: Option<&Sys>) -> Option<Interface> {
    let name = base(&a.name);
    let wanted =
        if only.is_empty() { worth_asking(&facts(a, name, sys)) } else { only.iter().any(|n| n == name) };
    wanted.then(|| Interface {
        name: name.to_owned(),
        index: a.index.unwrap_or(0),
        addr: a.ip(),
        broadcast: match &a.addr {
            if_addrs::IfAddr::V4(v4) => broadcast(v4.ip, v4.prefixlen, v4.broadcast),
            if_addrs::IfAddr::V6(_) => None,
        },
        loopback: a.ip().is_loopback(),
    })
}

/// `eth0:1` is a label on an address of `eth0`.
fn base(name: &str) -> &str {
    name.split(':').next().unwrap_or(name)
}

/// An address may have been given without its broadcast address; the kernel knows the network's anyway, and so
/// does every neighbour.
fn broadcast(addr: Ipv4Addr, prefix: u8, given: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
    let hosts = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
    if hosts < 3 {
        return None;
    }
    let computed = Ipv4Addr::from(u32::from(addr) | hosts);
    Some(given.filter(|b| !b.is_unspecified() && *b != addr).unwrap_or(computed))
}

/// The facts that decide whether an interface is asked from. Unknown is false.
#[derive(Clone, Debug, Default)]
struct Facts<'a> {
    name: &'a str,
    /// The address is this host's own, such as 127.0.0.1.
    loopback_addr: bool,
    /// Up, and with a carrier: the kernel's IFF_RUNNING.
    running: bool,
    /// The kernel's ARPHRD number.
    hardware: Option<u32>,
    wireless: bool,
    /// A TUN or a TAP device.
    tun: bool,
    /// A bridge none of whose ports leads to a physical device.
    inner_bridge: bool,
    /// A port of a bridge or a part of a bond: what comes by it is that one's.
    part: bool,
}

const ARPHRD_ETHER: u32 = 1;
const ARPHRD_LOOPBACK: u32 = 772;

fn worth_asking(f: &Facts<'_>) -> bool {
    f.running
        && !f.wireless
        && !f.tun
        && !f.inner_bridge
        && !f.part
        && !container_name(f.name)
        && match f.hardware {
            // Other addresses on loopback belong to this host too, and 127.0.0.1 has asked it already.
            Some(ARPHRD_LOOPBACK) => f.loopback_addr,
            Some(ARPHRD_ETHER) | None => true,
            Some(_) => false,
        }
}

/// Whether the name is one that containers and virtual machines give to their own ends of things.
///
/// Only by name can a host's end of a `veth` be told from the `eth0` inside of a container, which is all the
/// network that one has.
fn container_name(name: &str) -> bool {
    const PREFIXES: [&str; 7] = ["docker", "veth", "virbr", "cni", "flannel", "lxc", "podman"];
    PREFIXES.iter().any(|p| name.starts_with(p)) || name.strip_prefix("br-").is_some_and(docker_id)
}

/// Docker calls a network's bridge by the first twelve digits of its number. `br-lan` is somebody's own.
fn docker_id(id: &str) -> bool {
    id.len() == 12 && id.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The kernel's names of the interfaces of this network namespace. Empty if it does not tell them.
fn device_names() -> BTreeSet<String> {
    // Unlike /sys, this file always speaks of the namespace of whoever reads it.
    let table = fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
    table.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim().to_owned()).collect()
}

fn facts<'a>(a: &if_addrs::Interface, name: &'a str, sys: Option<&Sys>) -> Facts<'a> {
    let known =
        Facts { name, loopback_addr: a.ip().is_loopback(), running: a.is_oper_up(), ..Facts::default() };
    match sys {
        Some(sys) => sys.add(known),
        None => known,
    }
}

/// `/sys/class/net`, or a copy of its layout.
struct Sys(PathBuf);

impl Sys {
    /// A `/sys` mounted in another network namespace, as under `nsenter`, shows other interfaces, some of
    /// which may bear the names of ours. It is believed only if it lists the same ones as the kernel does here.
    fn of_this_namespace(devices: &BTreeSet<String>) -> Option<Self> {
        let sys = Self("/sys/class/net".into());
        (!devices.is_empty() && sys.devices() == *devices).then_some(sys)
    }

    fn devices(&self) -> BTreeSet<String> {
        // `bonding_masters` lies among the interfaces and is a file.
        entries(&self.0).into_iter().filter(|n| self.0.join(n).join("ifindex").exists()).collect()
    }

    fn add<'a>(&self, known: Facts<'a>) -> Facts<'a> {
        let dir = self.0.join(known.name);
        let hardware = fs::read_to_string(dir.join("type")).ok().and_then(|s| s.trim().parse().ok());
        Facts {
            hardware,
            wireless: dir.join("wireless").exists() || dir.join("phy80211").exists(),
            tun: dir.join("tun_flags").exists(),
            inner_bridge: dir.join("bridge").exists() && !self.bridges_out(&dir),
            part: dir.join("brport").exists() || dir.join("bonding_slave").exists(),
            ..known
        }
    }

    /// The speed of a link. A driver that does not have it gives -1, or refuses to be read.
    fn mbit_per_s(&self, name: &str) -> Option<u64> {
        let speed: u64 = fs::read_to_string(self.0.join(name).join("speed")).ok()?.trim().parse().ok()?;
        (speed < u64::from(u32::MAX)).then_some(speed)
    }

    fn bridges_out(&self, bridge: &Path) -> bool {
        entries(&bridge.join("brif")).iter().any(|port| self.physical(port, 4))
    }

    /// Whether this is a device, or lies (a bond, a VLAN) on one at most `depth` further down.
    fn physical(&self, name: &str, depth: u32) -> bool {
        let dir = self.0.join(name);
        dir.join("device").exists()
            || depth > 0
                && entries(&dir)
                    .iter()
                    .filter_map(|e| e.strip_prefix("lower_"))
                    .any(|lower| self.physical(lower, depth - 1))
    }
}

/// The names in a directory; none if it cannot be read.
fn entries(dir: &Path) -> Vec<String> {
    let Ok(list) = fs::read_dir(dir) else { return Vec::new() };
    list.filter_map(|e| e.ok()?.file_name().into_string().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIRED: Facts<'_> = Facts {
        name: "eth0",
        loopback_addr: false,
        running: true,
        hardware: Some(ARPHRD_ETHER),
        wireless: false,
        tun: false,
        inner_bridge: false,
        part: false,
    };

    #[test]
    fn wired_interfaces_and_loopback_are_asked_from_and_others_are_not() {
        let lo = Facts { name: "lo", loopback_addr: true, hardware: Some(ARPHRD_LOOPBACK), ..WIRED };
        let table = [
            (true, WIRED),
            (true, lo.clone()),
            (true, Facts { name: "enp3s0", hardware: None, ..WIRED }),
            (true, Facts { name: "bond0.12", ..WIRED }),
            (true, Facts { name: "br0", ..WIRED }),
            (true, Facts { name: "br-lan", ..WIRED }),
            (true, Facts { name: "br-decade", ..WIRED }),
            (false, Facts { loopback_addr: false, ..lo }),
            (false, Facts { running: false, ..WIRED }),
            (false, Facts { name: "wlp2s0", wireless: true, ..WIRED }),
            (false, Facts { name: "tap0", tun: true, ..WIRED }),
            (false, Facts { name: "wg0", hardware: Some(65534), ..WIRED }),
            (false, Facts { name: "gre1", hardware: Some(778), ..WIRED }),
            (false, Facts { name: "br0", inner_bridge: true, ..WIRED }),
            (false, Facts { part: true, ..WIRED }),
            (false, Facts { name: "docker0", ..WIRED }),
            (false, Facts { name: "docker_gwbridge", ..WIRED }),
            (false, Facts { name: "br-0123456789ab", ..WIRED }),
            (false, Facts { name: "veth12ab34c", ..WIRED }),
            (false, Facts { name: "virbr0", ..WIRED }),
            (false, Facts { name: "cni0", ..WIRED }),
            (false, Facts { name: "cni-podman0", ..WIRED }),
            (false, Facts { name: "flannel.1", hardware: None, ..WIRED }),
            (false, Facts { name: "lxcbr0", ..WIRED }),
            (false, Facts { name: "podman1", ..WIRED }),
        ];
        for (asked, facts) in table {
            assert_eq!(worth_asking(&facts), asked, "{facts:?}");
        }
    }

    #[test]
    fn a_bridge_counts_if_a_port_leads_to_a_device_however_deep() {
        let root = tempfile::tempdir().unwrap();
        for dir in [
            "eth0/device",
            "bond0/lower_eth0",
            "bond0.7/lower_bond0",
            "veth1",
            "br0/bridge",
            "br0/brif/veth1",
            "br0/brif/bond0.7",
            "br1/bridge",
            "br1/brif/veth1",
            "br2/bridge",
        ] {
            fs::create_dir_all(root.path().join(dir)).unwrap();
        }
        let sys = Sys(root.path().into());
        let inner = |name| sys.add(Facts { name, ..WIRED }).inner_bridge;
        assert!(!inner("br0"));
        assert!(inner("br1"));
        assert!(inner("br2"));
        assert!(!inner("eth0"));
    }

    #[test]
    fn sys_says_what_an_interface_is_and_silence_loses_none() {
        let root = tempfile::tempdir().unwrap();
        for dir in ["wlan0/phy80211", "mystery", "port/brport", "slave/bonding_slave"] {
            fs::create_dir_all(root.path().join(dir)).unwrap();
        }
        for (file, content) in
            [("wlan0/type", "1\n"), ("tun0/type", "65534\n"), ("tun0/tun_flags", "0x1001\n")]
        {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let sys = Sys(root.path().into());
        let asked = |name| worth_asking(&sys.add(Facts { name, hardware: None, ..WIRED }));
        assert!(!asked("wlan0"));
        assert!(!asked("tun0"));
        assert!(!asked("port") && !asked("slave"));
        assert!(asked("mystery"));
        assert!(asked("not_even_listed"));
    }

    #[test]
    fn a_sys_of_another_namespace_is_not_believed() {
        let foreign = BTreeSet::from(["not_on_this_host0".to_owned()]);
        assert!(Sys::of_this_namespace(&foreign).is_none());
        assert!(Sys::of_this_namespace(&BTreeSet::new()).is_none());
    }

    #[test]
    fn a_broadcast_address_is_computed_if_none_was_given() {
        let addr = Ipv4Addr::new(10, 1, 2, 3);
        let given = Ipv4Addr::new(10, 255, 255, 255);
        assert_eq!(broadcast(addr, 24, None), Some(Ipv4Addr::new(10, 1, 2, 255)));
        assert_eq!(broadcast(addr, 24, Some(given)), Some(given));
        assert_eq!(broadcast(addr, 24, Some(addr)), Some(Ipv4Addr::new(10, 1, 2, 255)));
        assert_eq!(broadcast(addr, 0, None), Some(Ipv4Addr::BROADCAST));
        assert_eq!(broadcast(addr, 31, None), None);
        assert_eq!(broadcast(addr, 32, None), None);
        assert_eq!(broadcast(Ipv4Addr::LOCALHOST, 8, None), Some(Ipv4Addr::new(127, 255, 255, 255)));
    }

    #[test]
    fn a_link_is_that_of_the_connection_or_of_our_end_or_any() {
        let at = |index, addr: &str| Interface {
            name: format!("eth{index}"),
            index,
            addr: addr.parse().unwrap(),
            broadcast: None,
            loopback: index == 1,
        };
        let all =
            [at(1, "127.0.0.1"), at(2, "10.0.0.1"), at(2, "fe80::1"), at(3, "10.1.0.1"), at(3, "fe80::1")];
        for (server, local, expected) in [
            ("[fe80::9%3]:1", "[fe80::1%3]:2", &[3][..]),
            ("10.0.0.9:1", "10.0.0.1:2", &[2]),
            ("10.1.0.9:1", "[::ffff:10.1.0.1]:2", &[3]),
            ("127.0.0.1:1", "127.0.0.1:2", &[2, 3]),
            ("10.9.0.9:1", "10.9.0.1:2", &[2, 3]),
        ] {
            let found = links(server.parse().unwrap(), local.parse().unwrap(), &all);
            assert_eq!(found, expected, "{server} {local}");
        }
    }

    #[test]
    fn a_connection_is_taken_on_the_interfaces_that_are_named_and_on_this_host() {
        let takes = |only: &[&str], local: &str| {
            takes(&only.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>(), local.parse().unwrap())
        };
        assert!(takes(&[], "10.9.9.9:1"));
        for local in ["127.0.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(takes(&["no_such_if0"], local), "{local}");
        }
        for local in ["10.9.9.9:1", "[fe80::1%1]:1"] {
            assert!(!takes(&["lo"], local) && !takes(&["no_such_if0"], local), "{local}");
        }
    }

    #[test]
    fn an_interface_that_does_not_exist_is_an_error_that_names_those_that_do() {
        let e = usable(&["no_such_if0".into()]).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::NotFound);
        assert!(e.to_string().contains("no_such_if0") && e.to_string().contains("lo"), "{e}");
        assert!(usable(&["lo".into()]).unwrap().iter().all(|i| i.name == "lo"));
    }
}
