//! Frames that are well-formed and not allowed: out of order, out of range, after the end.

use freemkvd_proto::limits::OFFSET_MAX;
use freemkvd_proto::{Command, ErrorCode, OpenMode, Reply, Seek, SetLen, Transfer, WriteZeroes};
use freemkvd_tests::daemon::Daemon;
use freemkvd_tests::peer::{Peer, opening};

use crate::support::{Neighbour, scratch};

#[test]
fn a_connection_begins_with_open_or_status() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let neighbour = Neighbour::start(&daemon, root.path());
    let path = root.path().join("film.mkv");
    let opening =
        |sequence| (sequence, Command::Open(opening(&path, OpenMode::Create, Transfer::Inline)));
    let commands = [
        (1, Command::Flush),
        (0, Command::Finish),
        (1, Command::Seek(Seek { offset: 0 })),
        opening(1),
    ];
    let rule = "a connection begins with Open or Resume, numbered 0, or with a request";
    for (sequence, command) in &commands {
        let mut peer = Peer::greet(daemon.socket());
        peer.command(*sequence, command);
        let failure = peer.failure();
        assert_eq!(failure.code, ErrorCode::OUT_OF_SEQUENCE, "{failure:?}");
        assert_eq!(failure.message, rule);
        peer.hang_up();
    }
    let mut peer = Peer::greet(daemon.socket());
    peer.content(1, b"content");
    assert_eq!(peer.failure().message, rule);
    peer.hang_up();
    // Who asked for status can't open a stream.
    let mut peer = Peer::greet(daemon.socket());
    peer.command(7, &Command::Status);
    assert!(matches!(peer.reply(), Some((7, Reply::FullReport(_)))));
    let (sequence, open) = opening(0);
    peer.command(sequence, &open);
    assert_eq!(peer.failure().code, ErrorCode::OUT_OF_SEQUENCE);
    peer.hang_up();
    assert!(!path.exists(), "a refused command had an effect");
    neighbour.assert_unharmed();
}

/// What is sent after five bytes as number 1, and what the answer has to say.
type Case = (fn(&mut Peer), ErrorCode, &'static str);

const NOT_ALLOWED: [Case; 9] = [
    (
        |peer| peer.ask_to_open("/film.mkv", OpenMode::Create),
        ErrorCode::OUT_OF_SEQUENCE,
        "Open on a connection that has a stream",
    ),
    (
        |peer| peer.command(2, &Command::Status),
        ErrorCode::OUT_OF_SEQUENCE,
        "Status on a connection that has a stream",
    ),
    (|peer| peer.content(1, b"again"), ErrorCode::OUT_OF_SEQUENCE, "command 1 where 2 is due"),
    (
        |peer| peer.command(3, &Command::Sync),
        ErrorCode::OUT_OF_SEQUENCE,
        "command 3 where 2 is due",
    ),
    (
        |peer| peer.command(u64::MAX, &Command::Abort),
        ErrorCode::OUT_OF_SEQUENCE,
        "command 18446744073709551615 where 2 is due",
    ),
    (
        |peer| peer.command(2, &Command::Seek(Seek { offset: u64::MAX })),
        ErrorCode::OFFSET_RANGE,
        "beyond the end of any file",
    ),
    (
        |peer| {
            peer.command(2, &Command::Seek(Seek { offset: OFFSET_MAX }));
            peer.content(3, b"x");
        },
        ErrorCode::OFFSET_RANGE,
        "offset 9223372036854775808 is beyond",
    ),
    (
        |peer| peer.command(2, &Command::WriteZeroes(WriteZeroes { len: u64::MAX })),
        ErrorCode::OFFSET_RANGE,
        "beyond the end of any file",
    ),
    (
        |peer| peer.command(2, &Command::SetLen(SetLen { len: u64::MAX })),
        ErrorCode::OFFSET_RANGE,
        "beyond the end of any file",
    ),
];

#[test]
fn a_command_that_is_not_allowed_ends_the_stream_and_keeps_what_came_before() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let neighbour = Neighbour::start(&daemon, root.path());
    let mut peers = Vec::new();
    for (number, (send, code, words)) in NOT_ALLOWED.into_iter().enumerate() {
        let path = root.path().join(number.to_string());
        let mut peer = Peer::greet(daemon.socket());
        peer.open(&path, OpenMode::CreateNew);
        peer.content(1, b"hello");
        send(&mut peer);
        let failure = peer.failure();
        assert_eq!(failure.code, code, "{failure:?}");
        assert!(failure.message.contains(words), "{failure:?}");
        peers.push((peer, path));
    }
    for (mut peer, path) in peers {
        peer.wait_for_end();
        assert_eq!(std::fs::read(&path).unwrap(), b"hello", "{}", path.display());
    }
    neighbour.assert_unharmed();
    let end = daemon.wait_for("no charges", |status| status.devices.is_empty());
    assert_eq!(end.budget.charged_bytes, 0);
    assert!(end.is_degraded());
}

#[test]
fn nothing_after_finish_or_abort_has_an_effect() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    for (number, last) in [Command::Finish, Command::Abort].iter().enumerate() {
        let path = root.path().join(number.to_string());
        let mut peer = Peer::greet(daemon.socket());
        peer.open(&path, OpenMode::CreateNew);
        peer.content(1, b"hello");
        peer.command(2, &Command::Sync);
        peer.until(|sequence, reply| matches!((sequence, reply), (2, Reply::Synced)).then_some(()));
        peer.command(3, last);
        peer.content(4, b"too late");
        peer.command(5, &Command::SetLen(SetLen { len: 0 }));
        let answered = peer.until(|sequence, reply| match reply {
            Reply::Finished(_) | Reply::Aborted | Reply::Failed(_) => {
                Some((sequence, reply.kind()))
            }
            _ => None,
        });
        let expected = match last {
            Command::Finish => freemkvd_proto::Kind::Finished,
            _ => freemkvd_proto::Kind::Aborted,
        };
        assert_eq!(answered, (3, expected));
        peer.hang_up();
        assert_eq!(std::fs::read(&path).unwrap(), b"hello");
    }
}

#[test]
fn an_offset_that_the_file_system_does_not_have_is_its_error() {
    use std::os::unix::fs::FileExt;

    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let neighbour = Neighbour::start(&daemon, root.path());
    let probe = std::fs::File::create(root.path().join("probe")).unwrap();
    let Err(refused) = probe.write_at(b"x", OFFSET_MAX - 1) else {
        eprintln!("skipped: this file system has files of any length");
        return;
    };
    let path = root.path().join("film.mkv");
    let mut peer = Peer::greet(daemon.socket());
    peer.open(&path, OpenMode::CreateNew);
    peer.content(1, b"hello");
    let offset = OFFSET_MAX - 1;
    peer.command(2, &Command::Seek(Seek { offset }));
    peer.content(3, b"x");
    let failure = peer.failure();
    assert_eq!(failure.code, ErrorCode::IO, "{failure:?}");
    assert_eq!((failure.errno, failure.offset), (refused.raw_os_error(), Some(offset)));
    assert!(failure.message.contains(path.to_str().unwrap()), "{failure:?}");
    // Latched: what comes later is not written.
    peer.command(4, &Command::Seek(Seek { offset: 0 }));
    peer.content(5, b"later");
    peer.hang_up();
    assert_eq!(std::fs::read(&path).unwrap(), b"hello");
    let status = daemon.wait_for("the failed stream alone", |status| {
        status.streams.iter().any(|stream| stream.error.is_some())
    });
    assert!(status.is_degraded());
    daemon.wait_for_log(&["ERROR", "stream 2 failed", "film.mkv"]);
    neighbour.assert_unharmed();
}
