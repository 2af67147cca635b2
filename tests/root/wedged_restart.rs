//! The daemon is restarted while a device hangs: the next one takes the streams of the other devices over within
//! seconds, and those of the dead one when it answers again.
//!
//! Injected: a disk that takes 1 byte per second, a frozen file system and a FUSE server that answers nothing,
//! each with a stream stuck on it; then SIGTERM, and SIGKILL.

use std::path::Path;
use std::time::{Duration, Instant};

use freemkvd_client::ErrorCode;
use freemkvd_proto::status::Status;
use freemkvd_tests::daemon::Daemon;
use rustix::process::Signal;

use super::disk::Frozen;
use super::place::{Place, Pool, work};
use super::support::{Muxer, finish_all};

const BYTES_PER_SECOND: u64 = 40_000_000;

/// A muxer's own write() may take so long over a restart.
const PAUSE: Duration = Duration::from_secs(6);

/// More than a muxer's memory: its calls return again.
const AGAIN_BYTES: u64 = 64 << 20;

/// Restarts it twice while what lies in `sick` hangs, after `hang` and until what that returns is dropped.
/// Its stream goes on then, if its file system tells when a file was made.
fn the_next_daemon_takes_over<H>(
    what: &str,
    sick: &Path,
    tells_its_birth: bool,
    hang: impl FnOnce() -> H,
) {
    let place = Place::new("xfs", 4096);
    let _throttled = place.disk().throttle(BYTES_PER_SECOND);
    let mut daemon = Daemon::start(&work(), "");
    let start = |dir: &Path, seed| Muxer::start(&daemon.options(), dir.join("film"), seed, 2 << 30);
    let (well, stuck) = (start(place.dir(), 1), start(sick, 2));
    std::thread::sleep(Duration::from_secs(2));
    let hangs = hang();
    let is_stuck = |stream| {
        daemon.wait_for("a stream that hangs", |status| {
            status.streams.iter().any(|s| s.id == stream && s.blocked_in.is_some())
        })
    };
    is_stuck(stuck.stream);
    for signal in [Signal::TERM, Signal::KILL] {
        let _ = well.felt();
        let (ended, started) = daemon.replace(signal);
        let since = Instant::now();
        let written = |status: &Status| {
            let mut streams = status.streams.iter();
            let stream = streams.find(|stream| Path::new(&stream.path) == well.path());
            stream.map_or(0, |stream| stream.written_bytes)
        };
        let first = written(&daemon.wait_for("the well one", |status| written(status) > 0));
        daemon.wait_for("it to go on", |status| written(status) >= first + AGAIN_BYTES);
        let goes_on = since.elapsed();
        let (_, longest) = well.felt();
        eprintln!(
            "restart, {what}, {signal:?}: ended after {ended:.2?}, answered after {started:.2?} more, went on \
             within {goes_on:.2?}; longest write of the well one {longest:.2?}"
        );
        assert!(longest <= PAUSE, "{longest:?}");
    }
    drop(hangs);
    if tells_its_birth {
        finish_all(vec![well, stuck]);
    } else {
        // Nobody has kept it open, and it can't be told from another one of the same number.
        assert_eq!(stuck.error().code(), Some(ErrorCode::FILE_CHANGED));
        finish_all(vec![well]);
    }
    daemon.wait_for("nothing left", |status| {
        status.budget.charged_bytes == 0 && status.streams.iter().all(|s| s.error.is_some())
    });
}

#[test]
#[ignore = "needs root: loop devices"]
fn the_next_daemon_takes_over_while_a_disk_takes_nothing() {
    let place = Place::new("ext4", 4096);
    let _throttled = place.disk().throttle(BYTES_PER_SECOND);
    the_next_daemon_takes_over("1 byte/s", place.dir(), true, || place.disk().throttle(1));
}

#[test]
#[ignore = "needs root: loop devices"]
fn the_next_daemon_takes_over_while_a_file_system_is_frozen() {
    let place = Place::new("ext4", 4096);
    let _throttled = place.disk().throttle(BYTES_PER_SECOND);
    the_next_daemon_takes_over("frozen", place.dir(), true, || Frozen::new(place.dir()));
}

#[test]
#[ignore = "needs root: a FUSE mount"]
fn the_next_daemon_takes_over_while_a_server_hangs() {
    let place = Place::new("ext4", 4096);
    let _throttled = place.disk().throttle(BYTES_PER_SECOND);
    let pool = Pool::over(place.dir());
    the_next_daemon_takes_over("hung server", pool.dir(), false, || pool.stop());
}
