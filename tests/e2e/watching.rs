//! What `freemkvctl watch` tells of a rip under which the daemon is restarted.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use freemkvd_client::control::Control;
use freemkvd_proto::status::StreamState;
use freemkvd_tests::daemon::{Daemon, wait_until};
use freemkvd_tests::programs;
use rustix::process::Signal;
use serde_json::Value;

use crate::support::{MIB, scratch, stuck, write_pattern};

#[test]
fn a_rip_that_outlives_its_daemon_is_told_as_finished_when_it_is() {
    let root = scratch();
    let mut daemon = Daemon::start(root.path(), "");
    let path = root.path().join("film.mkv");
    let mut film = daemon.options().create(&path).unwrap();
    let stream = film.stream_id().unwrap();
    write_pattern(&mut film, 1, 0, 3 * MIB).unwrap();
    film.sync_all().unwrap();
    // Something that hangs keeps the daemon draining for a while, so that this is seen.
    let (mut other, _, held) = stuck(&daemon, &root.path().join("stuck.mkv"));
    let writing = std::thread::spawn(move || {
        write_pattern(&mut other, 1, 0, 4 * MIB).unwrap();
        other.flush().unwrap();
    });
    daemon.wait_for("content of it", |status| {
        status.streams.iter().any(|stream| stream.queued_bytes > 0)
    });

    let paused = daemon.options().create(root.path().join("paused.mkv")).unwrap();
    let mut control = Control::connect(Some(daemon.socket()), Duration::from_secs(10)).unwrap();
    control.pause(paused.stream_id().unwrap()).unwrap();
    daemon.wait_for("the pause", |status| {
        status.streams.iter().any(|stream| stream.state == StreamState::Paused)
    });

    let mut watch = Command::new(programs::freemkvctl());
    watch.arg("--socket").arg(daemon.socket()).args(["watch", "--json", "--interval", "0.1"]);
    let mut watch = watch.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut events = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let mut until = |event: &str| -> Vec<Value> {
        let mut seen = Vec::new();
        while seen.last().is_none_or(|last: &Value| last["event"] != event) {
            seen.push(events.next().unwrap());
        }
        seen.retain(|seen| seen["stream"] == stream);
        seen
    };
    // What is told of the first report shows that the streams have been seen.
    assert_eq!(until("stream-paused"), Vec::<Value>::new());
    daemon.signal(Signal::TERM);
    assert_eq!(until("daemon-gone"), Vec::<Value>::new());
    held.wait_for_end();
    assert!(wait_until(|| daemon.ended().is_some()));
    daemon.start_again();
    let told = until("daemon-back");
    assert_eq!(told, Vec::<Value>::new());
    write_pattern(&mut film, 1, 3 * MIB, MIB).unwrap();
    film.finish().unwrap();
    let told = loop {
        let told = until("stream-ended");
        assert!(told.iter().all(|told| told["event"] != "stream-opened"), "{told:?}");
        if let Some(ended) = told.into_iter().find(|told| told["event"] == "stream-ended") {
            break ended;
        }
    };
    assert_eq!((told["how"].as_str(), told["path"].as_str()), (Some("finished"), path.to_str()));
    watch.kill().unwrap();
    watch.wait().unwrap();
    writing.join().unwrap();
    drop(paused);
}
