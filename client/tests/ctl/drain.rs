//! `freemkvctl drain`.

use crate::fake_daemon::FakeDaemon;
use crate::status::healthy;
use crate::{exit_code, freemkvctl, stderr, stdout};

#[test]
fn a_drain_is_asked_for_and_nothing_said() {
    let daemon = FakeDaemon::start(healthy());
    let output = freemkvctl(&daemon.socket()).arg("drain").output().unwrap();
    assert_eq!((stdout(&output), stderr(&output)), (String::new(), String::new()));
    assert_eq!(exit_code(&output), 0);
    assert_eq!(daemon.drains(), 1);
}

#[test]
fn a_daemon_that_is_too_old_is_a_failure_in_words() {
    let daemon = FakeDaemon::start(healthy());
    daemon.grow_old();
    let output = freemkvctl(&daemon.socket()).arg("drain").output().unwrap();
    assert_eq!(exit_code(&output), 1);
    let said = stderr(&output);
    assert!(said.contains("it speaks protocol version 2, which has no such request"), "{said}");
    assert_eq!(daemon.drains(), 0);
}

#[test]
fn nobody_there_is_no_daemon() {
    let output = freemkvctl(&crate::nobody()).arg("drain").output().unwrap();
    assert_eq!(exit_code(&output), 3);
}
