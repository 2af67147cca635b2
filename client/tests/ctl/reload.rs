//! `freemkvctl reload`.

use crate::fake_daemon::FakeDaemon;
use crate::status::healthy;
use crate::{exit_code, freemkvctl, stderr, stdout};

#[test]
fn what_has_changed_and_what_needs_a_restart_is_said() {
    let daemon = FakeDaemon::start(healthy());
    let run = || freemkvctl(&daemon.socket()).arg("reload").output().unwrap();
    let output = run();
    let changed = "changed: budget.total from 64.0 MiB to 16.0 MiB\n";
    assert_eq!(stdout(&output), format!("{changed}needs a restart: nothing\n"));
    assert_eq!((stderr(&output).as_str(), exit_code(&output)), ("", 0));
    daemon.needs_restart(&["daemon.socket from /a to /b\u{9b}", "metrics.listen from off to x"]);
    let words = r"daemon.socket from /a to /b\u{9b}; metrics.listen from off to x";
    assert_eq!(stdout(&run()), format!("{changed}needs a restart: {words}\n"));
}

#[test]
fn a_daemon_that_is_too_old_is_a_failure_in_words() {
    let daemon = FakeDaemon::start(healthy());
    daemon.grow_old();
    let output = freemkvctl(&daemon.socket()).arg("reload").output().unwrap();
    assert_eq!(exit_code(&output), 1);
    let said = stderr(&output);
    assert!(said.contains("reload the configuration of freemkvd at"), "{said}");
    assert!(said.contains("it speaks protocol version 2, which has no such request"), "{said}");
}
