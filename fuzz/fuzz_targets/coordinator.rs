//! Any order of joins, words and losses before a coordinator: it never panics, tells only nodes it knows, and a
//! stop ends the session.
#![no_main]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use ka_core::crypto::payload::PayloadKey;
use ka_core::proto::coordinator::Conn;
use ka_core::proto::coordinator::{Config, Coordinator, Input, Output};
use ka_core::time::Instant;
use ka_core::types::{Epoch, NodeId, Offset, SessionId};
use ka_core::wire::control::{
    Counters, Hello, LinkFault, Outcome, Progress, Reason, Receipt, Role, ToCoordinator,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((setup, steps)) = bytes.split_first_chunk::<4>() else { return };
    let mut now = Instant::ZERO;
    let mut c = Coordinator::new(
        now,
        Config {
            session: SessionId([1; 16]),
            name: None,
            key: [0; 32],
            payload: PayloadKey::Plain,
            links: None,
            nodes: u32::from(setup[0] % 8) + 1,
            fan_out: u32::from(setup[1] % 4) + 1,
            start_after: (setup[2] > 128).then(|| Duration::from_millis(u64::from(setup[2]) * 10)),
            min_nodes: 1,
            slow: Default::default(),
            min_rate: None,
            finish: None,
            carries: None,
            rate: None,
            bytes: None,
            reread: setup[1] > 128,
            release_delay: Duration::from_millis(u64::from(setup[3])),
            data_port: 1,
        },
    );
    for step in steps.chunks_exact(3) {
        let conn = Conn(u32::from(step[1] % 12));
        let input = match step[0] % 13 {
            0..3 => Input::Joined {
                conn: Conn(conn.0 + 1),
                addr: SocketAddr::from((Ipv4Addr::new(10, 0, 0, step[1]), 1000)),
                server_ip: IpAddr::from([10, 0, 0, 1]),
                hello: Hello {
                    session: None,
                    incarnation: u64::from(step[2]),
                    role: if step[2] == 0 {
                        Role::Go
                    } else {
                        let back = (step[2] % 4 == 3).then_some(NodeId(u32::from(step[1] % 8)));
                        Role::Node { data_port: 7, wait: step[2] % 2 == 1, back }
                    },
                    label: String::new(),
                    about: Vec::new(),
                },
            },
            // The root has no connection that could go.
            3 => Input::Gone(Conn(conn.0 + 1), "gone".into()),
            4 => Input::Go,
            5 => Input::Said(conn, ToCoordinator::Linked(Epoch(u32::from(step[2])))),
            6 => Input::Said(conn, ToCoordinator::Complete),
            7 => Input::Said(
                conn,
                ToCoordinator::LinkLost(
                    Epoch(u32::from(step[2] % 4)),
                    Offset(1),
                    match step[2] / 4 % 4 {
                        0 => LinkFault::Broken("x".into()),
                        1 => LinkFault::Tainted("x".into()),
                        2 => LinkFault::Unreachable("x".into()),
                        _ => LinkFault::Gone(Offset(u64::from(step[1]))),
                    },
                ),
            ),
            8 => {
                let [received, sunk, kept] = [step[1], step[2], step[1] / 2].map(|n| Offset(u64::from(n)));
                let progress = Progress { received, sunk, kept, ..Progress::default() };
                Input::Said(conn, ToCoordinator::Progress(progress))
            }
            9 | 10 => {
                let outcome = if step[2] % 3 == 0 {
                    Outcome::Failed(Reason::Sink("full".into()), Offset(1))
                } else {
                    Outcome::Ok
                };
                let receipt = Receipt {
                    outcome,
                    bytes: u64::from(step[2] % 2),
                    chain: [0; 32],
                    counters: Counters::default(),
                };
                Input::Said(conn, ToCoordinator::Receipt(receipt))
            }
            11 => Input::Said(conn, ToCoordinator::Stored(u64::from(step[2]))),
            _ => {
                now = now + Duration::from_millis(u64::from(step[2]) * 20);
                Input::Timeout
            }
        };
        c.handle(now, input);
        if drain(&mut c, now) {
            return;
        }
    }
    c.handle(now, Input::Stop("the end".into()));
    for _ in 0..100 {
        if drain(&mut c, now) {
            return;
        }
        now = now + Duration::from_secs(1);
        c.handle(now, Input::Timeout);
    }
    panic!("a stop ends the session");
});

/// Takes the outputs; true when the session is done.
fn drain(c: &mut Coordinator, now: Instant) -> bool {
    loop {
        match c.poll() {
            Output::Wait(_) => return false,
            Output::Done(report) => {
                assert!(report.nodes.iter().all(|n| n.node != NodeId::ROOT && n.ended <= now));
                return true;
            }
            _ => {}
        }
    }
}
