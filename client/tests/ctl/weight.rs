//! `freemkvctl weight`.

use crate::fake_daemon::FakeDaemon;
use crate::status::healthy;
use crate::{exit_code, freemkvctl, stderr, stdout};

#[test]
fn a_weight_is_asked_for_and_nothing_said() {
    let daemon = FakeDaemon::start(healthy());
    for weight in ["10", "300", "1000"] {
        let output = freemkvctl(&daemon.socket()).args(["weight", "2", weight]).output().unwrap();
        assert_eq!((stdout(&output), stderr(&output)), (String::new(), String::new()));
        assert_eq!(exit_code(&output), 0);
    }
    assert_eq!(daemon.weights(), [(2, 10), (2, 300), (2, 1000)]);
}

#[test]
fn a_refusal_is_a_failure_in_words() {
    let daemon = FakeDaemon::start(healthy());
    let output = freemkvctl(&daemon.socket()).args(["weight", "77", "100"]).output().unwrap();
    assert_eq!(exit_code(&output), 1);
    let said = stderr(&output);
    assert!(said.ends_with("there is no such stream\n"), "{said}");
}
