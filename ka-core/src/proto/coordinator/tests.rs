//! The coordinator by itself, without a network.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddr;

use super::*;
use crate::crypto::link_keys::LinkKey;
use crate::crypto::payload::PayloadKey;
use crate::limits;
use crate::time::{Duration, Instant};
use crate::types::{NodeId, SessionId};
use crate::wire::control::{Hello, Progress, Role, ToCoordinator, ToNode, View};

fn open(links: Option<LinkKey>) -> Coordinator {
    let config = Config {
        session: SessionId([1; 16]),
        name: None,
        key: [0; 32],
        payload: PayloadKey::Plain,
        links,
        nodes: 3,
        fan_out: 2,
        start_after: None,
        min_nodes: 1,
        slow: Slow::default(),
        min_rate: None,
        finish: None,
        carries: None,
        rate: None,
        bytes: None,
        reread: false,
        release_delay: Duration::ZERO,
        data_port: 1,
    };
    Coordinator::new(Instant::ZERO, config)
}

fn join(c: &mut Coordinator, conn: u32, back: Option<NodeId>) {
    let role = Role::Node { data_port: 7, wait: false, back };
    let incarnation = u64::from(back.map_or(conn, |node| node.0));
    let hello = Hello { session: None, incarnation, role, label: String::new(), about: Vec::new() };
    // A machine for each node.
    let addr = SocketAddr::from(([10, 0, 0, back.map_or(conn, |n| n.0) as u8], 1000));
    c.handle(Instant::ZERO, Input::Joined { conn: Conn(conn), addr, server_ip: addr.ip(), hello });
}

fn told(c: &mut Coordinator) -> Vec<(Conn, ToNode)> {
    let mut told = Vec::new();
    loop {
        match c.poll() {
            Output::Tell(conn, message) => told.push((conn, message)),
            Output::Wait(_) | Output::Done(_) => return told,
            _ => {}
        }
    }
}

fn safe(told: &[(Conn, ToNode)], conn: u32) -> Option<u64> {
    told.iter().rev().find_map(|(to, message)| match message {
        ToNode::Stable(items) if *to == Conn(conn) => Some(*items),
        _ => None,
    })
}

#[test]
fn what_is_safe_is_the_least_that_those_below_the_children_hold() {
    // A tree: 1 and 2 below the root, 3 below 1.
    let mut c = open(None);
    (1..=3).for_each(|n| join(&mut c, n, None));
    let start = told(&mut c);
    assert_eq!((safe(&start, 0), safe(&start, 1)), (Some(0), None));
    let first =
        |told: &[(Conn, ToNode)], wanted: fn(&ToNode) -> bool| told.iter().position(|(_, m)| wanted(m));
    let (news, view) =
        (|m: &ToNode| matches!(m, ToNode::Stable(_)), |m: &ToNode| matches!(m, ToNode::View(_)));
    assert!(first(&start, news) < first(&start, view), "less comes before the view");

    // What a child holds is its own affair; and a number that goes back is none.
    let pause = 3 * limits::ACK_INTERVAL_PER_NODE;
    let say = |c: &mut Coordinator, at: u32, node: u32, items| {
        let now = Instant::ZERO + (at * pause);
        c.handle(now, Input::Said(Conn(node), ToCoordinator::Stored(items)));
        told(c)
    };
    assert_eq!(safe(&say(&mut c, 1, 1, 7), 0), None);
    assert_eq!(safe(&say(&mut c, 2, 3, 5), 0), Some(5));
    assert_eq!(safe(&say(&mut c, 3, 3, 4), 0), None);
    // Not more often than every so often, but then.
    assert_eq!(safe(&say(&mut c, 3, 3, 6), 0), Some(6));
    assert_eq!(safe(&say(&mut c, 3, 3, 8), 0), None);
    c.handle(Instant::ZERO + 4 * pause, Input::Timeout);
    assert_eq!(safe(&told(&mut c), 0), Some(8));

    // When 1 is lost, 3 is a child of the root: that comes behind the view that says so.
    c.handle(Instant::ZERO + 5 * pause, Input::Gone(Conn(1), "gone".into()));
    let lost = told(&mut c);
    assert!(safe(&lost, 0).is_none() && first(&lost, view).is_some());
    c.handle(Instant::ZERO + 6 * pause, Input::Timeout);
    assert_eq!(safe(&told(&mut c), 0), Some(u64::MAX));
}

#[test]
fn a_parent_makes_the_key_that_its_child_is_told() {
    for secret in [Some(LinkKey::new([9; 32])), None] {
        let mut c = open(secret.clone());
        (1..=3).for_each(|n| join(&mut c, n, None));
        let root = secret.as_ref().map(|s| s.of_node(NodeId::ROOT));
        let mut own = BTreeMap::from([(NodeId::ROOT, root)]);
        let mut children = 0;
        for (conn, message) in told(&mut c) {
            match message {
                ToNode::Welcome(welcome) => {
                    assert_eq!(welcome.link.is_some(), secret.is_some());
                    own.insert(welcome.node, welcome.link);
                }
                ToNode::View(View { parent: Some(parent), .. }) => {
                    let made = own[&parent.node].as_ref().map(|key| key.of_child(NodeId(conn.0)));
                    assert_eq!(parent.key, made);
                    children += 1;
                }
                _ => {}
            }
        }
        assert_eq!((own.len(), children), (4, 3));
        // Who comes back has the same key.
        c.handle(Instant::ZERO, Input::Gone(Conn(2), "gone".into()));
        join(&mut c, 8, Some(NodeId(2)));
        let welcome = told(&mut c).into_iter().find_map(|(_, message)| match message {
            ToNode::Welcome(welcome) => Some(welcome),
            _ => None,
        });
        assert_eq!(welcome.expect("it is welcome").link, own[&NodeId(2)]);
    }
}
fn joins(c: &mut Coordinator, at: Instant, conn: u32, incarnation: u64, addr: [u8; 4]) {
    let role = Role::Node { data_port: 7, wait: false, back: None };
    let hello = Hello { session: None, incarnation, role, label: String::new(), about: Vec::new() };
    let addr = SocketAddr::from((addr, 1000));
    c.handle(at, Input::Joined { conn: Conn(conn), addr, server_ip: addr.ip(), hello });
}

fn welcomed(told: &[(Conn, ToNode)], conn: u32) -> Option<NodeId> {
    told.iter().find_map(|(to, message)| match message {
        ToNode::Welcome(welcome) if *to == Conn(conn) => Some(welcome.node),
        _ => None,
    })
}

#[test]
fn a_node_is_its_incarnation_and_its_address_is_a_hint() {
    let mut c = Coordinator { config: Config { nodes: 9, ..open(None).config }, ..open(None) };
    let (one, other) = ([10, 0, 0, 1], [10, 0, 0, 2]);
    let later = Instant::ZERO + Duration::from_millis(100);
    joins(&mut c, Instant::ZERO, 1, 71, one);
    joins(&mut c, later, 2, 72, one);
    let first = told(&mut c);
    assert_eq!((welcomed(&first, 1), welcomed(&first, 2)), (Some(NodeId(1)), Some(NodeId(2))), "one address");
    // Its welcome was lost, and it asks again, from another address.
    joins(&mut c, later, 3, 72, other);
    assert_eq!(welcomed(&told(&mut c), 3), Some(NodeId(2)));
    assert_eq!(c.roster().get(NodeId(2)).map(|m| m.addr()), Some(SocketAddr::from((other, 7))));
    assert_eq!(c.roster().len(), 2);
    // One that is silent is most likely the one that was started anew; one that is heard is not.
    let silent = Instant::ZERO + Duration::from_secs(2);
    for beat in 1..=20 {
        let alive = ToCoordinator::Progress(Progress::default());
        c.handle(Instant::ZERO + beat * Duration::from_millis(100), Input::Said(Conn(3), alive));
    }
    joins(&mut c, silent, 4, 73, one);
    joins(&mut c, silent, 5, 74, other);
    let there: Vec<_> = c.roster().nodes().map(|m| m.incarnation()).collect();
    assert_eq!(there, [72, 73, 74]);
    // It was only silent: it is in again under its number.
    let role = Role::Node { data_port: 7, wait: false, back: Some(NodeId(1)) };
    let hello = Hello { session: None, incarnation: 71, role, label: String::new(), about: Vec::new() };
    let addr = SocketAddr::from((one, 1000));
    c.handle(silent, Input::Joined { conn: Conn(6), addr, server_ip: addr.ip(), hello });
    assert_eq!(welcomed(&told(&mut c), 6), Some(NodeId(1)));
    assert_eq!(c.roster().len(), 4);
}

#[test]
fn whoever_dials_a_node_is_told_where_it_is_now() {
    let mut c = open(None);
    (1..=3).for_each(|n| join(&mut c, n, None));
    let parent = |told: &[(Conn, ToNode)]| {
        told.iter().rev().find_map(|(to, message)| match message {
            ToNode::View(View { parent: Some(parent), .. }) if *to == Conn(3) => Some(parent.clone()),
            _ => None,
        })
    };
    let before = parent(&told(&mut c)).expect("the third is below the first");
    let role = Role::Node { data_port: 7, wait: false, back: Some(before.node) };
    let hello = Hello {
        session: None,
        incarnation: u64::from(before.node.0),
        role,
        label: String::new(),
        about: Vec::new(),
    };
    let addr = SocketAddr::from(([10, 0, 9, 9], 1000));
    c.handle(Instant::ZERO, Input::Joined { conn: Conn(7), addr, server_ip: addr.ip(), hello });
    let after = parent(&told(&mut c)).expect("it is told again");
    assert_eq!((after.node, after.addr), (before.node, SocketAddr::from(([10, 0, 9, 9], 7))));
}

#[test]
fn who_joins_and_leaves_again_and_again_uses_up_the_numbers_and_no_more() {
    let mut c = open(None);
    let refused = |c: &mut Coordinator| {
        told(c)
            .into_iter()
            .any(|(_, m)| matches!(m, ToNode::Refused(why) if why.text.contains("no number left")))
    };
    // The root has the first one.
    for conn in 1..limits::NUMBERS {
        join(&mut c, conn, None);
        assert!(!refused(&mut c), "{conn}");
        c.handle(Instant::ZERO, Input::Gone(Conn(conn), String::new()));
    }
    join(&mut c, limits::NUMBERS, None);
    assert!(refused(&mut c));
    // A node that has one keeps it.
    join(&mut c, limits::NUMBERS + 1, Some(NodeId(1)));
    assert!(!refused(&mut c));
}

#[test]
fn who_joins_late_again_and_again_and_takes_nothing_is_not_let_in_any_more() {
    let mut c = open(None);
    (1..=3).for_each(|n| join(&mut c, n, None));
    told(&mut c);
    let mut conn = 3;
    let mut joins = |c: &mut Coordinator, host: u8| {
        conn += 1;
        let role = Role::Node { data_port: 7, wait: false, back: None };
        let hello =
            Hello { session: None, incarnation: conn.into(), role, label: String::new(), about: Vec::new() };
        let addr = SocketAddr::from(([10, 0, 1, host], 1000));
        c.handle(Instant::ZERO, Input::Joined { conn: Conn(conn), addr, server_ip: addr.ip(), hello });
        told(c)
            .iter()
            .any(|(to, m)| *to == Conn(conn) && matches!(m, ToNode::Welcome(_)))
            .then_some(Conn(conn))
    };
    for _ in 0..limits::VAIN_JOINS {
        // Whether it stays or goes.
        let conn = joins(&mut c, 1).expect("it is let in");
        c.handle(Instant::ZERO, Input::Gone(conn, String::new()));
    }
    assert_eq!(joins(&mut c, 1), None);
    // Others have their own, as many as one after another take something.
    let takes = |c: &mut Coordinator, conn| {
        let received = crate::types::Offset(1);
        c.handle(
            Instant::ZERO,
            Input::Said(conn, ToCoordinator::Progress(Progress { received, ..Progress::default() })),
        );
    };
    for _ in 0..3 * limits::VAIN_JOINS {
        let conn = joins(&mut c, 2).expect("the one before takes something");
        takes(&mut c, conn);
    }
    let mut vain = limits::VAIN_JOINS;
    for host in 3.. {
        for _ in 0..limits::VAIN_JOINS {
            if joins(&mut c, host).is_none() {
                assert_eq!(vain, limits::VAIN_JOINS_ALL);
                return;
            }
            vain += 1;
        }
    }
}
