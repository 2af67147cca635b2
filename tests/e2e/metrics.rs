//! Metrics: by a request, and over HTTP.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use freemkvd_client::control::Control;
use freemkvd_tests::daemon::{Daemon, wait_until};
use freemkvd_tests::hold::Held;

use crate::support::{MIB, scratch, write_pattern};

/// How long a test waits before it fails: many times what anything takes on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// A daemon that serves metrics, and its port there.
fn serving(root: &Path) -> (Daemon, u16) {
    // The daemon takes a port that is free, and says which.
    let daemon = Daemon::start(root, "[metrics]\nlisten = \"127.0.0.1:0\"\n");
    let line = daemon.wait_for_log(&["metrics are at http://127.0.0.1:"]);
    let (_, rest) = line.split_once("http://127.0.0.1:").unwrap();
    let port = rest.split_once("/metrics").unwrap().0.parse().unwrap();
    (daemon, port)
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The head and the body of the answer to a request of this first line.
fn ask(port: u16, line: &str) -> (String, String) {
    let mut stream = connect(port);
    write!(stream, "{line} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_lowercase(), body.to_owned())
}

fn by_request(daemon: &Daemon) -> String {
    Control::connect(Some(daemon.socket()), PATIENCE).unwrap().metrics().unwrap()
}

/// The value of a sample, by its name with all labels.
fn value(text: &str, sample: &str) -> Option<f64> {
    let of = |line: &str| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok();
    text.lines().find_map(of)
}

#[test]
fn what_streams_did_is_counted_also_when_they_are_gone() {
    let root = scratch();
    let (daemon, port) = serving(root.path());
    let count = |sample: &str| value(&by_request(&daemon), sample).unwrap();
    assert_eq!(count("freemkvd_streams_opened_total"), 0.0);
    let mut file = daemon.options().create(root.path().join("film.mkv")).unwrap();
    write_pattern(&mut file, 1, 0, 20 * MIB).unwrap();
    file.finish().unwrap();
    assert!(wait_until(|| daemon.status().devices.is_empty()), "{:?}", daemon.status());
    let (mut head, mut text) = Default::default();
    // What was put together just now is given again.
    let is_counted = || {
        (head, text) = ask(port, "GET /metrics");
        assert!(head.starts_with("http/1.1 200"), "{head}");
        value(&text, "freemkvd_streams_opened_total") == Some(1.0)
    };
    assert!(wait_until(is_counted), "{text}");
    assert!(
        head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"),
        "{head}"
    );
    let of = |sample: &str| value(&text, sample);
    assert_eq!(of("freemkvd_accepted_bytes_total"), Some(20.0 * MIB as f64));
    assert_eq!(of("freemkvd_drained_bytes_total"), Some(20.0 * MIB as f64));
    assert_eq!(of("freemkvd_streams_opened_total"), Some(1.0));
    assert_eq!(of("freemkvd_streams_failed_total"), Some(0.0));
    assert!(of("freemkvd_stream_time_seconds_total{cause=\"write\"}").unwrap() > 0.0, "{text}");
    assert!(!text.contains("freemkvd_device_state{"), "a device that is gone: {text}");
    for histogram in ["write_wait", "write", "completion", "sync"] {
        let start = format!("freemkvd_{histogram}_seconds_count{{device=");
        let line = text.lines().find(|line| line.starts_with(&start)).unwrap();
        assert!(!line.ends_with(" 0"), "{line}");
    }
    assert!(!text.contains("film"), "a label for each file would never end: {text}");
}

#[test]
fn an_address_that_is_taken_costs_the_metrics_over_http_and_nothing_else() {
    let root = scratch();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let daemon = Daemon::start(root.path(), &format!("[metrics]\nlisten = \"{address}\"\n"));
    let mut file = daemon.options().create(root.path().join("film.mkv")).unwrap();
    write_pattern(&mut file, 1, 0, 2 * MIB).unwrap();
    file.finish().unwrap();
    let taken_bytes = value(&by_request(&daemon), "freemkvd_accepted_bytes_total");
    assert_eq!(taken_bytes, Some(2.0 * MIB as f64));
    let address = address.to_string();
    daemon.wait_for_log(&["WARN", "for metrics", &address, "everything else is served"]);
}

#[test]
fn the_text_has_each_family_once_with_its_meaning_and_its_end() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let mut file = daemon.options().create(root.path().join("film.mkv")).unwrap();
    write_pattern(&mut file, 1, 0, 2 * MIB).unwrap();
    file.sync_all().unwrap();
    let text = by_request(&daemon);
    assert!(text.ends_with("\n# EOF\n"), "{text}");
    let names = |mark: &str| -> Vec<&str> {
        text.lines().filter_map(|line| line.strip_prefix(mark)?.split(' ').next()).collect()
    };
    let (types, helps) = (names("# TYPE "), names("# HELP "));
    assert_eq!(types.iter().collect::<BTreeSet<_>>().len(), types.len(), "{types:?}");
    assert_eq!(types, helps);
    assert!(
        types.len() > 20 && types.iter().all(|name| name.starts_with("freemkvd_")),
        "{types:?}"
    );
    for line in text.lines().filter_map(|line| line.strip_prefix("# UNIT ")) {
        let (name, unit) = line.split_once(' ').unwrap();
        assert!(name.ends_with(unit), "{line}");
    }
}

#[test]
fn everything_else_is_refused() {
    let root = scratch();
    let (_daemon, port) = serving(root.path());
    assert!(ask(port, "GET /").0.starts_with("http/1.1 404"));
    assert!(ask(port, "GET /metrics/").0.starts_with("http/1.1 404"));
    let (head, _) = ask(port, "POST /metrics");
    assert!(head.starts_with("http/1.1 405") && head.contains("allow: get"), "{head}");
    assert!(ask(port, "GET /metrics").0.starts_with("http/1.1 200"));
}

/// The daemon ends the connection, without an answer or with one that says why.
fn is_cut(stream: &mut TcpStream) {
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert!(!matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "it is kept");
    }
    assert!(!String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 200"));
}

#[test]
fn silent_clients_hold_nobody_up_and_are_cut() {
    let root = scratch();
    let (daemon, port) = serving(root.path());
    // As many as may be connected, who say nothing, or not all of it.
    let mut silent: Vec<_> = (0..8).map(|_| connect(port)).collect();
    write!(silent[0], "GET /metrics HTTP/1.1\r\nHost: ").unwrap();
    assert!(by_request(&daemon).ends_with("# EOF\n"));
    // Each takes the place of the first of them.
    for _ in 0..3 {
        assert!(ask(port, "GET /metrics").0.starts_with("http/1.1 200"));
        assert!(ask(port, "GET /metrics").0.starts_with("http/1.1 200"));
        is_cut(&mut silent.remove(0));
        silent.push(connect(port));
    }
    silent.iter_mut().for_each(is_cut);
}

#[test]
fn a_stream_that_hangs_does_not_hold_metrics_up_and_is_seen_in_them() {
    let root = scratch();
    let (daemon, port) = serving(root.path());
    let mut file =
        daemon.options().window_bytes(MIB).create(root.path().join("stuck.mkv")).unwrap();
    let held = Held::writer(&daemon, file.stream_id().unwrap());
    write_pattern(&mut file, 1, 0, 20 * MIB).unwrap();
    file.sync_all_timeout(Duration::from_millis(50)).unwrap_err();
    // It hangs until the end of this test, and they are answered.
    let text = by_request(&daemon);
    assert_eq!(value(&text, "freemkvd_queued_bytes"), Some(20.0 * MIB as f64));
    let (_, text) = ask(port, "GET /metrics");
    assert_eq!(value(&text, "freemkvd_accepted_bytes_total"), Some(20.0 * MIB as f64));
    assert_eq!(value(&text, "freemkvd_drained_bytes_total"), Some(0.0));
    drop(held);
    file.finish().unwrap();
}
