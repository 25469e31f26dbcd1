//! Between network namespaces, as root; each host is a process of this program.

use super::*;

#[test]
fn a_server_on_another_host_is_found_without_routes_and_names() {
    let Some(lan) = Lan::new("routes", 2) else { return };
    lan.link(0, "eth0", 1, "eth0");
    lan.up(0, "eth0", "10.77.1.1/24");
    lan.up(1, "eth0", "10.77.1.2/24");
    lan.ip(0, "link set lo up");
    let _servers = [lan.serve(0, "a", 1), lan.serve(0, "b", 2)];
    for (session, n) in [("a", 1), ("b", 2)] {
        for host in ["", "10.77.1.1"] {
            assert_eq!(lan.ask(1, session, host, LONG).outcome(), found_at("10.77.1.1", n));
        }
    }
    assert_eq!(lan.ask(1, "c", "", SHORT).outcome(), "NotFound from eth0");
}

#[test]
fn a_server_is_found_over_ipv6_alone() {
    let Some(lan) = Lan::new("six", 2) else { return };
    lan.link(0, "eth0", 1, "eth0");
    for (host, addr) in [(0, "fe80::1"), (1, "fe80::2")] {
        lan.ip(host, "link set lo up");
        lan.ip(host, "link set eth0 addrgenmode none");
        lan.ip(host, "link set eth0 up");
        lan.ip(host, &format!("addr add {addr}/64 dev eth0 nodad"));
    }
    let index = lan.index(1, "eth0");
    let found = |n| format!("found [fe80::1%{index}]:{CONTROL} {}", id(n));
    // The group reaches all of a host's servers, so that nothing need be passed on.
    let mut servers = vec![lan.serve(0, "a", 1), lan.serve(0, "b", 2)];
    for (session, n) in [("a", 1), ("b", 2)] {
        for _ in 0..5 {
            assert_eq!(lan.ask(1, session, "", LONG).outcome(), found(n));
        }
        assert_eq!(lan.ask(0, session, "", LONG).outcome(), found_at("127.0.0.1", n), "from the host itself");
    }
    assert_eq!(lan.ask(1, "c", "", SHORT).outcome(), "NotFound from eth0 lo");
    // Two of one name are two.
    servers.push(lan.serve(1, "a", 3));
    let both = |heard: &str| [1, 3].iter().all(|n| heard.contains(&id(*n).to_string()));
    // On a busy machine the second answer may come later than an asker listens.
    let heard: Vec<_> = (0..10).map(|_| lan.ask(1, "a", "", LONG).outcome()).collect();
    assert!(heard.iter().any(|heard| both(heard)), "{heard:?}");
}

#[test]
fn a_server_of_both_families_is_one_and_listed_by_ipv4() {
    let Some(lan) = Lan::new("both", 2) else { return };
    lan.link(0, "eth0", 1, "eth0");
    for (host, v4, v6) in [(0, "10.77.1.1", "fe80::1"), (1, "10.77.1.2", "fe80::2")] {
        lan.up(host, "eth0", &format!("{v4}/24"));
        lan.ip(host, &format!("addr add {v6}/64 dev eth0 nodad"));
    }
    let _server = lan.serve(0, "a", 1);
    for _ in 0..5 {
        assert_eq!(lan.ask(1, "a", "", LONG).outcome(), found_at("10.77.1.1", 1));
    }
}

#[test]
fn a_dead_link_and_a_bridge_of_containers_do_not_lead_astray() {
    let Some(lan) = Lan::new("bridge", 3) else { return };
    let (server, client, container) = (0, 1, 2);
    lan.link(server, "eth0", client, "eth0");
    lan.link(server, "eth1", container, "unplugged");
    lan.link(server, "veth12ab34c", container, "eth0");
    lan.link(server, "eth2", container, "eth2");
    lan.ip(server, "link set lo up");
    for bridge in ["docker0", "mybridge"] {
        lan.ip(server, &format!("link add {bridge} type bridge"));
    }
    lan.ip(server, "link set veth12ab34c master docker0 up");
    lan.ip(server, "link set eth2 master mybridge up");
    lan.up(server, "docker0", "172.17.0.1/16");
    lan.up(server, "mybridge", "172.18.0.1/16");
    // Up without a carrier: its peer is down.
    lan.up(server, "eth1", "10.77.2.1/24");
    lan.up(server, "eth0", "10.77.1.1/24");
    lan.up(container, "eth0", "172.17.0.2/16");
    lan.up(container, "eth2", "172.18.0.2/16");
    lan.up(client, "eth0", "10.77.1.2/24");
    let _server = lan.serve(server, "lab", 1);

    assert_eq!(lan.ask(client, "lab", "", LONG).outcome(), found_at("10.77.1.1", 1));
    // To itself the container's `eth0` is a wired interface like any other.
    assert_eq!(lan.ask(container, "lab", "", LONG).outcome(), found_at("172.17.0.1", 1));
    assert_eq!(lan.ask(server, "lab", "", LONG).outcome(), found_at("127.0.0.1", 1));
    assert_eq!(lan.ask(server, "lap", "", SHORT).outcome(), "NotFound from eth0 lo");
}

#[test]
fn a_server_is_found_by_a_link_that_comes_up_late() {
    let Some(lan) = Lan::new("late", 2) else { return };
    lan.link(0, "eth0", 1, "eth0");
    lan.up(0, "eth0", "10.77.1.1/24");
    lan.ip(1, "addr add 10.77.1.2/24 dev eth0");
    let _server = lan.serve(0, "lab", 1);
    assert_eq!(lan.ask(1, "lab", "", SHORT).outcome(), "NoInterface");

    let asking = lan.ask(1, "lab", "", LONG);
    // What is tested: the link is dead for as long as several questions take.
    thread::sleep(Duration::from_secs(2));
    lan.ip(1, "link set eth0 up");
    assert_eq!(asking.outcome(), found_at("10.77.1.1", 1));
}

pub(crate) fn found_at(ip: &str, n: u8) -> String {
    format!("found {ip}:{CONTROL} {}", id(n))
}

/// Says so even though a passing test's output is hidden.
pub(crate) fn cannot_run(test: &str, why: &str) {
    let _ = writeln!(io::stderr(), "test {test} cannot run here: {why}");
}

/// Hosts, each a network namespace that is removed at the end.
pub(crate) struct Lan {
    pub(crate) hosts: Vec<String>,
}

impl Lan {
    /// `None`, having said why, where there are no namespaces to be had.
    pub(crate) fn new(test: &str, hosts: usize) -> Option<Self> {
        if std::fs::metadata("/proc/self").map_or(true, |m| m.uid() != 0) {
            cannot_run(test, "not root");
            return None;
        }
        let mut lan = Self { hosts: Vec::new() };
        for i in 0..hosts {
            let host = format!("ka-t{}-{test}{i}", std::process::id());
            if let Err(why) = ip(&["netns", "add", &host]) {
                cannot_run(test, &why);
                return None;
            }
            lan.hosts.push(host);
        }
        Some(lan)
    }

    pub(crate) fn ip(&self, host: usize, words: &str) {
        let args: Vec<&str> = ["-n", &self.hosts[host]].into_iter().chain(words.split(' ')).collect();
        ip(&args).unwrap();
    }

    /// The kernel's number for an interface.
    pub(crate) fn index(&self, host: usize, interface: &str) -> String {
        let out =
            Command::new("ip").args(["-n", &self.hosts[host], "-o", "link", "show", interface]).output();
        let words = String::from_utf8(out.unwrap().stdout).unwrap();
        words.split_once(':').unwrap().0.to_owned()
    }

    pub(crate) fn link(&self, a: usize, a_if: &str, b: usize, b_if: &str) {
        let b = &self.hosts[b];
        self.ip(a, &format!("link add {a_if} type veth peer name {b_if} netns {b}"));
    }

    pub(crate) fn up(&self, host: usize, interface: &str, addr: &str) {
        self.ip(host, &format!("addr add {addr} dev {interface}"));
        self.ip(host, &format!("link set {interface} up"));
    }

    /// A server that listens by the time this returns.
    pub(crate) fn serve(&self, host: usize, session: &str, n: u8) -> Helper {
        self.helper(host, "lan::helper_serves", &format!("{session} {n}"), "ready")
    }

    /// An asker that has begun by the time this returns. `host` is whom it asks; anyone if empty.
    pub(crate) fn ask(&self, from: usize, session: &str, host: &str, give_up: Duration) -> Helper {
        self.helper(from, "lan::helper_asks", &format!("{session} {} {host}", give_up.as_millis()), "asking")
    }

    pub(crate) fn helper(&self, host: usize, test: &str, task: &str, first_word: &str) -> Helper {
        let mut child = Command::new("ip")
            .args(["netns", "exec", &self.hosts[host]])
            .arg(env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(TASK, task)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut helper = Helper { child, lines };
        assert_eq!(helper.says(), first_word);
        helper
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for host in &self.hosts {
            let _ = ip(&["netns", "del", host]);
        }
    }
}

pub(crate) fn ip(args: &[&str]) -> Result<(), String> {
    let out = Command::new("ip").args(args).output().map_err(|e| format!("`ip`: {e}"))?;
    let words = String::from_utf8_lossy(&out.stderr);
    if out.status.success() { Ok(()) } else { Err(format!("`ip {}`: {}", args.join(" "), words.trim())) }
}

/// This very program, as one test that acts on another host.
pub(crate) struct Helper {
    pub(crate) child: Child,
    pub(crate) lines: BufReader<ChildStdout>,
}

impl Helper {
    pub(crate) fn says(&mut self) -> String {
        let mut line = String::new();
        while self.lines.read_line(&mut line).unwrap() > 0 {
            if let Some((_, words)) = line.split_once(MARK) {
                return words.trim().to_owned();
            }
            line.clear();
        }
        panic!("the helper ended without a word");
    }

    pub(crate) fn outcome(mut self) -> String {
        self.says()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a helper is to do. Without it a helper does nothing: it is no test.
pub(crate) const TASK: &str = "KA_TEST_DISCOVERY_TASK";
/// Tells a helper's words from the test harness's.
pub(crate) const MARK: &str = "helper says: ";

pub(crate) fn task() -> Option<Vec<String>> {
    Some(env::var(TASK).ok()?.split(' ').map(str::to_owned).collect())
}

pub(crate) fn say(words: &str) {
    println!("{MARK}{words}");
}

#[test]
fn helper_serves() {
    let Some(task) = task() else { return };
    // Not to outlive a parent that was killed.
    thread::spawn(|| {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    runtime().block_on(async {
        let responder = Responder::bind(limits::DISCOVERY_PORT, &[]).unwrap();
        say("ready");
        let n = task[1].parse().unwrap();
        let key = ServerKey::insecure().unwrap();
        match responder.run(Some(name(&task[0])), id(n), CONTROL, Arc::default(), key, |_| ()).await {}
    });
}

#[test]
fn helper_asks() {
    let Some(task) = task() else { return };
    let give_up = Duration::from_millis(task[1].parse().unwrap());
    let port = limits::DISCOVERY_PORT;
    let host = task[2].parse::<IpAddr>().ok().map(|ip| Target::Host(vec![(ip, port).into()]));
    let target = host.unwrap_or(Target::Anyone(port));
    say("asking");
    let (session, key) = (name(&task[0]), Key::insecure());
    let asked = runtime().block_on(ask(Some(&session), target, &[], give_up, &key, &mut |_| ()));
    say(&match asked {
        Ok(all) => {
            let all: Vec<String> = all.iter().map(|f| format!("{} {}", f.control, f.session)).collect();
            format!("found {}", all.join(", "))
        }
        Err(AskError::NotFound { from, .. }) => {
            let names: BTreeSet<_> = from.into_iter().map(|i| i.name).collect();
            format!("NotFound from {}", Vec::from_iter(names).join(" "))
        }
        Err(AskError::NoInterface) => "NoInterface".into(),
        Err(e) => format!("error: {e}"),
    });
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}
