//! A changed configuration: what takes effect does, what does not is said, and a broken one changes
//! nothing.

use std::io::{Read, Write};
use std::process::Command;
use std::time::Duration;

use freemkvd_client::Error;
use freemkvd_client::control::Control;
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
        "log.level from INFO to DEBUG; needs a restart: nothing",
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

#[test]
fn the_log_level_follows_the_configuration_while_streams_go_on() {
    let root = scratch();
    // To where nobody listens: each attempt to tell systemd something has a line at the level of debug.
    let launcher = ["env", "NOTIFY_SOCKET=/nonexistent/notify"];
    let daemon = Daemon::start_under(&launcher, root.path(), "");
    let neighbour = Neighbour::start(&daemon, root.path());
    reload(&daemon, "[log]\nlevel = \"debug\"\n");
    daemon.wait_for_log(&["configuration reloaded", "log.level from INFO to DEBUG"]);
    daemon.wait_for_log(&["DEBUG", "systemd can't be told"]);
    assert!(!daemon.log().split("reloaded").next().unwrap().contains("DEBUG"), "too early");
    reload(&daemon, "[log]\nlevel = \"info\"\n");
    daemon.wait_for_log(&["configuration reloaded", "log.level from DEBUG to INFO"]);
    // Systemd is told of this one as well.
    reload(&daemon, "[log]\nlevel = \"info\"\n[budget]\ntotal = \"16MiB\"\n");
    daemon.wait_for_log(&["configuration reloaded", "budget.total"]);
    let log = daemon.log();
    let after = log.split("log.level from DEBUG to INFO").nth(1).unwrap();
    assert!(!after.contains("DEBUG"), "{after}");
    neighbour.assert_unharmed();
}

#[test]
fn a_log_that_nobody_reads_stops_no_stream_no_status_and_no_end() {
    let root = scratch();
    let pipe = root.path().join("log");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut reader = std::fs::File::options().read(true).write(true).open(&pipe).unwrap();
    // As much as a pipe holds: there is no room for a single line.
    reader.write_all(&[b'.'; 64 << 10]).unwrap();
    let redirect = format!("exec \"$0\" \"$@\" 2>'{}'", pipe.display());
    let daemon = Daemon::start_under(&["sh", "-c", &redirect], root.path(), "");
    let neighbour = Neighbour::start(&daemon, root.path());
    for number in 0..100 {
        let path = root.path().join(format!("{number}.mkv"));
        daemon.options().create(&path).unwrap().finish().unwrap();
    }
    assert!(daemon.status().streams.len() <= 1);
    neighbour.assert_unharmed();
    // What was said meanwhile is told when the log is read.
    let mut said = String::new();
    let mut piece = vec![0; 4096];
    while !said.contains("finished: ") {
        let len = reader.read(&mut piece).unwrap();
        said += &String::from_utf8_lossy(&piece[..len]);
    }
    assert!(said.contains("freemkvd serves"), "{said}");
    // Nobody reads on.
    let (end, _) = daemon.stop();
    assert!(end.success(), "{end}");
}

#[test]
fn a_reload_by_a_request_says_what_came_of_it() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "[budget]\ntotal = \"64MiB\"\n");
    let mut control = Control::connect(Some(daemon.socket()), Duration::from_secs(10)).unwrap();
    let config = "[budget]\ntotal = \"16MiB\"\n[metrics]\nlisten = \"127.0.0.1:9\"\n";
    std::fs::write(daemon.config_file(), config).unwrap();
    let reloaded = control.reload().unwrap();
    assert_eq!(reloaded.changed, ["budget.total from 64.0 MiB to 16.0 MiB"]);
    assert_eq!(reloaded.needs_restart.len(), 1, "{reloaded:?}");
    assert!(reloaded.needs_restart[0].starts_with("metrics.listen from "), "{reloaded:?}");
    // It counts at once.
    assert_eq!(control.status().unwrap().budget.limit_bytes, 16 * MIB);
    std::fs::write(daemon.config_file(), "[budget]\ntotal = 7\n").unwrap();
    let refused = control.reload().unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::BAD_CONFIGURATION), "{refused}");
    for words in ["reload the configuration", "is kept as it was", "config.toml:2: invalid type"] {
        assert!(refused.to_string().contains(words), "{words} is not in: {refused}");
    }
    // Many at once: each hears of a reading that began after it had asked.
    std::fs::write(daemon.config_file(), config).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let socket = Some(daemon.socket());
                Control::connect(socket, Duration::from_secs(10)).unwrap().reload().unwrap();
            });
        }
    });
    assert_eq!(control.status().unwrap().budget.limit_bytes, 16 * MIB);
}

#[test]
fn without_a_file_there_is_nothing_to_reload() {
    let (root, home) = (scratch(), daemon::home());
    let socket = home.path().join("s");
    let mut command = Command::new(programs::freemkvd());
    command.arg("--socket").arg(&socket).arg("--root").arg(root.path());
    let daemon = Daemon::start_as(home, socket, command);
    let mut control = Control::connect(Some(daemon.socket()), Duration::from_secs(10)).unwrap();
    let refused = control.reload().unwrap_err();
    assert!(refused.to_string().contains("started without --config"), "{refused}");
}
