//! Which ranges are durable, as a muxer that keeps a map is told.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use freemkvd_client::{Options, RipFile};
use freemkvd_proto::{ErrorCode, Failure, Kind};

use super::options;
use crate::fake::{self, Script};
use crate::{MIB, path, pattern, wait_until};

const MIB_64: u64 = MIB as u64;

fn tracked(daemon: &fake::Daemon) -> Options {
    options(daemon).window_bytes(MIB_64).memory_limit_bytes(16 * MIB_64).track_durable(true)
}

fn put(file: &mut RipFile, offset: u64, bytes: &[u8]) {
    file.seek(SeekFrom::Start(offset)).unwrap();
    file.write_all(bytes).unwrap();
}

/// What is told next, when something is.
fn next(file: &mut RipFile) -> Vec<Range<u64>> {
    let mut ranges = Vec::new();
    wait_until("a range is durable", || {
        ranges = file.take_durable();
        !ranges.is_empty()
    });
    ranges
}

/// Where `told` puts what a callback was told.
type Told = Arc<Mutex<Vec<Range<u64>>>>;

fn told(options: Options) -> (Options, Told) {
    let told = Told::default();
    let callback = Arc::clone(&told);
    (options.on_durable(move |range| callback.lock().unwrap().push(range)), told)
}

/// All that may be said of a file that goes through a daemon or not.
fn is_told_what_is_durable(mut file: RipFile) {
    file.write_all(&pattern(6 * MIB, 1)).unwrap();
    assert_eq!(file.take_durable(), []);
    file.flush().unwrap();
    assert_eq!(file.take_durable(), [], "written is not durable");
    file.sync_all().unwrap();
    assert_eq!(file.take_durable(), [0..6 * MIB_64]);
    file.sync_all().unwrap();
    assert_eq!(file.take_durable(), [], "it was told");

    put(&mut file, 10, b"far");
    put(&mut file, 6 * MIB_64 - 10, b"near");
    assert_eq!(file.take_durable(), []);
    file.sync_soon().unwrap();
    let mut ranges = next(&mut file);
    while ranges.len() < 2 {
        ranges.extend(next(&mut file));
    }
    assert_eq!(ranges, [10..13, 6 * MIB_64 - 10..6 * MIB_64 - 6]);

    file.seek(SeekFrom::Start(MIB_64)).unwrap();
    file.write_zeroes(100).unwrap();
    file.set_len(8 * MIB_64).unwrap();
    file.seek(SeekFrom::Start(9 * MIB_64)).unwrap();
    file.write_zeroes(MIB_64).unwrap();
    file.sync_all().unwrap();
    let expected = [MIB_64..MIB_64 + 100, 9 * MIB_64..10 * MIB_64];
    assert_eq!(file.take_durable(), expected, "neither a hole nor growth was written");

    put(&mut file, 9 * MIB_64 - 50, &pattern(100, 2));
    put(&mut file, 100, b"before");
    file.sync_all().unwrap();
    file.set_len(9 * MIB_64).unwrap();
    assert_eq!(file.take_durable(), [100..106, 9 * MIB_64 - 50..9 * MIB_64]);
    put(&mut file, 9 * MIB_64 - 50, &pattern(100, 2));
    file.set_len(9 * MIB_64 - 40).unwrap();
    file.set_len(10 * MIB_64).unwrap();
    file.sync_all().unwrap();
    assert_eq!(file.take_durable(), [9 * MIB_64 - 50..9 * MIB_64 - 40]);
    file.finish().unwrap();
}

#[test]
fn a_range_is_told_once_and_when_it_is_durable() {
    let daemon = fake::Daemon::healthy();
    is_told_what_is_durable(tracked(&daemon).create(path()).unwrap());
}

#[test]
fn a_local_file_tells_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let options = RipFile::options().socket(crate::nobody());
    let options = options.fallback_to_local(true).window_bytes(MIB_64).track_durable(true);
    is_told_what_is_durable(options.create(dir.path().join("film.mkv")).unwrap());
}

#[test]
fn a_sync_of_a_local_file_that_nobody_waits_for_comes_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let options = RipFile::options().socket(crate::nobody());
    let mut file = options.fallback_to_local(true).create(dir.path().join("film.mkv")).unwrap();
    for number in 1..=50 {
        file.write_all(b"content").unwrap();
        file.sync_soon().unwrap();
        assert!(file.progress().durable_bytes <= number * 7);
    }
    wait_until("the last of them is durable", || file.progress().durable_bytes == 350);
}

#[test]
fn who_does_not_ask_is_told_nothing() {
    let daemon = fake::Daemon::healthy();
    let mut file = options(&daemon).create(path()).unwrap();
    file.write_all(b"content").unwrap();
    file.sync_all().unwrap();
    assert_eq!(file.take_durable(), []);
}

#[test]
fn durable_comes_in_steps() {
    let daemon = fake::Daemon::healthy();
    let mut file = tracked(&daemon).create(path()).unwrap();
    for offset in 0..4 {
        put(&mut file, offset * 100, &pattern(60, 1));
        file.flush().unwrap();
    }
    let numbers: Vec<_> = daemon.seen_of(Kind::Write).iter().map(|write| write.sequence).collect();
    assert_eq!(numbers.len(), 4);
    for (offset, number) in (0..).zip(numbers) {
        daemon.make_durable(number - 1);
        daemon.make_durable(number);
        assert_eq!(next(&mut file), [offset * 100..offset * 100 + 60]);
    }
}

#[test]
fn a_patch_in_the_window_is_told_only_when_it_is_durable_itself() {
    let daemon = fake::Daemon::healthy();
    let mut file = tracked(&daemon).create(path()).unwrap();
    file.write_all(&pattern(1000, 1)).unwrap();
    file.sync_soon().unwrap();
    wait_until("it is durable", || file.progress().durable_bytes == 1000);
    put(&mut file, 10, b"patched");
    assert_eq!(file.take_durable(), [0..10, 17..1000]);
    // In the same slot, so that what lies between is sent again as well.
    put(&mut file, 500, b"patched");
    file.flush().unwrap();
    assert_eq!(file.take_durable(), []);
    file.sync_all().unwrap();
    assert_eq!(file.take_durable(), [10..17, 500..507]);
}

#[test]
fn a_patch_that_overlaps_the_one_that_leaves_for_it_is_not_told_with_that() {
    let daemon = fake::Daemon::healthy();
    let mut file = tracked(&daemon).create(path()).unwrap();
    file.write_all(&pattern(6 * MIB, 1)).unwrap();
    file.sync_all().unwrap();
    file.take_durable();
    put(&mut file, 100, &pattern(100, 2));
    // It begins below the other, so the other leaves, and is in part what it was.
    put(&mut file, 50, &pattern(100, 3));
    let first = || daemon.seen_of(Kind::Write).into_iter().find(|write| write.offset == 100);
    wait_until("the first has left", || first().is_some());
    daemon.make_durable(first().unwrap().sequence);
    assert_eq!(next(&mut file), [150..200]);
    file.sync_all().unwrap();
    assert_eq!(file.take_durable(), [50..150]);
}

#[test]
fn a_sync_that_nobody_waits_for_holds_nobody_up_and_many_are_few() {
    let daemon = fake::Daemon::healthy();
    let mut file = tracked(&daemon).create(path()).unwrap();
    daemon.set_syncing(false);
    for offset in 0..10 {
        put(&mut file, offset * 10, &pattern(10, 1));
        file.sync_soon().unwrap();
    }
    assert_eq!(file.take_durable(), []);
    daemon.set_syncing(true);
    let mut taken = next(&mut file);
    while taken.last().is_none_or(|last| last.end < 100) {
        taken.extend(next(&mut file));
    }
    assert_eq!((taken.first().unwrap().start, daemon.seen_of(Kind::Sync).len()), (0, 2));
}

#[test]
fn a_sync_that_fails_is_told_by_the_next_call() {
    let failure = Failure::new(ErrorCode::IO, "the disk is broken");
    let daemon = fake::Daemon::start(Script { fails_sync: Some(failure), ..Script::default() });
    let mut file = tracked(&daemon).create(path()).unwrap();
    file.write_all(b"content").unwrap();
    file.sync_soon().unwrap();
    let mut failed = None;
    wait_until("it has failed", || {
        failed = file.sync_soon().err();
        failed.is_some()
    });
    assert!(failed.unwrap().to_string().contains("the disk is broken"));
    assert_eq!(file.take_durable(), []);
}

#[test]
fn a_stream_that_has_failed_tells_what_was_durable_before() {
    let fails_after = Some((3000, Failure::new(ErrorCode::NO_SPACE, "full")));
    let daemon = fake::Daemon::start(Script { fails_after, ..Script::default() });
    let mut file = tracked(&daemon).create(path()).unwrap();
    file.write_all(&pattern(2000, 1)).unwrap();
    file.sync_all().unwrap();
    put(&mut file, 500, &pattern(100, 2));
    put(&mut file, 2000, &pattern(2000, 2));
    assert_eq!(file.sync_all().unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(file.take_durable(), [0..500, 600..2000]);

    let fails_after = Some((3000, Failure::new(ErrorCode::NO_SPACE, "full")));
    let daemon = fake::Daemon::start(Script { fails_after, ..Script::default() });
    let (options, told) = told(tracked(&daemon));
    let mut file = options.create(path()).unwrap();
    file.write_all(&pattern(2000, 1)).unwrap();
    file.sync_soon().unwrap();
    wait_until("it is durable", || file.progress().durable_bytes == 2000);
    put(&mut file, 2000, &pattern(2000, 2));
    assert_eq!(file.finish().unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(*told.lock().unwrap(), [0..2000]);
}

#[cfg_attr(windows, ignore = "the fake daemon can't end a pipe in the middle")]
#[test]
fn over_a_restart_only_what_the_daemon_has_said_is_told() {
    // `Open`, `Write`, `Sync`, `Seek`, `Write`, `Seek`, `Write`, and this `Sync`.
    let cuts_after = BTreeSet::from([7]);
    let daemon = fake::Daemon::start(Script { cuts_after, ..Script::resumable() });
    let mut file = tracked(&daemon).create(path()).unwrap();
    file.write_all(&pattern(1000, 1)).unwrap();
    file.sync_all().unwrap();
    put(&mut file, 100, &pattern(100, 2));
    put(&mut file, 2000, &pattern(100, 2));
    assert_eq!(file.take_durable(), [0..100, 200..1000]);
    file.sync_soon().unwrap();
    let mut taken = next(&mut file);
    // It was executed, and nobody knows: another one was asked for.
    assert_eq!((file.progress().resumes, daemon.seen_of(Kind::Sync).len()), (1, 3));
    while taken.len() < 2 {
        taken.extend(next(&mut file));
    }
    assert_eq!(taken, [100..200, 2000..2100]);
    file.sync_all().unwrap();
    assert_eq!(file.take_durable(), []);
    file.finish().unwrap();
}

#[cfg(unix)]
#[test]
fn while_there_is_no_daemon_nothing_is_told() {
    let daemon = fake::Daemon::start(Script::resumable());
    let mut file = tracked(&daemon).create(path()).unwrap();
    file.write_all(&pattern(1000, 1)).unwrap();
    daemon.set_syncing(false);
    file.sync_soon().unwrap();
    wait_until("it is written", || daemon.content().len() == 1000);
    daemon.set_away(true);
    daemon.cut();
    put(&mut file, 0, b"again");
    file.sync_soon().unwrap();
    assert_eq!(file.take_durable(), []);
    daemon.set_away(false);
    daemon.set_syncing(true);
    wait_until("it has gone on", || file.progress().resumes == 1);
    let mut taken = next(&mut file);
    while taken.last().is_none_or(|last| last.end < 1000) || taken[0].start > 0 {
        taken.extend(next(&mut file));
        taken.sort_by_key(|range| range.start);
    }
    assert_eq!(taken.iter().map(|range| range.end - range.start).sum::<u64>(), 1000);
    assert!(daemon.content().starts_with(b"again"));
}

#[test]
fn a_callback_is_called_by_the_thread_that_writes_and_finish_tells_the_rest() {
    let daemon = fake::Daemon::healthy();
    let this = thread::current().id();
    let (options, told) = told(tracked(&daemon));
    let mut file = options.create(path()).unwrap();
    file.write_all(&pattern(100, 1)).unwrap();
    // Not before this call has returned, at whose end it would be told already.
    daemon.set_syncing(false);
    file.sync_soon().unwrap();
    daemon.set_syncing(true);
    wait_until("it is durable", || file.progress().durable_bytes == 100);
    assert_eq!(*told.lock().unwrap(), [], "not by another thread");
    file.write_all(&pattern(100, 1)).unwrap();
    assert_eq!(*told.lock().unwrap(), [0..100]);
    put(&mut file, 0, b"x");
    file.finish().unwrap();
    assert_eq!(*told.lock().unwrap(), [0..100, 0..1, 100..200]);

    let daemon = fake::Daemon::healthy();
    let is_this = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&is_this);
    let options = tracked(&daemon).on_durable(move |_| {
        seen.store(thread::current().id() == this, Ordering::Relaxed);
    });
    let mut file = options.create(path()).unwrap();
    file.write_all(b"content").unwrap();
    file.sync_all().unwrap();
    assert!(is_this.load(Ordering::Relaxed));
    assert_eq!(file.take_durable(), [], "the callback has it");
}

#[cfg_attr(windows, ignore = "the fake daemon can't end a pipe in the middle")]
#[test]
fn a_callback_that_panics_loses_nothing_and_is_told_again() {
    let daemon = fake::Daemon::healthy();
    let panics = Arc::new(AtomicBool::new(true));
    let taken = Told::default();
    let (armed, callback) = (Arc::clone(&panics), Arc::clone(&taken));
    let options = tracked(&daemon).on_durable(move |range| {
        // On the second of three.
        let is_now = callback.lock().unwrap().len() == 1;
        assert!(!is_now || !armed.swap(false, Ordering::Relaxed), "as the test wants it");
        callback.lock().unwrap().push(range);
    });
    let mut file = options.create(path()).unwrap();
    for offset in 0..3 {
        put(&mut file, offset * 100, b"content");
    }
    let panicked = catch_unwind(AssertUnwindSafe(|| file.sync_all()));
    assert!(panicked.is_err());
    assert_eq!(*taken.lock().unwrap(), [0..7]);
    file.write_all(b"more").unwrap();
    assert_eq!(*taken.lock().unwrap(), [0..7, 100..107, 200..207]);
    file.finish().unwrap();
    assert_eq!(taken.lock().unwrap().last(), Some(&(207..211)));
    assert_eq!(&daemon.content()[200..], b"contentmore");

    // Nobody catches it, and the file is dropped.
    let daemon = fake::Daemon::healthy();
    let options = tracked(&daemon).on_durable(|_| panic!("as the test wants it"));
    let mut file = options.create(path()).unwrap();
    let thread = thread::spawn(move || {
        file.write_all(b"content").unwrap();
        file.sync_soon().unwrap();
        loop {
            file.write_all(b"more").unwrap();
        }
    });
    assert!(thread.join().is_err());
    wait_until("what was taken is written", || {
        let content = daemon.content();
        daemon.is_over() && content.starts_with(b"content") && content.len() % 4 == 3
    });
}

#[test]
fn a_callback_that_blocks_holds_up_no_byte_that_was_handed_over() {
    let daemon = Arc::new(fake::Daemon::healthy());
    let seen = Arc::clone(&daemon);
    let options = tracked(&daemon).on_durable(move |range| {
        if range.start == 0 {
            seen.set_reading(true);
            wait_until("the daemon has what left the window", || seen.content().len() > 3 * MIB);
        }
    });
    let mut file = options.create(path()).unwrap();
    file.write_all(b"content").unwrap();
    // Not before this call has returned, at whose end it would be told already.
    daemon.set_syncing(false);
    file.sync_soon().unwrap();
    daemon.set_syncing(true);
    wait_until("it is durable", || file.progress().durable_bytes == 7);
    daemon.set_reading(false);
    file.write_all(&pattern(6 * MIB, 1)).unwrap();
    file.finish().unwrap();
    assert_eq!(daemon.content().len(), 6 * MIB + 7);
}

/// More ranges than are kept, none touching another, and each of them in the window.
fn scattered(file: &mut RipFile, mut write: impl FnMut(&mut RipFile, u64)) {
    file.write_all(&pattern(200_000, 1)).unwrap();
    file.sync_all().unwrap();
    file.take_durable();
    for offset in 0..70_000 {
        file.seek(SeekFrom::Start(offset * 2)).unwrap();
        write(file, offset * 2);
    }
}

#[test]
fn too_many_ranges_that_nobody_takes_are_an_error_that_passes() {
    let daemon = fake::Daemon::healthy();
    let mut file = tracked(&daemon).create(path()).unwrap();
    let mut taken = Vec::new();
    scattered(&mut file, |file, offset| {
        let Err(error) = file.write_all(b"x") else { return };
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("call sync_all, then take_durable"), "{error}");
        assert_eq!(file.stream_position().unwrap(), offset);
        file.sync_all().unwrap();
        taken.extend(file.take_durable());
        file.write_all(b"x").unwrap();
    });
    assert!(taken.len() > 60_000 && taken.len() <= 65_536, "{}", taken.len());
    file.sync_all().unwrap();
    taken.extend(file.take_durable());
    assert!(taken.into_iter().eq((0..70_000).map(|offset| offset * 2..offset * 2 + 1)));
    file.finish().unwrap();
}

#[test]
fn with_a_callback_there_are_never_too_many_ranges() {
    let daemon = fake::Daemon::healthy();
    let (options, told) = told(tracked(&daemon));
    let mut file = options.create(path()).unwrap();
    scattered(&mut file, |file, _| file.write_all(b"x").unwrap());
    file.finish().unwrap();
    let told = told.lock().unwrap();
    let expected = (0..70_000).map(|offset| offset * 2..offset * 2 + 1);
    assert_eq!(told[0], 0..200_000);
    assert!(told[1..].iter().cloned().eq(expected));
}
