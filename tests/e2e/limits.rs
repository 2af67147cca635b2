//! As many clients as are allowed, and one more.

use std::io::Write;

use freemkvd_proto::ErrorCode;
use freemkvd_proto::hello::{ClientHello, DaemonHello};
use freemkvd_tests::daemon::{Daemon, wait_until};
use freemkvd_tests::pattern;
use freemkvd_tests::peer::Peer;

use crate::support::{MIB, Neighbour, scratch, write_pattern};

#[test]
fn two_hundred_streams_at_once_all_come_out_right() {
    const STREAMS: u64 = 200;
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let path = |number: u64| root.path().join(number.to_string());
    // All are open before the first writes.
    let files: Vec<_> = (0..STREAMS)
        .map(|number| {
            let options = daemon.options().window_bytes(MIB);
            options.create(path(number)).unwrap()
        })
        .collect();
    assert_eq!(daemon.status().streams.len(), 200);
    std::thread::scope(|scope| {
        for (number, mut file) in (0..STREAMS).zip(files) {
            scope.spawn(move || {
                write_pattern(&mut file, number, 0, 2 * MIB + number).unwrap();
                file.finish().unwrap();
            });
        }
        assert!(wait_until(|| {
            let status = daemon.status();
            let budget = &status.budget;
            assert!(budget.charged_bytes <= budget.limit_bytes, "{budget:?}");
            assert!(budget.queued_bytes <= budget.queue_limit_bytes, "{budget:?}");
            status.streams.is_empty()
        }));
    });
    for number in 0..STREAMS {
        let found = pattern::prefix_len(number, &path(number)).unwrap();
        assert_eq!(found, 2 * MIB + number);
    }
    let end = daemon.wait_for("no charges", |status| status.devices.is_empty());
    assert_eq!(end.budget.charged_bytes, 0);
}

#[test]
fn one_stream_more_than_allowed_is_refused_until_one_ends() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "[limits]\nstreams = 3\n");
    let neighbour = Neighbour::start(&daemon, root.path());
    let path = |number: usize| root.path().join(number.to_string());
    let mut one = daemon.options().create(path(1)).unwrap();
    let two = daemon.options().create(path(2)).unwrap();
    for _ in 0..5 {
        let error = daemon.options().create(path(3)).unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::TOO_MANY_STREAMS), "{error}");
        let text = error.to_string();
        assert!(text.contains("3 streams are open, as many as limits.streams allows"), "{text}");
        assert!(text.contains(path(3).to_str().unwrap()), "{text}");
    }
    assert!(!path(3).exists());
    assert_eq!(daemon.status().streams.len(), 3);
    two.finish().unwrap();
    let mut three = daemon.options().create(path(3)).unwrap();
    for file in [&mut one, &mut three] {
        file.write_all(b"content").unwrap();
        file.sync_all().unwrap();
    }
    neighbour.assert_unharmed();
}

#[test]
fn one_connection_more_than_allowed_is_refused_until_one_ends() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "[limits]\nstreams = 4\nconnections = 4\n");
    let neighbour = Neighbour::start(&daemon, root.path());
    // The daemon learns that a connection has ended a moment after its client.
    let mut peers = Vec::new();
    assert!(wait_until(|| {
        let mut peer = Peer::connect(daemon.socket());
        match peer.hello(&ClientHello::THIS.encode()) {
            Some(DaemonHello::Accepted { .. }) => peers.push(peer),
            answer => {
                let refusal = DaemonHello::refuse(ErrorCode::TOO_MANY_CONNECTIONS);
                assert_eq!(answer, Some(refusal));
                peer.wait_for_end();
            }
        }
        peers.len() == 3
    }));
    let error = daemon.options().create(root.path().join("refused")).unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::TOO_MANY_CONNECTIONS), "{error}");
    let text = error.to_string();
    assert!(text.contains("too many connections"), "{text}");
    assert!(text.contains(daemon.socket().to_str().unwrap()), "{text}");
    daemon.wait_for_log(&["WARN", "limits.connections"]);
    peers.pop().unwrap().hang_up();
    assert!(wait_until(|| daemon.try_status().is_some()));
    drop(peers);
    neighbour.assert_unharmed();
}
