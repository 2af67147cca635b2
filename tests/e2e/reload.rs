//! A changed configuration: what takes effect does, what does not is said, and a broken one changes
//! nothing.

use std::process::Command;

use freemkvd_client::Error;
use freemkvd_proto::ErrorCode;
use freemkvd_tests::daemon::{self, Daemon};
use freemkvd_tests::programs;
use rustix::process::Signal;

use crate::support::{MIB, Neighbour, scratch};

fn reload(daemon: &Daemon, config: &str) {
    std::fs::write(daemon.config_file(), config).unwrap();
    daemon.signal(Signal::HUP);
}

#[test]
fn new_limits_take_effect_and_are_named() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "[budget]\ntotal = \"64MiB\"\n");
    let neighbour = Neighbour::start(&daemon, root.path());
    assert_eq!(daemon.status().budget.limit_bytes, 64 * MIB);
    let config = "[budget]\ntotal = \"16MiB\"\n[stream]\nqueue_total = \"128MiB\"\n\
                  [limits]\nstreams = 2\n[log]\nlevel = \"debug\"\n";
    reload(&daemon, config);
    let status = daemon.wait_for("the new budget", |status| status.budget.limit_bytes == 16 * MIB);
    // What the neighbour shares of its own memory is beside it.
    assert_eq!(status.budget.queue_limit_bytes, (128 + 56) * MIB);
    let line = daemon.wait_for_log(&["configuration reloaded"]);
    for words in [
        "budget.total from 64.0 MiB to 16.0 MiB",
        "limits.streams from 256 to 2",
        "stream.queue_total from 256.0 MiB to 128.0 MiB",
        "needs a restart: log.level from INFO to DEBUG",
    ] {
        assert!(line.contains(words), "{words} is not in: {line}");
    }
    let _second = daemon.options().create(root.path().join("second")).unwrap();
    let error = daemon.options().create(root.path().join("third")).unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::TOO_MANY_STREAMS), "{error}");
    neighbour.assert_unharmed();
}

#[test]
fn a_changed_socket_needs_a_restart_and_new_roots_do_not() {
    let (root, added) = (scratch(), scratch());
    let home = daemon::home();
    let [socket, other, file] = ["s", "other", "config.toml"].map(|name| home.path().join(name));
    let config = |socket: &std::path::Path, roots: &[&std::path::Path]| {
        format!("[daemon]\nsocket = {socket:?}\nroots = {roots:?}\n")
    };
    std::fs::write(&file, config(&socket, &[root.path()])).unwrap();
    let mut command = Command::new(programs::freemkvd());
    command.arg("--config").arg(&file);
    let daemon = Daemon::start_as(home, socket, command);
    let path = added.path().join("film.mkv");
    let error = daemon.options().create(&path).unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::OUTSIDE_ROOTS), "{error}");

    reload(&daemon, &config(&other, &[root.path(), added.path()]));
    let line = daemon.wait_for_log(&["configuration reloaded"]);
    let needs = format!("needs a restart: daemon.socket from {}", daemon.socket().display());
    assert!(line.contains(&needs), "{line}");
    assert!(line.contains("changed: daemon.roots from"), "{line}");
    daemon.options().create(&path).unwrap().finish().unwrap();
    let elsewhere = daemon.options().socket(&other).create(&path).unwrap_err();
    assert!(matches!(elsewhere, Error::NoDaemon { .. }), "{elsewhere}");
}

#[test]
fn a_broken_file_keeps_what_was_and_its_line_is_named() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "[budget]\ntotal = \"64MiB\"\n");
    let neighbour = Neighbour::start(&daemon, root.path());
    let file = daemon.config_file();
    let cases = [
        ("\n[budget]\ntotal = \"1MiB\"\n", 3, "at least 8.0 MiB"),
        ("[budget]\ntotal = 5\n", 2, "expected a string"),
        ("[budget]\n\n\ntotals = \"64MiB\"\n", 4, "unknown field `totals`"),
        ("[budget\n", 1, ""),
        ("\n\n\n\n[limits]\nstreams = 0\n", 6, "at least 1"),
    ];
    for (text, line, words) in cases {
        reload(&daemon, text);
        let place = format!("{}:{line}", file.display());
        let said = daemon.wait_for_log(&["ERROR", "the configuration is kept as it was", &place]);
        assert!(said.contains(words), "{words} is not in: {said}");
    }
    std::fs::remove_file(&file).unwrap();
    daemon.signal(Signal::HUP);
    daemon.wait_for_log(&["kept as it was", "cannot read the configuration"]);
    let status = daemon.status();
    assert_eq!(status.budget.limit_bytes, 64 * MIB);
    neighbour.assert_unharmed();
}
