//! The daemon is restarted while a device hangs: the next one takes the streams of the other devices over within
//! seconds, and those of the dead one when it answers again.
//!
//! Injected: a disk that takes 1 byte per second, a frozen file system and a FUSE server that answers nothing,
//! each with a stream stuck on it; then SIGTERM, and SIGKILL.

use std::path::Path;
use std::time::{Duration, Instant};

use freemkvd_tests::daemon::Daemon;
use rustix::process::Signal;

use super::disk::Frozen;
use super::place::{Place, Pool, work};
use super::support::{Muxer, finish_all};

const BYTES_PER_SECOND: u64 = 40_000_000;

/// A muxer's own write() may take so long over a restart.
const PAUSE: Duration = Duration::from_secs(6);

/// Restarts it twice while what lies in `sick` hangs, after `hang` and until what that returns is dropped.
fn the_next_daemon_takes_over<H>(what: &str, sick: &Path, hang: impl FnOnce() -> H) {
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
        daemon.wait_for("the well one to go on", |status| {
            let of = |s: &&freemkvd_proto::status::Stream| Path::new(&s.path) == well.path();
            status.streams.iter().find(of).is_some_and(|s| s.written_bytes > 20 << 20)
        });
        let goes_on = since.elapsed();
        let (_, longest) = well.felt();
        eprintln!(
            "restart, {what}, {signal:?}: ended after {ended:.2?}, answered after {started:.2?} more, wrote again \
             within {goes_on:.2?}; longest write of the well one {longest:.2?}"
        );
        assert!(longest <= PAUSE, "{longest:?}");
    }
    drop(hangs);
    finish_all(vec![well, stuck]);
    let status = daemon.status();
    assert_eq!((status.budget.charged_bytes, status.streams.len()), (0, 0));
}

#[test]
#[ignore = "needs root: loop devices"]
fn the_next_daemon_takes_over_while_a_disk_takes_nothing() {
    let place = Place::new("ext4", 4096);
    let _throttled = place.disk().throttle(BYTES_PER_SECOND);
    the_next_daemon_takes_over("1 byte/s", place.dir(), || place.disk().throttle(1));
}

#[test]
#[ignore = "needs root: loop devices"]
fn the_next_daemon_takes_over_while_a_file_system_is_frozen() {
    let place = Place::new("ext4", 4096);
    let _throttled = place.disk().throttle(BYTES_PER_SECOND);
    the_next_daemon_takes_over("frozen", place.dir(), || Frozen::new(place.dir()));
}

#[test]
#[ignore = "needs root: a FUSE mount"]
fn the_next_daemon_takes_over_while_a_server_hangs() {
    let place = Place::new("ext4", 4096);
    let _throttled = place.disk().throttle(BYTES_PER_SECOND);
    let pool = Pool::over(place.dir());
    the_next_daemon_takes_over("hung server", pool.dir(), || pool.stop());
}
