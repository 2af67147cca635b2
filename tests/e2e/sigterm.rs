//! An orderly stop: nothing that was accepted is lost, and everybody is told.

use std::io;
use std::time::Duration;

use freemkvd_client::{Error, Progress};
use freemkvd_proto::{ErrorCode, OpenMode, Reply};
use freemkvd_tests::daemon::{Daemon, wait_until};
use freemkvd_tests::pattern;
use freemkvd_tests::peer::Peer;
use rustix::process::Signal;

use crate::support::{MIB, Way, inside, scratch, write_pattern};

#[test]
fn a_stop_writes_what_was_accepted_and_tells_the_muxers() {
    a_stop_writes_what_was_accepted(Way::Shared);
}

#[test]
fn a_stop_writes_what_was_accepted_inline_too() {
    a_stop_writes_what_was_accepted(Way::Inline);
}

fn a_stop_writes_what_was_accepted(way: Way) {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let path = |number: u64| root.path().join(format!("{number}.m2ts"));
    let (ends, log) = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|number| {
                // These can't be resumed.
                let options = way.options(&daemon).resume_timeout(Duration::ZERO);
                let mut file = options.create(path(number)).unwrap();
                scope.spawn(move || {
                    let end = (0..).find_map(|mib| {
                        std::thread::sleep(Duration::from_millis(2));
                        write_pattern(&mut file, number, mib * MIB, MIB).err()
                    });
                    (end.unwrap(), file.progress())
                })
            })
            .collect();
        daemon.wait_for("all of them to write", |status| {
            status.streams.len() == 4
                && status.streams.iter().all(|stream| stream.accepted_bytes > 8 * MIB)
        });
        let (end, log) = daemon.stop();
        assert!(end.success(), "{log}");
        let join = |writer: std::thread::ScopedJoinHandle<'_, (io::Error, Progress)>| {
            writer.join().unwrap()
        };
        (writers.into_iter().map(join).collect::<Vec<_>>(), log)
    });
    for words in [
        "stopping: taking no new streams, writing what was accepted",
        "stopped: everything that was accepted is durable",
    ] {
        assert!(log.contains(words), "{log}");
    }
    assert_eq!(log.matches(" drained for shutdown").count(), 4, "{log}");
    for (number, (error, progress)) in (0..).zip(&ends) {
        let len = pattern::prefix_len(number, &path(number)).unwrap();
        assert!(len >= progress.accepted_bytes, "{len} of {progress:?}");
        let Error::Lost { written_bytes, durable_bytes, .. } = inside(error) else {
            panic!("{error}");
        };
        assert_eq!(written_bytes, durable_bytes, "{error}");
        // What a frame had brought before it was cut off may be there as well; nobody counts it.
        assert!((*written_bytes..*written_bytes + 4 * MIB).contains(&len), "{len}: {error}");
        let text = error.to_string();
        assert!(text.contains("it was shutting down"), "{text}");
        assert!(text.contains(&format!("{written_bytes} bytes are known to be written")), "{text}");
        assert!(text.contains(path(number).to_str().unwrap()), "{text}");
    }
}

#[test]
fn a_stop_says_so_on_the_wire_and_takes_no_new_streams() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "[daemon]\ndrain_timeout = \"30s\"\n");
    // Greeted before, asks after.
    let mut late = Peer::greet(daemon.socket());
    let mut peer = Peer::greet(daemon.socket());
    let path = root.path().join("film.mkv");
    peer.open(&path, OpenMode::Create);
    peer.content(1, b"content");
    // Half of what was announced is nothing.
    peer.header(2, 0, 100, 2);
    peer.send(&[9; 50]);
    daemon.wait_for("the content", |status| {
        status.streams.iter().any(|stream| stream.accepted_bytes == 7)
    });
    daemon.signal(Signal::TERM);
    let drain_ms = peer.until(|_, reply| match reply {
        Reply::GoingAway(going) => Some(going.drain_ms),
        _ => None,
    });
    assert_eq!(drain_ms, 30_000);
    late.ask_to_open(root.path().join("late.mkv"), OpenMode::Create);
    // Too late even to be told, when the other stream took no time.
    if let Some((_, reply)) = late.reply() {
        let Reply::Failed(failure) = reply else {
            panic!("{reply:?}");
        };
        assert_eq!(failure.code, ErrorCode::GOING_AWAY);
    }
    let durable = std::iter::from_fn(|| peer.reply())
        .filter_map(|(_, reply)| match reply {
            Reply::Progress(marks) => Some(marks.durable.bytes),
            _ => None,
        })
        .last();
    assert_eq!(durable, Some(7));
    let socket = daemon.socket().to_owned();
    let (end, log) = daemon.wait();
    assert!(end.success(), "{log}");
    assert_eq!(std::fs::read(&path).unwrap(), b"content");
    assert!(!root.path().join("late.mkv").exists());
    assert!(!socket.exists(), "the socket is left behind");
}

#[test]
fn an_interrupt_from_the_keyboard_is_a_stop() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let options = daemon.options().resume_timeout(Duration::ZERO);
    let mut file = options.create(root.path().join("film.mkv")).unwrap();
    write_pattern(&mut file, 1, 0, 10 * MIB).unwrap();
    daemon.signal(Signal::INT);
    let (end, log) = daemon.wait();
    assert!(end.success(), "{log}");
    assert!(wait_until(|| file.sync_all().is_err()));
}
