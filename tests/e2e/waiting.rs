//! A daemon that stands still: the muxer's calls end when they are told to, and nothing is lost.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use freemkvd_client::Error;
use freemkvd_tests::daemon::{Daemon, wait_until};
use freemkvd_tests::pattern;
use rustix::process::Signal;

use crate::support::{MIB, inside, scratch, write_pattern};

/// Far more than the 250 ms that are promised: other tests use the same processors.
const SOON: Duration = Duration::from_secs(2);

#[test]
fn the_halt_flag_ends_a_write_that_waits_and_nothing_is_lost() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let path = root.path().join("film.mkv");
    let halt = Arc::new(AtomicBool::new(false));
    let options = daemon.options().window_bytes(MIB).memory_limit_bytes(6 * MIB);
    let mut file = options.halt(Arc::clone(&halt)).create(&path).unwrap();
    daemon.signal(Signal::STOP);
    let taken = AtomicU64::new(0);
    let mut piece = vec![0; 256 << 10];
    let mut write_on = |file: &mut freemkvd_client::RipFile, until: u64| {
        while taken.load(Ordering::Relaxed) < until {
            let at = taken.load(Ordering::Relaxed);
            pattern::fill(1, at, &mut piece);
            file.write_all(&piece)?;
            taken.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
        Ok::<_, io::Error>(())
    };
    let halted = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let error = write_on(&mut file, 64 * MIB).unwrap_err();
            (error, Instant::now())
        });
        // More than that does not fit into its memory and the socket.
        assert!(wait_until(|| taken.load(Ordering::Relaxed) >= 4 * MIB));
        let since = Instant::now();
        halt.store(true, Ordering::Relaxed);
        let (error, at) = writer.join().unwrap();
        assert!(at - since < SOON, "halted after {:?}", at - since);
        error
    });
    assert!(matches!(inside(&halted), Error::Halted { .. }), "{halted}");
    // Anything else would be retried for ever by write_all.
    assert_ne!(halted.kind(), io::ErrorKind::Interrupted);

    daemon.signal(Signal::CONT);
    halt.store(false, Ordering::Relaxed);
    write_on(&mut file, 16 * MIB).unwrap();
    file.finish().unwrap();
    assert_eq!(pattern::prefix_len(1, &path).unwrap(), 16 * MIB);
}

#[test]
fn a_sync_that_is_late_says_so_and_may_be_asked_again() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let path = root.path().join("film.mkv");
    let mut file = daemon.options().create(&path).unwrap();
    write_pattern(&mut file, 1, 0, MIB).unwrap();
    daemon.signal(Signal::STOP);
    let since = Instant::now();
    for _ in 0..2 {
        let late = file.sync_all_timeout(Duration::from_millis(200)).unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        assert!(matches!(inside(&late), Error::TimedOut { .. }), "{late}");
    }
    assert!(since.elapsed() < 2 * SOON);
    assert_eq!(file.progress().durable_bytes, 0);
    daemon.signal(Signal::CONT);
    file.sync_all().unwrap();
    assert_eq!(file.progress().durable_bytes, MIB);
    write_pattern(&mut file, 1, MIB, MIB).unwrap();
    file.finish().unwrap();
    assert_eq!(pattern::prefix_len(1, &path).unwrap(), 2 * MIB);
}

#[test]
fn a_drop_waits_only_as_long_as_it_was_told() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let path = root.path().join("film.mkv");
    let options = daemon.options().drop_wait(Duration::from_millis(200));
    let mut file = options.create(&path).unwrap();
    write_pattern(&mut file, 1, 0, MIB).unwrap();
    daemon.signal(Signal::STOP);
    let since = Instant::now();
    drop(file);
    assert!(since.elapsed() < SOON, "dropped after {:?}", since.elapsed());
    daemon.signal(Signal::CONT);
    // What is late is handed over in the background.
    daemon.wait_for("the rest to be written", |status| {
        status.streams.iter().all(|stream| stream.durable_bytes == MIB)
    });
    assert_eq!(pattern::prefix_len(1, &path).unwrap(), MIB);
}
