//! Whoever dials a listener of ours is heard out here, and so many at a time.

use std::collections::HashMap;
use std::future::Future;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use super::driver::Incoming;
use super::link::{Link, Own, hear_child};
use crate::limits;

/// Accepts connections for ever, and hears each out in a task of its own; at most [`limits::HALF_OPEN`] at a time,
/// each for at most [`limits::PREFACE`]. Further ones wait in the kernel; those of a host that has its share are closed.
pub(super) async fn accept<F, Fut>(listener: TcpListener, hear: F)
where
    F: Fn(TcpStream, SocketAddr) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    let half_open = Arc::new(Semaphore::new(limits::HALF_OPEN));
    let shares = Shares::default();
    loop {
        let Ok(permit) = half_open.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, addr)) => {
                let own = stream.local_addr().is_ok_and(|own| own.ip() == addr.ip());
                let Some(share) = shares.take(addr.ip().to_canonical(), own) else { continue };
                let _ = stream.set_nodelay(true);
                let heard = hear(stream, addr);
                tokio::spawn(async move {
                    let _held = (permit, share);
                    let _ = timeout(limits::PREFACE, heard).await;
                });
            }
            // Out of descriptors, or a connection gone before it was taken: neither is for ever.
            Err(_) => tokio::time::sleep(limits::REDIAL).await,
        }
    }
}

/// How many connections of each host are being heard out. One host must not take the places of all others.
#[derive(Clone, Debug, Default)]
struct Shares(Arc<Mutex<HashMap<IpAddr, usize>>>);

impl Shares {
    /// A place for one more of this host's, until it is dropped. This very host (`own`) may have many nodes.
    fn take(&self, addr: IpAddr, own: bool) -> Option<Share> {
        let host = match addr {
            // A host has as many addresses of its network as it likes.
            IpAddr::V6(v6) if !v6.is_unicast_link_local() => {
                Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into()
            }
            addr => addr,
        };
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(host).or_default();
        if *count >= limits::HALF_OPEN_PER_HOST && !own {
            return None;
        }
        *count += 1;
        Some(Share(self.clone(), host))
    }
}

struct Share(Shares, IpAddr);

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.1);
            }
        }
    }
}

/// Hears out whoever dials a node's data listener, and offers it to the driver.
pub(super) async fn accept_children(listener: TcpListener, own: Own, sender: mpsc::Sender<Incoming>) {
    accept(listener, move |mut stream, _| {
        let (own, sender) = (own.clone(), sender.clone());
        async move {
            if let Ok((words, attach)) = hear_child(&mut stream, &own).await {
                let _ = sender.send(Incoming::Offer(Link { stream, words }, attach)).await;
            }
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_its_share_and_this_one_has_more() {
        let shares = Shares::default();
        let addr = |ip: &str| ip.parse::<IpAddr>().unwrap();
        let [far, other, here] = ["10.0.0.9", "10.0.0.8", "127.0.0.1"].map(addr);
        let take =
            |host, n: usize| (0..n).filter_map(|_| shares.take(host, host == here)).collect::<Vec<_>>();
        let held = take(far, 100);
        assert_eq!(held.len(), limits::HALF_OPEN_PER_HOST);
        assert_eq!((take(other, 1).len(), take(here, 100).len()), (1, 100));
        drop(held);
        let many = (0..100).filter_map(|i| shares.take(addr(&format!("fd00::{i:x}")), false));
        assert_eq!(many.collect::<Vec<_>>().len(), limits::HALF_OPEN_PER_HOST);
        assert_eq!(take(far, 1).len(), 1);
        assert!(shares.0.lock().unwrap().is_empty());
    }
}
