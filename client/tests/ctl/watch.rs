//! `freemkvctl watch`.

use std::io::{BufRead, BufReader, Lines, Read};
use std::process::{Child, ChildStdout, Stdio};

use freemkvd_proto::status::{DaemonState, Held, Status, StreamState, WaitingFor};
use freemkvd_proto::waits::{Cause, Waits};

use crate::fake_daemon::FakeDaemon;
use crate::freemkvctl;
use crate::status::{healthy, stream};

fn watch(daemon: &FakeDaemon, more: &[&str]) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut command = freemkvctl(&daemon.socket());
    command.args(["watch", "--interval", "0.1"]).args(more);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines)
}

fn full() -> Status {
    let mut status = healthy();
    status.streams[1].state = StreamState::NoSpace;
    let what = "space on /rips (at least 3.1 GiB more, gives up in 7m)".to_owned();
    status.streams[1].waiting_for = Some(WaitingFor { what, ms: 0 });
    status
}

#[test]
fn each_change_is_a_line_and_what_is_wrong_comes_first() {
    let daemon = FakeDaemon::start(full());
    let (mut child, mut lines) = watch(&daemon, &[]);
    let mut next = || {
        let line = lines.next().unwrap().unwrap();
        let (time, message) = line.split_once(' ').unwrap();
        assert!(time.len() == "2026-11-26T21:05:09.250Z".len() && time.ends_with('Z'), "{line}");
        message.to_owned()
    };
    let film = "stream 2, /rips/Metropolis (1927)/title_t03.mkv";
    let what = "space on /rips (at least 3.1 GiB more, gives up in 7m)";
    assert_eq!(next(), format!("waiting for {what}, for 3 s so far: {film}"));
    let mut status = healthy();
    daemon.say(status.clone());
    assert_eq!(next(), format!("goes on: {film}"));
    status.streams.push(stream(3, "/rips/\u{1b}[2J.mkv"));
    daemon.say(status.clone());
    assert_eq!(next(), "opened: stream 3, /rips/\\u{1b}[2J.mkv");
    status.streams.pop();
    daemon.say(status);
    assert_eq!(next(), "ended: stream 3, /rips/\\u{1b}[2J.mkv");
    // Nothing is said any more, and it learns all the same that nobody listens.
    drop(lines);
    if cfg!(not(unix)) {
        daemon.say(full());
    }
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let mut complaints = String::new();
    child.stderr.take().unwrap().read_to_string(&mut complaints).unwrap();
    assert_eq!(complaints, "");
}

#[test]
fn json_has_the_promised_keys_and_says_how_a_stream_ended() {
    let daemon = FakeDaemon::start(healthy());
    let (mut child, mut lines) = watch(&daemon, &["--json"]);
    let mut next = || {
        let line = lines.next().unwrap().unwrap();
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        (line, json)
    };
    // It has to have seen the first report before there is another.
    daemon.say(full());
    let mut said = next();
    assert_eq!(said.1["event"], "stream-no-space");
    let mut gone = healthy();
    // The fake daemon knows where the time of this one went; it was in writeback.
    gone.streams.remove(0);
    daemon.say(gone);
    said = next();
    let time = said.1["time"].as_str().unwrap();
    let mut ended = vec![said.0.replace(time, "T")];
    ended.push(next().0);
    assert_eq!(
        ended[0],
        r#"{"time":"T","event":"stream-ended","stream":1,"path":"/rips/The Third Man (1949)/title_t00.mkv","device":"8:17","state":"writing","how":null,"message":"ended: stream 1, /rips/The Third Man (1949)/title_t00.mkv"}"#
    );
    assert!(ended[1].contains(r#""event":"stream-goes-on","stream":2,"#), "{}", ended[1]);
    drop(lines);
    daemon.say(full());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_stall_and_a_muxer_that_is_held_up_have_events() {
    let daemon = FakeDaemon::start(healthy());
    let (mut child, mut lines) = watch(&daemon, &["--json"]);
    let mut next = || {
        let line = lines.next().unwrap().unwrap();
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        (json["event"].as_str().unwrap().to_owned(), json["stream"].as_u64())
    };
    // It has to have seen the first report before there is another.
    daemon.say(full());
    assert_eq!(next(), ("stream-no-space".to_owned(), Some(2)));
    let mut status = full();
    status.streams[0].blocked_in = Some("fdatasync".into());
    status.streams[0].state_seconds = 4;
    daemon.say(status.clone());
    status.streams[1] = healthy().streams.remove(1);
    daemon.say(status.clone());
    assert_eq!(next(), ("stream-goes-on".to_owned(), Some(2)));
    status.streams[0].state_seconds = 5;
    daemon.say(status.clone());
    assert_eq!(next(), ("stream-stalled".to_owned(), Some(1)));
    status.streams[0].blocked_in = None;
    let held = Held { percent: 82, of_seconds: 45, cause: Cause::DeviceBudget };
    status.streams[0].held = Some(held);
    daemon.say(status.clone());
    assert_eq!(next(), ("stream-slow".to_owned(), Some(1)));
    status.streams[0].held = None;
    daemon.say(status);
    assert_eq!(next(), ("stream-goes-on".to_owned(), Some(1)));
    drop(lines);
    daemon.say(full());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn no_name_reaches_a_terminal_as_a_command() {
    let path = "/rips/\u{9b}31m\u{7f}\u{1b}[2J.mkv";
    let mut named = full();
    for stream in &mut named.streams {
        stream.path = path.into();
    }
    let daemon = FakeDaemon::start(named);
    for (options, shown) in [
        (&["--json"][..], "/rips/\\u009b31m\\u007f\\u001b[2J.mkv"),
        (&[][..], "/rips/\\u{9b}31m\\u{7f}\\u{1b}[2J.mkv"),
    ] {
        let (mut child, mut lines) = watch(&daemon, options);
        let line = lines.next().unwrap().unwrap();
        assert!(line.contains(shown) && !line.contains(char::is_control), "{line:?}");
        if let Ok(json) = serde_json::from_str::<serde_json::Value>(&line) {
            assert_eq!(json["path"], path);
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let output = freemkvctl(&daemon.socket()).args(["status", "--json"]).output().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["streams"][0]["path"], path);
    assert!(!crate::stdout(&output).trim_end().contains(char::is_control));
}

#[cfg(unix)]
#[test]
fn it_says_that_the_daemon_is_gone_and_that_it_is_back_and_ends_with_ctrl_c() {
    let daemon = FakeDaemon::start(full());
    let (mut child, mut lines) = watch(&daemon, &["--json"]);
    let mut next = || {
        let line = lines.next().unwrap().unwrap();
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        (json["event"].as_str().unwrap().to_owned(), json["stream"].as_u64())
    };
    assert_eq!(next(), ("stream-no-space".to_owned(), Some(2)));
    daemon.hide();
    assert_eq!(next(), ("daemon-gone".to_owned(), None));
    daemon.say(healthy());
    daemon.show_again();
    assert_eq!(next(), ("daemon-back".to_owned(), None));
    assert_eq!(next(), ("stream-goes-on".to_owned(), Some(2)));
    crate::interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(lines.next().is_none());
}

#[test]
fn a_stream_that_waits_for_the_next_daemon_is_finished_when_it_is_and_not_before() {
    let daemon = FakeDaemon::start(healthy());
    let film = healthy().streams[0].clone();
    // The last that the daemon does of a stream which it leaves to the next one is a sync, too.
    let (path, error) = (film.path.clone(), None);
    daemon.account(Waits { path, error, now: Cause::Sync, ..crate::why::waits() });
    let (mut child, mut lines) = watch(&daemon, &["--json"]);
    let mut next = || {
        let line = lines.next().unwrap().unwrap();
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        let text = |key: &str| json[key].as_str().map(str::to_owned);
        (text("event").unwrap(), json["stream"].as_u64(), text("how"))
    };
    let told = |event: &str, stream, how: Option<&str>| {
        (event.to_owned(), stream, how.map(ToOwned::to_owned))
    };
    // It has to have seen the first report before there is another.
    daemon.say(full());
    assert_eq!(next(), told("stream-no-space", Some(2), None));
    let draining = Status { state: DaemonState::Draining, streams: vec![], ..healthy() };
    daemon.say(draining);
    assert_eq!(next(), told("daemon-draining", None, None));
    let suspended = |mut status: Status| {
        status.pid += 1;
        status.streams.truncate(1);
        status.streams[0].state = StreamState::Suspended;
        status
    };
    daemon.say(suspended(healthy()));
    assert_eq!(next(), told("daemon-back", None, None));
    assert_eq!(next(), told("stream-ended", Some(2), None));
    assert_eq!(next(), told("stream-suspended", Some(1), None));
    daemon.say(Status { streams: vec![film], ..suspended(healthy()) });
    assert_eq!(next(), told("stream-goes-on", Some(1), None));
    daemon.say(Status { streams: vec![], ..suspended(healthy()) });
    assert_eq!(next(), told("stream-ended", Some(1), Some("finished")));
    drop(lines);
    daemon.say(full());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
