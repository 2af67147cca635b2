//! `freemkvctl abort`.

use crate::fake_daemon::FakeDaemon;
use crate::status::healthy;
use crate::{exit_code, freemkvctl, stderr, stdout};

#[test]
fn an_abort_is_asked_for_and_nothing_said() {
    let daemon = FakeDaemon::start(healthy());
    let output = freemkvctl(&daemon.socket()).args(["abort", "2"]).output().unwrap();
    assert_eq!((stdout(&output), stderr(&output)), (String::new(), String::new()));
    assert_eq!((exit_code(&output), daemon.aborts()), (0, vec![2]));
}

#[test]
fn a_refusal_is_a_failure_in_words() {
    let daemon = FakeDaemon::start(healthy());
    let output = freemkvctl(&daemon.socket()).args(["abort", "77"]).output().unwrap();
    assert_eq!(exit_code(&output), 1);
    let said = stderr(&output);
    assert!(said.ends_with("there is no such stream\n"), "{said}");
    let output = freemkvctl(&daemon.socket()).args(["abort", "film"]).output().unwrap();
    assert_eq!(exit_code(&output), 2);
}
