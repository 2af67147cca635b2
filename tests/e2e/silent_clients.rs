//! Clients that keep quiet, on one side or the other.

use std::time::{Duration, Instant};

use freemkvd_proto::hello::ClientHello;
use freemkvd_proto::{Command, ErrorCode, OpenMode, Reply};
use freemkvd_tests::daemon::{Daemon, wait_until};
use freemkvd_tests::pattern;
use freemkvd_tests::peer::Peer;

use crate::support::{MIB, Neighbour, scratch};

#[test]
fn whoever_does_not_say_what_they_want_is_disconnected() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "[limits]\nhandshake_timeout = \"300ms\"\n");
    let neighbour = Neighbour::start(&daemon, root.path());
    // One stream that pauses for longer than that, which is its right.
    let mut pausing = Peer::greet(daemon.socket());
    pausing.open(root.path().join("pausing.mkv"), OpenMode::Create);

    let since = Instant::now();
    let mut nothing = Peer::connect(daemon.socket());
    let mut half_a_hello = Peer::connect(daemon.socket());
    half_a_hello.send(&ClientHello::THIS.encode()[..15]);
    let mut only_hello = Peer::greet(daemon.socket());
    let mut half_an_open = Peer::greet(daemon.socket());
    half_an_open.header(1, 0, 10, 0);
    nothing.wait_for_end();
    half_a_hello.wait_for_end();
    assert!(since.elapsed() >= Duration::from_millis(300));
    for peer in [&mut only_hello, &mut half_an_open] {
        let failure = peer.failure();
        assert_eq!(failure.code, ErrorCode::HANDSHAKE_TIMEOUT, "{failure:?}");
        assert_eq!(
            failure.message,
            "no request within 300 ms (limits.handshake_timeout); open a stream or ask for status"
        );
    }
    // The daemon hangs up also on those who only ever listen.
    only_hello.wait_for_end();
    half_an_open.hang_up();
    assert!(since.elapsed() < Duration::from_secs(20));

    pausing.content(1, b"content");
    pausing.command(2, &Command::Finish);
    pausing.until(|_, reply| matches!(reply, Reply::Finished(_)).then_some(()));
    neighbour.assert_unharmed();
}

#[test]
fn whoever_has_nothing_more_to_ask_is_disconnected_and_a_muxer_is_not() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "[limits]\nidle_timeout = \"500ms\"\n");
    let neighbour = Neighbour::start(&daemon, root.path());
    let mut pausing = Peer::greet(daemon.socket());
    pausing.open(root.path().join("pausing.mkv"), OpenMode::Create);
    let ask = |peer: &mut Peer, number| {
        peer.command(number, &Command::Status);
        let reply = peer.reply();
        assert!(matches!(&reply, Some((n, Reply::FullReport(_))) if *n == number), "{reply:?}");
    };
    let (mut once, mut often) = (Peer::greet(daemon.socket()), Peer::greet(daemon.socket()));
    let since = Instant::now();
    ask(&mut once, 1);
    for number in 1..=6 {
        ask(&mut often, number);
        std::thread::sleep(Duration::from_millis(100));
    }
    let failure = once.failure();
    assert!(since.elapsed() >= Duration::from_millis(500));
    assert_eq!(failure.code, ErrorCode::HANDSHAKE_TIMEOUT, "{failure:?}");
    assert_eq!(failure.message, "no request within 500ms (limits.idle_timeout); connect again");
    once.wait_for_end();
    // It was there for longer than that, and never silent for so long.
    ask(&mut often, 7);
    pausing.content(1, b"content");
    pausing.command(2, &Command::Finish);
    pausing.until(|_, reply| matches!(reply, Reply::Finished(_)).then_some(()));
    neighbour.assert_unharmed();
}

#[test]
fn whoever_asks_and_does_not_listen_is_disconnected() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "[limits]\nidle_timeout = \"300ms\"\n");
    let neighbour = Neighbour::start(&daemon, root.path());
    let before = daemon.descriptors();
    let requests = (0..4000).map(|number| Command::Status.encode(number).unwrap());
    let requests = requests.collect::<Vec<_>>().concat();
    let peers: Vec<_> = (0..4)
        .map(|_| {
            let mut peer = Peer::greet(daemon.socket());
            peer.send(&requests);
            peer
        })
        .collect();
    assert!(wait_until(|| daemon.descriptors() <= before), "{}", daemon.descriptors());
    drop(peers);
    neighbour.assert_unharmed();
}

#[test]
fn a_client_that_never_reads_its_answers_is_written_all_the_same() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let neighbour = Neighbour::start(&daemon, root.path());
    let path = root.path().join("film.mkv");
    let mut peer = Peer::greet(daemon.socket());
    peer.open(&path, OpenMode::Create);
    // Small ones, so that there is an answer for almost every one: far more than a socket holds.
    let (len, pieces) = (4096, 4096);
    for number in 0..pieces {
        peer.content(number * 2 + 1, &pattern::bytes(1, number * len, 4096));
        peer.command(number * 2 + 2, &Command::Flush);
    }
    peer.command(pieces * 2 + 1, &Command::Finish);
    daemon.wait_for_log(&[" finished: ", "film.mkv"]);
    assert_eq!(pattern::prefix_len(1, &path).unwrap(), pieces * len);
    neighbour.assert_unharmed();
    // They are all still there, in order, and the last one ends it.
    let mut last = 0;
    let finished = peer.until(|_, reply| match reply {
        Reply::Progress(marks) => {
            assert!(marks.written.sequence >= last, "went back");
            last = marks.written.sequence;
            None
        }
        Reply::Finished(finished) => Some(*finished),
        other => panic!("unexpected {other:?}"),
    });
    assert_eq!(finished.len_bytes, pieces * len);
    assert_eq!(finished.progress.durable, finished.progress.accepted);
    peer.hang_up();
}

#[test]
fn a_client_that_asks_and_never_listens_is_made_to_wait() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let neighbour = Neighbour::start(&daemon, root.path());
    let mut peers: Vec<_> = (0..4).map(|_| Peer::greet(daemon.socket())).collect();
    // In one piece, or the requests alone would fill the socket.
    let requests = (0..1000).map(|number| Command::Status.encode(number).unwrap());
    let requests = requests.collect::<Vec<_>>().concat();
    for peer in &mut peers {
        peer.send(&requests);
    }
    let before = Instant::now();
    let status = daemon.status();
    assert!(before.elapsed() < Duration::from_secs(2), "status is late");
    assert!(!status.is_degraded());
    for number in 0..1000 {
        let reply = peers[0].reply();
        assert!(matches!(&reply, Some((n, Reply::FullReport(_))) if *n == number), "{reply:?}");
    }
    assert!(daemon.resident_bytes().unwrap() < 64 * MIB);
    drop(peers);
    neighbour.assert_unharmed();
}
