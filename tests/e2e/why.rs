//! Where the time of a stream went.

use std::io::Write;
use std::time::{Duration, Instant};

use freemkvd_client::control::Control;
use freemkvd_proto::ErrorCode;
use freemkvd_proto::status::Stream;
use freemkvd_proto::waits::{Cause, Waits};
use freemkvd_tests::daemon::{Daemon, wait_until};

use crate::support::{MIB, scratch, stuck, write_pattern};

fn why(daemon: &Daemon, stream: u64) -> Result<Waits, freemkvd_client::Error> {
    Control::connect(Some(daemon.socket()), Duration::from_secs(10)).unwrap().why(stream)
}

/// What it says, if it adds up.
fn told(daemon: &Daemon, stream: u64) -> Waits {
    let waits = why(daemon, stream).unwrap();
    let sum = |of: fn(&freemkvd_proto::waits::Part) -> u64| waits.parts.iter().map(of).sum::<u64>();
    assert_eq!(sum(|part| part.ns), waits.lifetime_ns, "{waits:?}");
    assert_eq!(sum(|part| part.recent_ns), waits.recent_ns, "{waits:?}");
    assert!(waits.parts.iter().all(|part| part.held_ns <= part.ns), "{waits:?}");
    waits
}

fn spent(waits: &Waits, cause: Cause) -> (u64, u64) {
    let part = waits.parts.iter().find(|part| part.cause == cause);
    part.map_or((0, 0), |part| (part.ns, part.held_ns))
}

#[test]
fn the_parts_of_a_stream_add_up_to_its_life_while_it_writes_and_when_it_has_ended() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let before = Instant::now();
    let mut file = daemon.options().create(root.path().join("film.mkv")).unwrap();
    let stream = file.stream_id().unwrap();
    write_pattern(&mut file, 1, 0, 30 * MIB).unwrap();
    let writing = told(&daemon, stream);
    assert_eq!((writing.stream, writing.ended_seconds_ago), (stream, None));
    assert_eq!(writing.client_pid, Some(std::process::id()));
    file.sync_all().unwrap();
    // Nothing comes from the muxer, and that is where the time goes.
    let idle = wait_until(|| spent(&told(&daemon, stream), Cause::Muxer).0 > 200_000_000);
    assert!(idle && told(&daemon, stream).now == Cause::Muxer);
    file.finish().unwrap();
    let ended = wait_until(|| told(&daemon, stream).ended_seconds_ago.is_some());
    assert!(ended);
    // Also once it is gone from the status, and then it does not change any more.
    daemon.wait_for("no stream", |status| status.streams.is_empty());
    let waits = told(&daemon, stream);
    assert!(u128::from(waits.lifetime_ns) <= before.elapsed().as_nanos(), "{waits:?}");
    assert_eq!(spent(&waits, Cause::Muxer).1, 0, "its own time holds no muxer up: {waits:?}");
    assert!(spent(&waits, Cause::Write).0 > 0 && spent(&waits, Cause::Sync).0 > 0, "{waits:?}");
    let later = wait_until(|| {
        let again = told(&daemon, stream);
        assert_eq!((again.lifetime_ns, &again.parts), (waits.lifetime_ns, &waits.parts));
        again.ended_seconds_ago > waits.ended_seconds_ago
    });
    assert!(later, "its age goes on");
    assert_eq!(why(&daemon, stream + 1).unwrap_err().code(), Some(ErrorCode::NO_SUCH_STREAM));
}

#[test]
fn a_muxer_that_is_held_up_by_a_stuck_thread_is_seen_to_be() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let (mut file, stream, held) = stuck(&daemon, &root.path().join("stuck.mkv"));
    let writing = std::thread::spawn(move || {
        write_pattern(&mut file, 1, 0, 200 * MIB).unwrap();
        file.flush().unwrap();
        file
    });
    let held_ns = |waits: &Waits| waits.parts.iter().map(|part| part.held_ns).sum::<u64>();
    let is_seen = wait_until(|| held_ns(&told(&daemon, stream)) > 500_000_000);
    // And in the status, once the stream is old enough to tell.
    daemon.wait_for("a muxer that is held up", |status| {
        let of_stream = |other: &&Stream| other.id == stream;
        let held = status.streams.iter().find(of_stream).and_then(|stream| stream.held);
        held.is_some_and(|held| held.percent > 50 && held.of_seconds >= 10)
    });
    drop(held);
    assert!(is_seen, "{:?}", told(&daemon, stream));
    writing.join().unwrap().finish().unwrap();
}
