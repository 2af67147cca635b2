//! Bytes that are no hello or no frame: one clear answer, then the end of the connection, and nobody
//! else notices.

use freemkvd_proto::hello::{ClientHello, DaemonHello, VERSION_HIGHEST};
use freemkvd_proto::{ErrorCode, Failure, Kind, OpenMode};
use freemkvd_tests::daemon::Daemon;
use freemkvd_tests::peer::Peer;

use crate::support::{Neighbour, scratch};

#[test]
fn a_hello_that_is_none_is_refused_with_the_reason() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let neighbour = Neighbour::start(&daemon, root.path());
    let mut reserved = ClientHello::THIS.encode();
    reserved[15] = 1;
    let future = ClientHello { lowest: 99, highest: 120 };
    let backwards = ClientHello { lowest: 2, highest: 1 };
    let cases: [(&[u8], ErrorCode); 5] = [
        (b"GET / HTTP/1.1\r\nHost: rips\r\n\r\n", ErrorCode::BAD_HELLO),
        (&[0; 16], ErrorCode::BAD_HELLO),
        (&reserved, ErrorCode::BAD_HELLO),
        (&backwards.encode(), ErrorCode::BAD_HELLO),
        (&future.encode(), ErrorCode::VERSION),
    ];
    for (bytes, code) in cases {
        let mut peer = Peer::connect(daemon.socket());
        let expected = DaemonHello::Refused { reason: code, lowest: 2, highest: VERSION_HIGHEST };
        assert_eq!(peer.hello(bytes), Some(expected));
        peer.wait_for_end();
    }
    // Half a hello, and gone.
    let mut peer = Peer::connect(daemon.socket());
    peer.send(b"FREEMKV");
    peer.hang_up();
    neighbour.assert_unharmed();
}

/// What is sent, and what the answer has to say.
type Case = (fn(&mut Peer), ErrorCode, &'static str);

const NO_FRAMES: [Case; 10] = [
    (|peer| peer.header(0x7f, 0, 0, 1), ErrorCode::UNKNOWN_KIND, "0x007f is unknown"),
    (
        |peer| peer.header(Kind::Progress as u16, 0, 0, 1),
        ErrorCode::UNKNOWN_KIND,
        "0x0082 is unknown",
    ),
    (
        |peer| peer.header(Kind::Flush as u16, 1, 0, 1),
        ErrorCode::BAD_FRAME,
        "Flush frame has flags 0x0001, must be 0",
    ),
    (
        |peer| peer.header(Kind::Write as u16, 0, 0, 1),
        ErrorCode::BAD_FRAME,
        "Write frame without content",
    ),
    (
        |peer| peer.header(Kind::Write as u16, 0, (4 << 20) + 1, 1),
        ErrorCode::FRAME_TOO_LARGE,
        "Write frame of 4194305 bytes, at most 4194304 allowed",
    ),
    (
        |peer| peer.header(Kind::Write as u16, 0, u32::MAX, 1),
        ErrorCode::FRAME_TOO_LARGE,
        "4294967295 bytes",
    ),
    (
        |peer| peer.header(Kind::Open as u16, 0, (16 << 10) + 1, 0),
        ErrorCode::FRAME_TOO_LARGE,
        "Open frame of 16385 bytes, at most 16384 allowed",
    ),
    (
        |peer| peer.header(Kind::Finish as u16, 0, 1, 1),
        ErrorCode::FRAME_TOO_LARGE,
        "Finish frame of 1 bytes, at most 0 allowed",
    ),
    (
        |peer| {
            peer.header(Kind::Seek as u16, 0, 11, 1);
            peer.send(&[0xff; 11]);
        },
        ErrorCode::BAD_FRAME,
        "Seek frame with a malformed body",
    ),
    (
        // A number that is whole, and bytes behind it that nobody knows.
        |peer| {
            peer.header(Kind::SetLen as u16, 0, 3, 1);
            peer.send(&[5, 0, 0]);
        },
        ErrorCode::BAD_FRAME,
        "SetLen frame with a malformed body",
    ),
];

fn assert_says(failure: &Failure, code: ErrorCode, words: &str) {
    assert_eq!(failure.code, code, "{failure:?}");
    assert!(failure.message.contains(words), "{failure:?}");
}

#[test]
fn a_frame_that_is_none_is_refused_before_a_stream() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let neighbour = Neighbour::start(&daemon, root.path());
    for (send, code, words) in NO_FRAMES {
        let mut peer = Peer::greet(daemon.socket());
        send(&mut peer);
        assert_says(&peer.failure(), code, words);
        peer.hang_up();
        daemon.wait_for_log(&["WARN", "disconnected a client", words]);
    }
    let mut peer = Peer::greet(daemon.socket());
    peer.header(Kind::Open as u16, 0, 64, 0);
    peer.send(&[0xee; 64]);
    assert_says(&peer.failure(), ErrorCode::BAD_FRAME, "Open frame with a malformed body");
    peer.hang_up();
    neighbour.assert_unharmed();
}

#[test]
fn a_frame_that_is_none_ends_a_stream_and_keeps_what_came_before() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let neighbour = Neighbour::start(&daemon, root.path());
    // All of them at once: each daemon's connection waits a while for its client to hang up.
    let mut peers = Vec::new();
    for (number, (send, code, words)) in NO_FRAMES.into_iter().enumerate() {
        let path = root.path().join(number.to_string());
        let mut peer = Peer::greet(daemon.socket());
        peer.open(&path, OpenMode::CreateNew);
        // With a body that is longer than announced nobody knows where the next frame begins.
        peer.content(1, b"before");
        peer.command(2, &freemkvd_proto::Command::Flush);
        peer.until(|_, reply| match reply {
            freemkvd_proto::Reply::Progress(marks) if marks.written.sequence == 2 => Some(()),
            _ => None,
        });
        send(&mut peer);
        assert_says(&peer.failure(), code, words);
        daemon.wait_for_log(&["WARN", "disconnected a muxer", words]);
        peers.push((peer, path));
    }
    for (mut peer, path) in peers {
        peer.wait_for_end();
        assert_eq!(std::fs::read(&path).unwrap(), b"before");
    }
    neighbour.assert_unharmed();
    let status = daemon.wait_for("all of them to be abandoned", |status| status.devices.is_empty());
    assert_eq!(status.streams.len(), NO_FRAMES.len());
    assert_eq!(status.budget.charged_bytes, 0);
}

#[test]
fn a_frame_that_is_cut_off_leaves_what_was_whole() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let neighbour = Neighbour::start(&daemon, root.path());
    // In a header, in a small body that joins what is queued, in a large one, in a control body.
    let cuts: [fn(&mut Peer); 4] = [
        |peer| peer.send(&[2, 0, 0, 0]),
        |peer| {
            peer.header(Kind::Write as u16, 0, 100, 2);
            peer.send(&[9; 99]);
        },
        |peer| {
            peer.header(Kind::Write as u16, 0, 600_000, 2);
            peer.send(&[9; 599_999]);
        },
        |peer| {
            peer.header(Kind::SetLen as u16, 0, 2, 2);
            peer.send(&[0x80]);
        },
    ];
    for (number, cut) in cuts.into_iter().enumerate() {
        let path = root.path().join(number.to_string());
        let mut peer = Peer::greet(daemon.socket());
        let opened = peer.open(&path, OpenMode::Create);
        peer.content(1, b"whole");
        cut(&mut peer);
        peer.hang_up();
        daemon.wait_for("the stream to end", |status| {
            let streams = &status.streams;
            let stream = streams.iter().find(|stream| stream.id == opened.stream);
            stream.is_some_and(|stream| stream.durable_bytes == 5)
        });
        assert_eq!(std::fs::read(&path).unwrap(), b"whole", "cut {number}");
    }
    neighbour.assert_unharmed();
}
