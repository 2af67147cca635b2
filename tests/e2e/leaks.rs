//! A daemon that has served a hundred streams, however they ended, is as it was before the first.

use std::io::Write;
use std::process::Stdio;

use freemkvd_proto::OpenMode;
use freemkvd_proto::status::StreamState;
use freemkvd_tests::daemon::{Daemon, wait_until};
use freemkvd_tests::peer::Peer;

use crate::support::{MIB, muxer, scratch, write_pattern};

/// A shuffled order that is the same each time.
fn order(seed: u64, count: u64) -> Vec<u64> {
    let mut numbers: Vec<_> = (0..count).collect();
    numbers.sort_by_key(|number| (seed + number).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    numbers
}

#[test]
fn nothing_is_left_of_a_hundred_streams() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let status = daemon.status();
    assert!(status.streams.is_empty());
    let baseline = (daemon.descriptors(), daemon.threads().len());
    let seed = 7;
    println!("seed {seed}");
    let mut killed = 0;
    for round in 0..10 {
        let mut streams: Vec<_> = (0..9)
            .map(|number| {
                let options = daemon.options().window_bytes(MIB);
                let options = options.size_hint(number * MIB);
                let mut file = options.create(root.path().join(number.to_string())).unwrap();
                write_pattern(&mut file, number, 0, number * MIB / 2).unwrap();
                Some(file)
            })
            .collect();
        let mut process = muxer(&daemon, "m2ts", 60.0, &root.path().join("muxer"))
            .args(["--speed", "1"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        daemon.wait_for("the muxer's stream", |status| {
            let live =
                status.streams.iter().filter(|stream| stream.client_pid == Some(process.id()));
            live.count() == 1
        });
        for number in order(seed + round, 10) {
            let at = usize::try_from(number).unwrap();
            let Some(file) = streams.get_mut(at).and_then(Option::take) else {
                process.kill().unwrap();
                process.wait().unwrap();
                killed += 1;
                continue;
            };
            match (number + round) % 3 {
                0 => drop(file.finish().unwrap()),
                1 => file.abort().unwrap(),
                _ => drop(file),
            }
        }
        // And some that were never a stream.
        let mut peer = Peer::greet(daemon.socket());
        peer.header(0x7f, 0, 0, 0);
        peer.failure();
        drop(peer);
        daemon.options().create("/outside").unwrap_err();
    }
    assert_eq!(killed, 10);
    // Fewer is possible: the connection of the first report may not have been closed yet.
    let settled =
        wait_until(|| daemon.descriptors() <= baseline.0 && daemon.threads().len() <= baseline.1);
    let now = (daemon.descriptors(), daemon.threads().len());
    assert!(settled, "descriptors and threads were {baseline:?}, are {now:?}");
    let end = daemon.wait_for("no charges", |status| {
        status.budget.charged_bytes == 0 && status.devices.is_empty()
    });
    assert_eq!(end.budget.queued_bytes, 0);
    // It still works.
    let mut file = daemon.options().create(root.path().join("last")).unwrap();
    file.write_all(b"content").unwrap();
    file.finish().unwrap();
}

#[test]
fn streams_that_ended_badly_take_no_part_of_the_queues() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let limit = |name: &str| {
        let mut peer = Peer::greet(daemon.socket());
        peer.open(root.path().join(name), OpenMode::Create).queue_limit_bytes
    };
    let first = limit("first");
    // Each is dropped without an end, and remembered.
    for number in 0..80 {
        limit(&number.to_string());
    }
    // A device is forgotten with its last file, and only then are all of them closed.
    daemon.wait_for("all of them abandoned, and closed", |status| {
        status.devices.is_empty()
            && status.streams.iter().all(|stream| stream.state == StreamState::Abandoned)
    });
    assert_eq!(limit("last"), first);
    // The last one is open for a moment more.
    daemon.wait_for("the oldest forgotten", |status| status.streams.len() <= 65);
}
