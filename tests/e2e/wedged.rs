//! A device that never answers again: its stream's thread is stuck, and nothing else is. The thread
//! is held from outside, which looks the same to everybody else in the daemon.

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use freemkvd_client::{Error, Options, RipFile};
use freemkvd_tests::daemon::Daemon;
use freemkvd_tests::hold::Held;
use freemkvd_tests::pattern;
use rustix::process::Signal;

use crate::support::{MIB, Neighbour, inside, scratch, write_pattern};

/// A stream that ends with its daemon and whose thread is stuck, with 20 MiB in its queue.
fn stuck(daemon: &Daemon, path: &Path) -> (RipFile, Held) {
    stuck_with(daemon, path, daemon.options().resume_timeout(Duration::ZERO))
}

fn stuck_with(daemon: &Daemon, path: &Path, options: Options) -> (RipFile, Held) {
    let options = options.drop_wait(Duration::from_millis(100));
    let mut file = options.window_bytes(MIB).create(path).unwrap();
    let held = Held::writer(daemon, file.stream_id().unwrap());
    write_pattern(&mut file, 1, 0, 20 * MIB).unwrap();
    let late = file.sync_all_timeout(Duration::from_millis(50)).unwrap_err();
    assert!(matches!(inside(&late), Error::TimedOut { .. }), "{late}");
    daemon.wait_for("a full queue", |status| status.budget.queued_bytes == 20 * MIB);
    (file, held)
}

#[test]
fn a_stuck_stream_harms_no_other_and_goes_on_when_it_can() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let path = root.path().join("stuck.mkv");
    let (mut file, held) = stuck(&daemon, &path);
    let neighbour = Neighbour::start(&daemon, root.path());
    let mut other = daemon.options().create(root.path().join("other.mkv")).unwrap();
    write_pattern(&mut other, 2, 0, 64 * MIB).unwrap();
    other.finish().unwrap();
    let since = Instant::now();
    let status = daemon.status();
    assert!(since.elapsed() < Duration::from_secs(1), "status is late");
    assert_eq!(status.streams[0].accepted_bytes, 20 * MIB);
    assert_eq!(status.streams[0].written_bytes, 0);
    neighbour.assert_unharmed();
    drop(held);
    file.sync_all().unwrap();
    file.finish().unwrap();
    assert_eq!(pattern::prefix_len(1, &path).unwrap(), 20 * MIB);
}

#[test]
fn a_second_stop_does_not_wait_for_a_stuck_stream() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let (file, held) = stuck(&daemon, &root.path().join("stuck.mkv"));
    let path = root.path().join("healthy.mkv");
    let mut healthy = daemon.options().create(&path).unwrap();
    write_pattern(&mut healthy, 2, 0, 20 * MIB).unwrap();
    healthy.flush().unwrap();
    daemon.signal(Signal::TERM);
    daemon.wait_for_log(&[" waits for the next daemon", "healthy.mkv"]);
    let since = Instant::now();
    daemon.signal(Signal::TERM);
    held.wait_for_end();
    let (end, log) = daemon.wait();
    assert!(since.elapsed() < Duration::from_secs(5), "{log}");
    assert_eq!(end.code(), Some(1), "{log}");
    let lost = log.lines().find(|line| line.contains("stopped at once"));
    let lost = lost.unwrap_or_else(|| panic!("{log}"));
    for words in [
        "ERROR",
        "(asked a second time)",
        "20.0 MiB accepted from the muxer were never written",
        "stuck.mkv",
        "lost_bytes=20971520",
    ] {
        assert!(lost.contains(words), "{words} is not in: {lost}");
    }
    assert!(!log.contains("everything that was accepted is durable"), "{log}");
    assert_eq!(pattern::prefix_len(2, &path).unwrap(), 20 * MIB);
    drop(file);
}

#[test]
fn a_stop_leaves_a_stuck_stream_to_its_muxer_who_goes_on_with_the_next_daemon() {
    let root = scratch();
    let mut daemon = Daemon::start(root.path(), "");
    let path = root.path().join("stuck.mkv");
    let (mut file, held) = stuck_with(&daemon, &path, daemon.options());
    let since = Instant::now();
    daemon.signal(Signal::TERM);
    held.wait_for_end();
    let end = daemon.wait_for_end();
    let log = daemon.log();
    // A second of standing still, and one for those who may not read their last answers.
    assert!(since.elapsed() < Duration::from_secs(10), "{:?}\n{log}", since.elapsed());
    assert!(end.success(), "{log}");
    assert!(log.contains("20.0 MiB that were accepted will come again from its muxer"), "{log}");
    daemon.start_again();
    file.sync_all().unwrap();
    assert_eq!(file.progress().resumes, 1);
    file.finish().unwrap();
    assert_eq!(pattern::prefix_len(1, &path).unwrap(), 20 * MIB);
}

#[test]
fn a_stop_that_takes_long_loses_no_stream_that_has_stopped_before() {
    let root = scratch();
    let mut daemon = Daemon::start(root.path(), "[daemon]\ndrain_timeout = \"8s\"\n");
    let path = root.path().join("healthy.mkv");
    let mut healthy = daemon.options().create(&path).unwrap();
    write_pattern(&mut healthy, 2, 0, 20 * MIB).unwrap();
    let (stuck, held) = stuck(&daemon, &root.path().join("stuck.mkv"));
    daemon.signal(Signal::TERM);
    held.wait_for_end();
    assert_eq!(daemon.wait_for_end().code(), Some(1), "the stuck one can't be resumed");
    drop(stuck);
    daemon.start_again();
    write_pattern(&mut healthy, 2, 20 * MIB, MIB).unwrap();
    healthy.finish().unwrap();
    assert_eq!(pattern::prefix_len(2, &path).unwrap(), 21 * MIB);
}

#[test]
fn a_stop_waits_for_a_stuck_stream_only_as_long_as_configured() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "[daemon]\ndrain_timeout = \"500ms\"\n");
    let (file, held) = stuck(&daemon, &root.path().join("stuck.mkv"));
    let since = Instant::now();
    daemon.signal(Signal::TERM);
    held.wait_for_end();
    let (end, log) = daemon.wait();
    assert!(since.elapsed() >= Duration::from_millis(500), "{log}");
    assert_eq!(end.code(), Some(1), "{log}");
    assert!(log.contains("(daemon.drain_timeout has passed)"), "{log}");
    drop(file);
}

#[test]
fn a_stream_whose_muxer_gave_up_meanwhile_is_written_when_it_can_be() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let path = root.path().join("stuck.mkv");
    let (mut file, held) = stuck(&daemon, &path);
    file.write_all(b"in the window when it is dropped").unwrap();
    drop(file);
    drop(held);
    daemon.wait_for("an abandoned stream that is durable", |status| {
        status.devices.is_empty() && status.streams[0].durable_bytes > 20 * MIB
    });
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 20 * MIB + 32);
}

#[test]
fn a_stop_in_which_a_stream_fails_does_not_say_that_all_is_durable() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let (mut file, held) = stuck(&daemon, &root.path().join("stuck.mkv"));
    // No file system here takes a byte so far out; the writer finds out when it goes on.
    file.seek(SeekFrom::Start(i64::MAX as u64 - 1)).unwrap();
    file.write_all(b"x").unwrap();
    file.sync_all_timeout(Duration::from_millis(50)).unwrap_err();
    daemon.wait_for("one byte more", |status| status.budget.queued_bytes == 20 * MIB + 1);
    daemon.signal(Signal::TERM);
    daemon.wait_for_log(&["stopping: taking no new streams"]);
    drop(held);
    let (end, log) = daemon.wait();
    assert_eq!(end.code(), Some(1), "{log}");
    assert!(log.contains("streams that failed meanwhile, see above: 1"), "{log}");
    assert!(!log.contains("everything that was accepted is durable"), "{log}");
}
