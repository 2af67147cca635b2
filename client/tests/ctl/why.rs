//! `freemkvctl why`.

use freemkvd_proto::waits::{Cause, Part, Waits};

use crate::fake_daemon::FakeDaemon;
use crate::status::healthy;
use crate::{exit_code, freemkvctl, stderr, stdout};

const SECOND: u64 = 1_000_000_000;

fn part(cause: Cause, [seconds, held, recent, recent_held]: [u64; 4]) -> Part {
    Part {
        cause,
        ns: seconds * SECOND,
        held_ns: held * SECOND,
        recent_ns: recent * SECOND,
        recent_held_ns: recent_held * SECOND,
    }
}

/// What the fake daemon knows of its stream 1.
pub(crate) fn waits() -> Waits {
    Waits {
        stream: 1,
        path: "/rips/\u{1b}[2Ja film.mkv".into(),
        client_pid: Some(4711),
        ended_seconds_ago: None,
        error: None,
        lifetime_ns: 200 * SECOND,
        recent_ns: 40 * SECOND,
        now: Cause::Writeback,
        now_ns: 42 * SECOND,
        parts: vec![
            part(Cause::Opening, [1, 1, 0, 0]),
            part(Cause::Muxer, [130, 0, 3, 0]),
            part(Cause::Turn, [7, 2, 0, 0]),
            part(Cause::Writeback, [62, 47, 37, 37]),
        ],
    }
}

#[test]
fn the_worst_comes_first_and_the_parts_add_up() {
    let daemon = FakeDaemon::start(healthy());
    let output = freemkvctl(&daemon.socket()).args(["why", "1"]).output().unwrap();
    let expected = r"stream 1: /rips/\u{1b}[2Ja film.mkv, muxer 4711
open for 3 min 20 s; now waiting for writeback to the device, for 42 s
its muxer was held up for 50 s of that (25 %), most of all while the stream was waiting for writeback to the device

THE STREAM WAS                              FOR    %  MUXER HELD UP   LATELY  HELD UP
waiting for writeback to the device   1 min 2 s   31           47 s     37 s     37 s
waiting for its turn on the disk        7000 ms    3        2000 ms     0 ms     0 ms
being opened                            1000 ms    0        1000 ms     0 ms     0 ms
waiting for its muxer                2 min 10 s   65           0 ms  3000 ms     0 ms
in all                               3 min 20 s  100           50 s     40 s     37 s
";
    assert_eq!((stdout(&output).as_str(), stderr(&output).as_str()), (expected, ""));
    assert_eq!(exit_code(&output), 0);
}

#[test]
fn json_is_what_the_daemon_has_said() {
    let daemon = FakeDaemon::start(healthy());
    let output = freemkvctl(&daemon.socket()).args(["why", "1", "--json"]).output().unwrap();
    let told: Waits = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((told, exit_code(&output)), (waits(), 0));
}

#[test]
fn a_stream_that_nobody_knows_is_a_failure_in_words() {
    let daemon = FakeDaemon::start(healthy());
    let output = freemkvctl(&daemon.socket()).args(["why", "77"]).output().unwrap();
    let said = stderr(&output);
    assert!(said.ends_with("there is no such stream\n"), "{said}");
    assert_eq!((exit_code(&output), stdout(&output)), (1, String::new()));
    for wrong in [&["why"][..], &["why", "film"], &["why", "1", "--json", "--no-header"]] {
        let output = freemkvctl(&daemon.socket()).args(wrong).output().unwrap();
        assert_eq!(exit_code(&output), 2, "{wrong:?}");
    }
}
