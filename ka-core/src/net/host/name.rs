//! A host as people write it: an address, one with its link (`fe80::1%eth0`), or a name.
//!
//! A name may stand for several addresses, for others later, or for none yet: it is resolved again whenever its
//! addresses are asked for. That blocks and reads files, so it is done on a thread with the program's own rights.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use tokio::sync::oneshot;

use super::interfaces;
use super::threads::Threads;
use crate::limits;
use crate::types::Invalid;

/// The place of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// At this address. A link-local one of IPv6 is looked for on every usable link.
    Addr(IpAddr),
    /// At this link-local address, on the link of the interface with this name or number.
    Linked(Ipv6Addr, String),
    /// At the addresses that this name stands for.
    Name(String),
}

impl Host {
    /// Its addresses now, [`limits::ADDRS`] at most, IPv4 first. The port is 0.
    ///
    /// # Errors
    /// The name does not resolve, or there is no such interface. Either may pass.
    pub(crate) async fn addrs(&self, threads: &Threads) -> io::Result<Vec<SocketAddr>> {
        let all = match self {
            Self::Addr(ip) => vec![SocketAddr::new(*ip, 0)],
            Self::Linked(ip, zone) => interfaces::on_links((*ip, 0).into(), &[interfaces::index(zone)?]),
            Self::Name(name) => resolve(name.clone(), threads).await?,
        };
        let links = links(&all);
        Ok(all.into_iter().flat_map(|addr| interfaces::on_links(addr, &links)).take(limits::ADDRS).collect())
    }

    /// Whether it may be somewhere else later.
    pub(crate) fn moves(&self) -> bool {
        !matches!(self, Self::Addr(ip) if !interfaces::needs_scope(*ip))
    }
}

/// All links on which a neighbour may be, if one of these addresses does not say on which.
fn links(addrs: &[SocketAddr]) -> Vec<u32> {
    if !addrs.iter().any(|addr| interfaces::needs_scope(addr.ip())) {
        return Vec::new();
    }
    let usable = interfaces::usable(&[]).unwrap_or_default();
    let links: BTreeSet<_> = usable.iter().filter(|i| !i.loopback).map(|i| i.index).collect();
    links.into_iter().collect()
}

async fn resolve(name: String, threads: &Threads) -> io::Result<Vec<SocketAddr>> {
    let (tx, resolved) = oneshot::channel();
    threads.start("ka-resolve", move || {
        // Nobody may wait for it any more.
        let _ = tx.send((name.as_str(), 0).to_socket_addrs().map(Vec::from_iter));
    })?;
    let mut all = resolved.await.map_err(io::Error::other)??;
    all.sort_by_key(SocketAddr::is_ipv6);
    all.dedup();
    if all.is_empty() { Err(io::Error::other("no address")) } else { Ok(all) }
}

impl FromStr for Host {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return Ok(ip.into());
        }
        if let Some((ip, zone)) = bare.split_once('%')
            && let Ok(ip) = ip.parse::<Ipv6Addr>()
        {
            return match zone {
                "" => Err(format!("{text}: the interface's name is missing behind the %").into()),
                _ if interfaces::needs_scope(ip.into()) => Ok(Self::Linked(ip, zone.into())),
                _ => Ok(ip.into()),
            };
        }
        let odd = |c: char| c.is_whitespace() || c.is_control() || ":/%[]".contains(c);
        if text.is_empty() || text.contains(odd) {
            return Err(
                format!("{text:?} is neither an address nor a name; a port is given by --port").into()
            );
        }
        Ok(Self::Name(text.into()))
    }
}

impl From<IpAddr> for Host {
    fn from(ip: IpAddr) -> Self {
        Self::Addr(ip.to_canonical())
    }
}

impl From<Ipv4Addr> for Host {
    fn from(ip: Ipv4Addr) -> Self {
        Self::Addr(ip.into())
    }
}

impl From<Ipv6Addr> for Host {
    fn from(ip: Ipv6Addr) -> Self {
        IpAddr::from(ip).into()
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addr(ip) => ip.fmt(f),
            Self::Linked(ip, zone) => write!(f, "{ip}%{zone}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Host {
        text.parse().unwrap()
    }

    #[test]
    fn a_host_is_an_address_one_with_its_link_or_a_name() {
        let [v4, v6, ll] = ["10.0.0.1", "fd00::1", "fe80::1"].map(|t| t.parse::<IpAddr>().unwrap());
        let IpAddr::V6(linked) = ll else { unreachable!() };
        for (text, expected) in [
            ("10.0.0.1", Host::Addr(v4)),
            ("::ffff:10.0.0.1", Host::Addr(v4)),
            ("fd00::1", Host::Addr(v6)),
            ("[fd00::1]", Host::Addr(v6)),
            ("fd00::1%eth0", Host::Addr(v6)),
            ("fe80::1", Host::Addr(ll)),
            ("fe80::1%eth0", Host::Linked(linked, "eth0".into())),
            ("[fe80::1%2]", Host::Linked(linked, "2".into())),
            ("golden", Host::Name("golden".into())),
            ("größe.example.org.", Host::Name("größe.example.org.".into())),
        ] {
            assert_eq!(host(text), expected, "{text}");
            assert_eq!(host(&expected.to_string()), expected, "{text}");
        }
        for wrong in
            ["", "golden:30765", "10.0.0.1:30765", "http://golden", "fe80::1%", "a b", "[::1]:7", "a%b"]
        {
            assert!(wrong.parse::<Host>().is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn an_address_is_itself_and_a_name_is_asked_for_elsewhere() {
        let threads = Threads::default();
        let addrs = async |text| host(text).addrs(&threads).await;
        assert_eq!(addrs("10.0.0.1").await.unwrap(), ["10.0.0.1:0".parse().unwrap()]);
        assert_eq!(addrs("fe80::1%7").await.unwrap(), ["[fe80::1%7]:0".parse().unwrap()]);
        assert!(addrs("localhost").await.unwrap().iter().all(|a| a.ip().is_loopback()));
        let e = addrs("fe80::1%no_such_if0").await.unwrap_err();
        assert!(e.to_string().contains("no_such_if0"), "{e}");
        let none = Threads::new(|_, _| Err(io::Error::other("no thread")));
        assert!(host("localhost").addrs(&none).await.is_err(), "resolved by a thread that was asked for");
    }

    #[test]
    fn a_link_local_address_without_its_link_may_be_on_any() {
        let addr = "[fe80::1]:7".parse().unwrap();
        let on = |n| format!("[fe80::1%{n}]:7").parse().unwrap();
        assert_eq!(interfaces::on_links(addr, &[2, 5]), [on(2), on(5)]);
        assert_eq!(interfaces::on_links(on(3), &[2, 5]), [on(3)]);
        let other = "[fd00::1]:7".parse().unwrap();
        assert_eq!(interfaces::on_links(other, &[2, 5]), [other]);
    }
}
