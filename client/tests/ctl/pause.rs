//! `freemkvctl pause` and `resume`.

use freemkvd_proto::status::StreamState;

use crate::fake_daemon::FakeDaemon;
use crate::status::healthy;
use crate::{exit_code, freemkvctl, stderr, stdout};

#[test]
fn a_pause_and_its_end_are_asked_for_and_nothing_said() {
    let daemon = FakeDaemon::start(healthy());
    for (word, pause) in [("pause", true), ("resume", false)] {
        let output = freemkvctl(&daemon.socket()).args([word, "2"]).output().unwrap();
        assert_eq!((stdout(&output), stderr(&output)), (String::new(), String::new()));
        assert_eq!((exit_code(&output), daemon.pauses().pop()), (0, Some((2, pause))));
        let output = freemkvctl(&daemon.socket()).args([word, "77"]).output().unwrap();
        assert_eq!(exit_code(&output), 1);
        assert!(stderr(&output).ends_with("there is no such stream\n"), "{}", stderr(&output));
    }
}

#[test]
fn the_status_says_which_stream_is_paused_and_how_it_goes_on() {
    let mut status = healthy();
    status.streams[1].state = StreamState::Paused;
    status.streams[1].state_seconds = 65;
    let daemon = FakeDaemon::start(status);
    let output = freemkvctl(&daemon.socket()).arg("status").output().unwrap();
    let text = stdout(&output);
    let words =
        "paused for 1 min 5 s (freemkvctl resume 2 has it go on): stream 2, /rips/Metropolis";
    assert!(text.contains(words), "{text}");
    assert_eq!(exit_code(&output), 0, "somebody wanted it");
}
