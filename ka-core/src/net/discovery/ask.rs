//! The asking side of discovery: questions for a session by name, for a rival of a server that starts, and for the
//! server of a session that one is in.
//!
//! Absent: how it is asked and what counts as an answer (`search`), and which of several servers a node may take.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::found::{AskError, Found, Other, Target};
use super::search::{PAUSE_MAX, Search, after};
use crate::crypto::session_key::Key;
use crate::limits;
use crate::net::host::interfaces::{Reach, reach};
use crate::types::{SessionId, SessionName};

/// The time for which an asker listens for a second server of the same name. It delays every start.
const SETTLE: Duration = Duration::from_millis(5);

/// … if what was heard is good on one link only: there may be a better way to the same server, the answer by which is only
/// slower.
const SETTLE_LINK: Duration = Duration::from_millis(50);

/// The interval at which the caller is told of servers that are not the one asked for, also before the first time:
/// until then, the right one may only be slower than they.
const OTHERS: Duration = Duration::from_secs(1);

/// The longest pause between two questions of a node whose server is gone: all nodes ask at once then, perhaps for long.
const FOLLOW_PAUSE_MAX: Duration = Duration::from_secs(3);

/// Asks who serves `session`, again and again until somebody answers or `give_up` is over. Returns all sessions
/// that were heard of: two of them are two servers of one name.
///
/// `only` names the interfaces to ask [`Target::Anyone`] from; none means all usable ones. They are listed anew
/// for each question, because a link may come up late. Only a [`Target::Host`] can be asked without a name, for
/// whatever it serves. A server heard at several addresses is listed by the one that reaches farthest, loopback first.
///
/// `others` is called, once for each address, for servers that are not the one asked for: after a second in which that one
/// has not answered, when [`Target::Anyone`] is asked. A host's are an error.
///
/// # Errors
/// [`AskError`]. A server of another version, or another server, ends the wait early only when it is the host that was
/// asked: among all neighbours it may serve something else.
pub async fn ask(
    session: Option<&SessionName>,
    target: Target,
    only: &[String],
    give_up: Duration,
    key: &Key,
    others: &mut (dyn FnMut(Other) + Send),
) -> Result<Vec<Found>, AskError> {
    let anyone = matches!(target, Target::Anyone(_));
    if session.is_none() && anyone {
        let words = "a session without a name is found at a given host only";
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, words).into());
    }
    let begun = Instant::now();
    let until = after(begun, give_up);
    let mut search = Search::begin(session, target, only, key, PAUSE_MAX)?;
    let (mut told, mut look_at_others) = (Vec::new(), begun);
    let first = loop {
        look_at_others += OTHERS;
        if let Some(found) = search.next(until.min(look_at_others)).await {
            break found;
        }
        if anyone && Instant::now() >= look_at_others {
            let news: Vec<_> = search.others().filter(|who| !told.contains(&who.addr())).collect();
            told.extend(news.iter().map(Other::addr));
            news.into_iter().for_each(&mut *others);
        }
        if Instant::now() >= search.end(until) {
            return Err(search.nothing(begun.elapsed()));
        }
    };
    let settle = if reach(first.control.ip()) == Reach::Link { SETTLE_LINK } else { SETTLE };
    let mut all = vec![first];
    search.stop();
    let settled = after(Instant::now(), settle);
    while let Some(found) = search.next(settled).await {
        merge(&mut all, found);
    }
    Ok(all)
}

/// The probe of a server that starts: is there another one of this name before which it has to yield?
///
/// Takes [`limits::PROBE_TIMEOUT`] unless there is. One that is no longer probing goes first; of two that are, the one
/// with the smaller session id. The caller's own [`Responder`](super::answer::Responder) should be running: it is how two that
/// start at once hear of each other. A server with another key is none: nobody who looks for one finds the other.
pub async fn rival(
    session: &SessionName,
    own: SessionId,
    only: &[String],
    port: u16,
    key: &Key,
) -> Option<Found> {
    let mut search = Search::begin(Some(session), Target::Anyone(port), only, key, PAUSE_MAX).ok()?;
    let until = after(Instant::now(), limits::PROBE_TIMEOUT);
    while let Some(found) = search.next(until).await {
        if goes_first(&found, own) {
            return Some(found);
        }
    }
    None
}

/// Looks for the server of this session, which somebody has to be in, until dropped; `found` hears each answer's address.
/// That is why everybody can be asked even if the session has no name.
pub(in crate::net) async fn follow(
    session: Option<&SessionName>,
    id: SessionId,
    only: &[String],
    port: u16,
    key: &Key,
    found: &mut (dyn FnMut(SocketAddr) + Send),
) -> Infallible {
    loop {
        if let Ok(mut search) = Search::begin(session, Target::Anyone(port), only, key, FOLLOW_PAUSE_MAX) {
            let until = after(Instant::now(), Duration::MAX);
            while let Some(heard) = search.next(until).await {
                if heard.session == id {
                    found(heard.control);
                }
            }
        }
        sleep(PAUSE_MAX).await;
    }
}

fn goes_first(rival: &Found, own: SessionId) -> bool {
    rival.session != own && (!rival.probing || rival.session < own)
}

/// Of two addresses that reach equally far the one heard first counts.
fn merge(all: &mut Vec<Found>, found: Found) {
    match all.iter_mut().find(|f| f.session == found.session) {
        Some(known) if reach(found.control.ip()) < reach(known.control.ip()) => known.control = found.control,
        Some(_) => {}
        None => all.push(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_servers_the_settled_one_goes_first_or_the_smaller_one() {
        let control = ([10, 0, 0, 1], 1).into();
        let own = SessionId([5; 16]);
        let first = |n, probing| goes_first(&Found { control, session: SessionId([n; 16]), probing }, own);
        assert!(first(9, false));
        assert!(first(1, false));
        assert!(first(1, true));
        assert!(!first(9, true));
        assert!(!first(5, false));
        assert!(!first(5, true));
    }

    #[test]
    fn a_server_heard_twice_is_listed_once_and_by_the_address_that_reaches_farthest() {
        let at = |control: &str, n| Found {
            control: control.parse().unwrap(),
            session: SessionId([n; 16]),
            probing: false,
        };
        let mut all = vec![at("[fe80::1%2]:7", 1)];
        for (heard, listed) in [
            ("169.254.0.1:7", "[fe80::1%2]:7"),
            ("[fd00::1]:7", "[fd00::1]:7"),
            ("10.0.0.1:7", "10.0.0.1:7"),
            ("[fd00::1]:7", "10.0.0.1:7"),
            ("10.0.1.1:7", "10.0.0.1:7"),
        ] {
            merge(&mut all, at(heard, 1));
            assert_eq!(all, [at(listed, 1)], "{heard}");
        }
        merge(&mut all, at("127.0.0.1:7", 1));
        merge(&mut all, at("10.0.2.1:7", 1));
        merge(&mut all, at("10.0.3.1:7", 2));
        assert_eq!(all, [at("127.0.0.1:7", 1), at("10.0.3.1:7", 2)]);
    }
}
