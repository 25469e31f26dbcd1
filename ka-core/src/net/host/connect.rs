//! Connecting to one of several addresses.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::refused::exhausted;
use crate::limits;

/// Tries these addresses, each a little later than the one before it, until one attempt succeeds.
///
/// # Errors
/// Why none did, in the order of the addresses.
pub(crate) async fn first<T, E, A>(
    addrs: &[SocketAddr],
    attempt: impl Fn(SocketAddr) -> A,
) -> Result<T, Vec<(SocketAddr, E)>>
where
    A: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    let mut attempts = JoinSet::new();
    for (turn, addr) in addrs.iter().enumerate() {
        let (addr, attempt) = (*addr, attempt(*addr));
        attempts.spawn(async move {
            sleep(limits::NEXT_ADDRESS_DELAY * turn as u32).await;
            (turn, addr, attempt.await)
        });
    }
    let mut failed = Vec::new();
    while let Some(ended) = attempts.join_next().await {
        match ended {
            Ok((_, _, Ok(success))) => return Ok(success),
            Ok((turn, addr, Err(why))) => failed.push((turn, addr, why)),
            Err(_) => {}
        }
    }
    failed.sort_by_key(|(turn, ..)| *turn);
    Err(failed.into_iter().map(|(_, addr, why)| (addr, why)).collect())
}

/// Connects within [`limits::CONNECT_TIMEOUT`], without delay for small messages. If this host has run out of what that takes, it
/// waits until all connections that strangers may hold are gone.
pub(crate) async fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
    let patience = Instant::now() + limits::PREFACE_TIMEOUT;
    let stream = loop {
        let silence = || io::Error::new(io::ErrorKind::TimedOut, "no answer within a second");
        match timeout(limits::CONNECT_TIMEOUT, TcpStream::connect(addr)).await {
            Err(_) => return Err(silence()),
            Ok(Err(e)) if exhausted(&e) && Instant::now() < patience => {
                sleep(limits::NEXT_ADDRESS_DELAY).await
            }
            Ok(result) => break result?,
        }
    };
    stream.set_nodelay(true)?;
    Ok(stream)
}
