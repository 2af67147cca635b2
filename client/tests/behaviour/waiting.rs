//! Calls that have to wait: they end by a halt, by their deadline, or when there is room.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use freemkvd_client::{Error, RipFile};

use super::options;
use crate::{ALONE, MIB, fake, path, pattern, wait_until};

const HALT_MAX: Duration = Duration::from_millis(250);

/// More than a stream of 5 MiB holds.
static MUCH: [u8; 8 * MIB] = [5; 8 * MIB];

/// Runs `call` on a file whose daemon does not answer, sets the halt flag when it is blocked, and
/// returns what came of it. It must come within 250 ms of the halt.
fn halted<T: Send>(
    daemon: &fake::Daemon,
    call: impl FnOnce(&mut RipFile) -> io::Result<T> + Send,
) -> io::Error {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let halt = Arc::new(AtomicBool::new(false));
    // Little memory, so that every call is blocked long before the halt.
    let mut file = options(daemon)
        .window_bytes(MIB as u64)
        .memory_limit_bytes(5 * MIB as u64)
        .halt(Arc::clone(&halt))
        .create(path())
        .unwrap();
    daemon.set_reading(false);
    let error = thread::scope(|scope| {
        let blocked = scope.spawn(|| (call(&mut file), Instant::now()));
        thread::sleep(Duration::from_millis(300));
        assert!(!blocked.is_finished(), "the call did not block");
        let since = Instant::now();
        halt.store(true, Ordering::Relaxed);
        let (result, until) = blocked.join().unwrap();
        assert!(until - since < HALT_MAX, "took {:?}", until - since);
        result.err().expect("a halted call must fail")
    });
    daemon.set_reading(true);
    // What was taken before stays taken, and the stream goes on.
    halt.store(false, Ordering::Relaxed);
    file.flush().unwrap();
    assert_eq!(daemon.content().len() as u64, file.len_bytes());
    error
}

fn assert_halted(error: &io::Error) {
    assert!(matches!(Error::inside(error), Some(Error::Halted { .. })), "{error:?}");
    assert_ne!(error.kind(), ErrorKind::Interrupted);
}

#[test]
fn a_halt_ends_a_blocked_write_all() {
    let daemon = fake::Daemon::healthy();
    assert_halted(&halted(&daemon, |file| file.write_all(&pattern(64 * MIB, 1))));
}

#[test]
fn a_halt_ends_a_blocked_io_copy() {
    let daemon = fake::Daemon::healthy();
    assert_halted(&halted(&daemon, |file| {
        io::copy(&mut io::repeat(5).take(MUCH.len() as u64), file)
    }));
}

#[test]
fn a_halt_ends_a_buf_writer() {
    let daemon = fake::Daemon::healthy();
    assert_halted(&halted(&daemon, |file| {
        let mut buffered = io::BufWriter::new(file);
        let result = buffered.write_all(&MUCH);
        let _ = buffered.into_parts();
        result
    }));
}

#[test]
fn a_halt_ends_a_blocked_flush() {
    let daemon = fake::Daemon::healthy();
    assert_halted(&halted(&daemon, |file| {
        file.write_all(b"content")?;
        file.flush()
    }));
}

#[test]
fn a_halt_ends_a_blocked_sync() {
    let daemon = fake::Daemon::healthy();
    assert_halted(&halted(&daemon, |file| {
        file.write_all(b"content")?;
        file.sync_all()
    }));
}

#[test]
fn a_halted_write_may_be_repeated() {
    let daemon = fake::Daemon::healthy();
    let halt = Arc::new(AtomicBool::new(false));
    let options = options(&daemon).halt(Arc::clone(&halt));
    let mut file = options.create(path()).unwrap();
    daemon.set_reading(false);
    halt.store(true, Ordering::Relaxed);
    let bytes = pattern(64 * MIB, 1);
    assert_halted(&file.write_all(&bytes).unwrap_err());
    halt.store(false, Ordering::Relaxed);
    daemon.set_reading(true);
    file.write_all(&bytes).unwrap();
    file.finish().unwrap();
    assert!(daemon.content() == bytes);
}

#[test]
fn a_sync_deadline_is_timed_out_and_can_be_asked_again() {
    let daemon = fake::Daemon::healthy();
    let mut file = options(&daemon).create(path()).unwrap();
    file.write_all(b"content").unwrap();
    daemon.set_syncing(false);
    for _ in 0..2 {
        let error = file.sync_all_timeout(Duration::from_millis(60)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }
    assert_eq!(file.progress().durable_bytes, 0);
    file.write_all(b" and more").unwrap();
    daemon.set_syncing(true);
    // The answer to the first Sync must not pass for one that covers what came after it.
    file.sync_all().unwrap();
    assert_eq!(daemon.content(), b"content and more");
    let syncs = daemon.seen_of(freemkvd_proto::Kind::Sync);
    assert_eq!(syncs.len(), 2, "one that was repeated in vain, one for what was new");
    file.finish().unwrap();
}

#[test]
fn a_late_daemon_does_not_take_more_memory_than_allowed() {
    let daemon = fake::Daemon::healthy();
    daemon.set_answering(false);
    let halt = Arc::new(AtomicBool::new(false));
    let mut file = options(&daemon)
        .window_bytes(2 * MIB as u64)
        .memory_limit_bytes(6 * MIB as u64)
        .halt(Arc::clone(&halt))
        .create(path())
        .unwrap();
    thread::scope(|scope| {
        let writing = scope.spawn(|| file.write_all(&pattern(20 * MIB, 1)));
        wait_until("the slots are used up", || daemon.content().len() >= 3 * MIB);
        thread::sleep(Duration::from_millis(200));
        assert!(!writing.is_finished());
        // Six slots: at most four can have left a window of two.
        assert!(daemon.content().len() <= 4 * MIB);
        daemon.set_answering(true);
        writing.join().unwrap().unwrap();
    });
    file.finish().unwrap();
    assert!(daemon.content() == pattern(20 * MIB, 1));
}

#[test]
fn a_daemon_that_says_nothing_unasked_is_asked() {
    let daemon = fake::Daemon::healthy();
    daemon.set_answering(false);
    let mut file = options(&daemon).create(path()).unwrap();
    thread::scope(|scope| {
        let writing = scope.spawn(|| file.write_all(&pattern(60 * MIB, 1)));
        wait_until("it was asked", || !daemon.seen_of(freemkvd_proto::Kind::Flush).is_empty());
        daemon.set_answering(true);
        writing.join().unwrap().unwrap();
    });
    file.finish().unwrap();
}

#[test]
fn a_drop_is_bounded() {
    let daemon = fake::Daemon::healthy();
    let mut file = options(&daemon).create(path()).unwrap();
    file.write_all(&pattern(6 * MIB, 1)).unwrap();
    daemon.set_reading(false);
    let since = Instant::now();
    drop(file);
    assert!(since.elapsed() < Duration::from_millis(800), "{:?}", since.elapsed());
    // What was late is still handed over.
    daemon.set_reading(true);
    wait_until("the connection has ended", || daemon.is_over());
    assert!(daemon.content() == pattern(6 * MIB, 1));
}

#[test]
fn an_abort_drops_what_is_queued_and_is_bounded() {
    let daemon = fake::Daemon::healthy();
    let mut file = options(&daemon).create(path()).unwrap();
    file.write_all(b"flushed").unwrap();
    file.flush().unwrap();
    file.write_all(b"dropped").unwrap();
    file.abort().unwrap();
    assert_eq!(daemon.content(), b"flushed");

    let daemon = fake::Daemon::healthy();
    let mut file = options(&daemon).create(path()).unwrap();
    daemon.set_reading(false);
    file.write_all(&pattern(30 * MIB, 1)).unwrap();
    let since = Instant::now();
    assert_eq!(file.abort().unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(since.elapsed() < Duration::from_millis(800));
    daemon.set_reading(true);
    wait_until("the connection has ended", || daemon.is_over());
}

#[test]
fn a_stream_may_go_to_another_thread() {
    fn is_send<T: Send + 'static>() {}
    is_send::<RipFile>();
}
