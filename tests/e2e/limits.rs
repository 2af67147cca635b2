//! As many clients as are allowed, and one more.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;

use freemkvd_proto::hello::{ClientHello, DaemonHello};
use freemkvd_proto::limits::WRITE_BYTES_MAX;
use freemkvd_proto::{
    Command, ErrorCode, Kind, Mark, OpenMode, OpenResumable, Reply, Resume, Token,
};
use freemkvd_tests::daemon::{Daemon, wait_until};
use freemkvd_tests::pattern;
use freemkvd_tests::peer::{Peer, giving, opening};
use freemkvd_tests::slots::Slots;

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
fn one_stream_more_than_a_user_may_have_is_refused_until_one_ends() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "[limits]\nstreams = 10\nstreams_per_user = 2\n");
    let path = |number: usize| root.path().join(number.to_string());
    let _one = daemon.options().create(path(1)).unwrap();
    let two = daemon.options().create(path(2)).unwrap();
    let error = daemon.options().create(path(3)).unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::TOO_MANY_STREAMS), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("has 2 streams open, as many as limits.streams_per_user allows"),
        "{text}"
    );
    assert!(!path(3).exists());
    two.finish().unwrap();
    daemon.options().create(path(3)).unwrap().finish().unwrap();
}

/// Connects until `count` connections are served. The daemon learns that one has ended a moment after its client.
fn served(daemon: &Daemon, count: usize) -> Vec<Peer> {
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
        peers.len() == count
    }));
    peers
}

#[test]
fn one_connection_more_than_allowed_is_refused_until_one_ends() {
    for (config, limit) in [
        (
            "streams = 4\nconnections = 4\n",
            "there are 4 connections, as many as limits.connections allows",
        ),
        (
            "connections_per_user = 4\n",
            "has 4 connections, as many as limits.connections_per_user allows",
        ),
    ] {
        let root = scratch();
        let daemon = Daemon::start(root.path(), &format!("[limits]\n{config}"));
        let neighbour = Neighbour::start(&daemon, root.path());
        let mut peers = served(&daemon, 3);
        let error = daemon.options().create(root.path().join("refused")).unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::TOO_MANY_CONNECTIONS), "{error}");
        let text = error.to_string();
        assert!(text.contains("too many connections (limits.connections, limits.conn"), "{text}");
        assert!(text.contains(daemon.socket().to_str().unwrap()), "{text}");
        daemon.wait_for_log(&["WARN", "refused a connection", limit]);
        // Who says nothing is one too many all the same, and does not stay.
        Peer::connect(daemon.socket()).wait_for_end();
        peers.pop().unwrap().hang_up();
        assert!(wait_until(|| daemon.try_status().is_some()));
        drop(peers);
        neighbour.assert_unharmed();
    }
}

#[test]
fn a_crowd_that_waits_to_be_refused_does_no_harm() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "[limits]\nconnections_per_user = 4\n");
    let neighbour = Neighbour::start(&daemon, root.path());
    let served = served(&daemon, 3);
    let before = daemon.descriptors();
    let mut crowd: Vec<_> = (0..200).map(|_| Peer::connect(daemon.socket())).collect();
    crowd.iter_mut().for_each(Peer::wait_for_end);
    assert!(wait_until(|| daemon.descriptors() <= before), "{}", daemon.descriptors());
    drop(served);
    assert!(wait_until(|| daemon.try_status().is_some()));
    neighbour.assert_unharmed();
}

#[test]
fn the_queues_of_a_user_are_no_more_than_it_may_have() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "[limits]\nqueue_per_user = \"3MiB\"\n");
    let open = |number: u64| {
        let mut peer = Peer::greet(daemon.socket());
        peer.ask_to_open(root.path().join(number.to_string()), OpenMode::Create);
        peer
    };
    let mut one = open(1);
    assert_eq!(one.opened().queue_limit_bytes, 3 * MIB);
    let (mut two, mut three) = (open(2), open(3));
    two.opened();
    assert_eq!(three.opened().queue_limit_bytes, MIB);
    let failure = open(4).failure();
    assert_eq!(failure.code, ErrorCode::NO_RESOURCES, "{failure:?}");
    assert!(failure.message.contains("limits.queue_per_user has not 1 MiB"), "{failure:?}");
    // More than the queue holds only takes its time.
    one.content(1, &pattern::bytes(1, 0, 4 << 20));
    one.content(2, &pattern::bytes(1, 4 << 20, 4 << 20));
    one.command(3, &Command::Finish);
    one.until(|_, reply| matches!(reply, Reply::Finished(_)).then_some(()));
    assert_eq!(pattern::prefix_len(1, &root.path().join("1")).unwrap(), 8 * MIB);
    one.hang_up();
    open(4).opened();
}

#[test]
fn what_is_refused_without_a_pause_is_counted_in_the_log_and_no_longer_written_there() {
    const TIMES: usize = 300;
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    for number in 0..TIMES {
        let mut peer = Peer::greet(daemon.socket());
        match number % 3 {
            0 => peer.ask_to_open("film.mkv", OpenMode::Create),
            1 => peer.ask_to_open("/elsewhere/film.mkv", OpenMode::Create),
            _ => peer.command(1, &Command::Finish),
        }
        peer.failure();
    }
    daemon.wait_for_log(&["WARN", " more messages that user ", " has caused are left out"]);
    let log = daemon.log();
    let said = |line: &&str| line.contains("disconnected a client") || line.contains("refused: ");
    let said = log.lines().filter(said).count();
    assert!((50..TIMES / 2).contains(&said), "{said} lines:\n{log}");
}

/// Asks for a stream whose content comes in so many slots.
fn sharing(daemon: &Daemon, path: &Path, count: u32) -> Peer {
    let slots = Slots::new(count);
    let mut peer = Peer::greet(daemon.socket());
    let open = opening(path, OpenMode::Create, slots.transfer());
    peer.ask_to_open_with(open, &[slots.descriptor()]);
    peer
}

#[test]
fn one_slot_more_than_may_be_shared_is_refused_until_a_stream_ends() {
    for (config, words) in [
        (
            "slots = \"5MiB\"\nslots_per_user = \"5MiB\"\n",
            "all shared slots would be more than the 5.0 MiB that limits.slots allows",
        ),
        (
            "slots = \"64MiB\"\nslots_per_user = \"5MiB\"\n",
            "would be more than the 5.0 MiB that limits.slots_per_user allows",
        ),
    ] {
        let root = scratch();
        let daemon = Daemon::start(root.path(), &format!("[limits]\n{config}"));
        let path = |number: u32| root.path().join(number.to_string());
        let (mut two, mut three) = (sharing(&daemon, &path(2), 2), sharing(&daemon, &path(3), 3));
        assert!(two.opened().shared && three.opened().shared);
        let failure = sharing(&daemon, &path(1), 1).failure();
        assert_eq!(failure.code, ErrorCode::NO_RESOURCES, "{failure:?}");
        assert!(failure.message.contains(words), "{failure:?}");
        assert!(!path(1).exists());
        // Who shares nothing is not concerned, and who is there goes on.
        daemon.options().shared_slots(false).create(path(0)).unwrap().finish().unwrap();
        three.slots(1, &[(2, 0, 10)]);
        three.command(2, &Command::Finish);
        three.until(|_, reply| matches!(reply, Reply::Finished(_)).then_some(()));
        // As many as have become free, and not one more.
        let failure = sharing(&daemon, &path(1), 4).failure();
        assert!(failure.message.contains(words), "{failure:?}");
        assert!(sharing(&daemon, &path(1), 3).opened().shared);
        two.hang_up();
    }
}

#[test]
fn a_stream_that_comes_back_where_there_is_no_place_for_its_slots_goes_on_inline() {
    const TOKEN: Token = Token(*b"a streams secret");
    let root = scratch();
    let config = "[limits]\nslots = \"4MiB\"\nslots_per_user = \"4MiB\"\n";
    let mut daemon = Daemon::start(root.path(), config);
    let path = root.path().join("film.mkv");
    let slots = Slots::new(2);
    let mut peer = Peer::greet(daemon.socket());
    let open = opening(&path, OpenMode::CreateNew, slots.transfer());
    let open = Command::OpenResumable(OpenResumable { token: TOKEN, open });
    peer.send_with(&open.encode(0).unwrap(), &[slots.descriptor()]);
    assert_eq!(peer.reply(), Some((0, Reply::Resumable)));
    assert!(peer.opened().shared);
    daemon.kill();
    daemon.start_again();
    let mut neighbour = sharing(&daemon, &root.path().join("other"), 3);
    assert!(neighbour.opened().shared);
    let mut again = Peer::greet(daemon.socket());
    let (written, durable) = (Mark::default(), Mark::default());
    let transfer = slots.transfer();
    let from = Resume { token: TOKEN, written, durable, position: 0, transfer };
    again.give_again(from, &[slots.descriptor()]);
    assert!(!again.resumed().shared);
    again.content(1, b"content");
    again.command(2, &Command::Finish);
    again.until(|_, reply| matches!(reply, Reply::Finished(_)).then_some(()));
    assert_eq!(std::fs::read(&path).unwrap(), b"content");
}

#[test]
fn a_frame_of_the_largest_size_is_taken_and_one_byte_more_is_not() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let neighbour = Neighbour::start(&daemon, root.path());
    let path = root.path().join("film.mkv");
    let mut peer = Peer::greet(daemon.socket());
    peer.open(&path, OpenMode::Create);
    peer.content(1, &pattern::bytes(1, 0, WRITE_BYTES_MAX as usize));
    peer.header(Kind::Write as u16, 0, WRITE_BYTES_MAX + 1, 2);
    let failure = peer.failure();
    assert_eq!(failure.code, ErrorCode::FRAME_TOO_LARGE, "{failure:?}");
    assert_eq!(failure.message, "Write frame of 4194305 bytes, at most 4194304 allowed");
    peer.hang_up();
    daemon.wait_for_log(&["muxer of stream", "is gone"]);
    assert_eq!(pattern::prefix_len(1, &path).unwrap(), u64::from(WRITE_BYTES_MAX));
    neighbour.assert_unharmed();
}

#[test]
fn a_path_of_the_longest_length_is_taken_and_one_byte_more_is_not() {
    let root = scratch();
    let longest = root.path().join("film.mkv");
    let len = longest.as_os_str().len();
    let daemon = Daemon::start(root.path(), &format!("[limits]\npath_length = {len}\n"));
    daemon.options().create(&longest).unwrap().finish().unwrap();
    let error = daemon.options().create(root.path().join("films.mkv")).unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::BAD_PATH), "{error}");
    let text = error.to_string();
    assert!(
        text.contains(&format!("too long; send an absolute path of at most {len} bytes")),
        "{text}"
    );
    assert!(text.contains("(limits.path_length)"), "{text}");
    daemon.options().create(&longest).unwrap().finish().unwrap();
}

#[test]
fn a_label_of_the_longest_length_is_taken_and_one_byte_more_is_not() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "[limits]\nlabel_length = 8\n");
    let path = root.path().join("film.mkv");
    let open = || File::options().create(true).truncate(false).write(true).open(&path).unwrap();
    let ask = |label: &str| {
        let (data, sentinel) = (open(), open());
        let mut peer = Peer::greet(daemon.socket());
        peer.give(giving(label), &[data.as_fd(), sentinel.as_fd()]);
        peer
    };
    let mut peer = ask("film.mkv");
    peer.opened();
    peer.command(1, &Command::Finish);
    peer.until(|_, reply| matches!(reply, Reply::Finished(_)).then_some(()));
    let failure = ask("films.mkv").failure();
    assert_eq!(failure.code, ErrorCode::BAD_PATH, "{failure:?}");
    let expected = "send 1 to 8 bytes (limits.label_length) without a NUL";
    assert!(failure.message.contains(expected), "{failure:?}");
    ask("film.mkv").opened();
}
