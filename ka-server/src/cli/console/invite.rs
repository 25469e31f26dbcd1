//! The lines that are printed when a session is open: how nodes join it, and how to start with fewer. Pure.

use ka_core::console::shell::quoted;
use ka_core::console::units;
use ka_core::crypto::session_key::Key;
use ka_core::limits;

use super::keyboard::KEY;
use super::serving::{Serving, Words};

/// The ways in which the session can be started here.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Start {
    /// By a key on the terminal.
    pub(crate) key: bool,
    /// By this host's clients, without the session's key.
    pub(crate) local: bool,
}

/// The lines.
pub(crate) fn lines(
    serving: &dyn Serving,
    key: &Key,
    port: u16,
    data: (u16, u64),
    start: Start,
) -> Vec<String> {
    let config = serving.session();
    let open = if config.keys.insecure {
        " (INSECURE: anybody on this network can read, join and forge it)"
    } else if !config.keys.encrypts() {
        " (NOT ENCRYPTED: anybody on this network can read it)"
    } else {
        ""
    };
    let after = config.start_after.map_or_else(String::new, |after| {
        format!(", after {} for {}", units::duration(after), config.min_nodes)
    });
    let mut lines = vec![format!(
        "{}{open} is open on port {port} (data {}, window {}); it waits for {}{after}",
        config.title(),
        data.0,
        units::size(data.1),
        units::nodes(config.nodes)
    )];
    if let Some(text) = key.text().filter(|_| !config.keys.is_given_out()) {
        lines.push(format!("the nodes' key is {}; in a boot entry: ka.key={}", *text, *text));
    }
    let words = words(serving, key, port);
    lines.push(serving.invite(&words));
    lines.extend(fewer(serving, &words, start).map(|how| format!("to start with fewer: {how}")));
    lines
}

/// Returns the end of a live view's summary on a terminal while some nodes are there: the hint on how to start.
pub(crate) fn hint(start: Start) -> String {
    if start.key { format!("; {KEY} starts with these") } else { String::new() }
}

fn words(serving: &dyn Serving, key: &Key, port: u16) -> Words {
    let config = serving.session();
    let mut options = match &config.session {
        Some(name) => format!("-s {}", quoted(name.as_str().as_ref())),
        None if port == limits::CONTROL_PORT => "-h THIS-HOST".into(),
        None => format!("-h THIS-HOST -p {port}"),
    };
    let mut kernel = match &config.session {
        Some(name) => format!("ka.session={name}"),
        None => "ka.server=THIS-HOST".into(),
    };
    if config.ports.discovery != limits::DISCOVERY_PORT {
        options += &format!(" --discovery-port {}", config.ports.discovery);
    }
    match (&config.keys.key_file, key.text()) {
        (_, None) => {
            options += " --insecure";
            kernel += " ka.insecure=1";
        }
        (Some(file), _) => {
            options += &format!(" --key-file {}", quoted(file.as_os_str()));
            kernel += " ka.key=…";
        }
        (None, Some(text)) => {
            options += &format!(" --key {}", *text);
            kernel += &format!(" ka.key={}", *text);
        }
    }
    Words { options, kernel }
}

/// Returns how to start with fewer nodes than are waited for.
fn fewer(serving: &dyn Serving, words: &Words, start: Start) -> Option<String> {
    let config = serving.session();
    if config.nodes == 1 {
        return None;
    }
    let client = match (&config.session, start.local) {
        (Some(name), true) => format!("`ka-d-client -g -s {}` on this host", quoted(name.as_str().as_ref())),
        _ => format!("`ka-d-client -g {}`", words.options),
    };
    Some(if start.key { format!("press {KEY}, or run {client}") } else { format!("run {client}") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::console::report::tests::options;
    use crate::cli::server::{Options, Served};

    fn said(args: &[&str], key: &Key, start: Start) -> Vec<String> {
        lines(&options(args), key, 30765, (30764, 64 << 20), start)
    }

    #[test]
    fn who_serves_is_told_what_to_run_on_a_node_and_how_to_start_with_fewer() {
        let key = Key::new([3; 12], &[9; 32]);
        let text = key.text().unwrap();
        let both = Start { key: true, local: true };
        assert_eq!(
            said(&["-s", "lab 3", "--start-after", "10m"], &key, both),
            [
                "session `lab 3` is open on port 30765 (data 30764, window 64 MiB); it waits for 2 nodes, after 10 min 00 s for 1".into(),
                format!("the nodes' key is {0}; in a boot entry: ka.key={0}", *text),
                format!("on each node: ka-d-client -s 'lab 3' --key {} -e COMMAND", *text),
                "to start with fewer: press g, or run `ka-d-client -g -s 'lab 3'` on this host".into(),
            ]
        );
        let neither = said(&["-s", "lab", "--discovery-port", "5000"], &key, Start::default());
        let run = format!("ka-d-client -g -s lab --discovery-port 5000 --key {}", *text);
        assert_eq!(neither[3], format!("to start with fewer: run `{run}`"));
        let one = Served::from(Options::parse(["ka-d-server", "-s", "lab"].map(Into::into)).unwrap());
        assert_eq!(lines(&one, &key, 30765, (30764, 1), both).len(), 3, "there are no fewer");
        assert_eq!((hint(both), hint(Start::default())), ("; g starts with these".into(), String::new()));
    }

    #[test]
    fn a_session_without_a_name_or_a_key() {
        let said = said(&["--insecure"], &Key::insecure(), Start::default());
        assert!(said[0].contains("INSECURE"), "{said:?}");
        assert_eq!(said[1], "on each node: ka-d-client -h THIS-HOST --insecure -e COMMAND");
    }
}
