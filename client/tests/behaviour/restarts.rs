//! A daemon that goes away and comes back, or another one, or none. The muxer notices only that it waits.

use std::collections::BTreeSet;
use std::io::{Seek, SeekFrom, Write};
use std::time::{Duration, Instant};

use freemkvd_client::{Error, Options, RipFile};
use freemkvd_proto::{ErrorCode, Failure, Kind};

use super::{SHARED, options};
use crate::fake::{self, OnResume, Script};
use crate::{MIB, path, pattern};

/// Little memory, so that a slot that leaked would be missed.
fn small(daemon: &fake::Daemon) -> Options {
    let options = options(daemon).window_bytes(MIB as u64).memory_limit_bytes(5 * MIB as u64);
    options.resume_timeout(Duration::from_secs(10))
}

/// A rip with everything in it. Returns what the file should be.
fn rip(file: &mut RipFile) -> Vec<u8> {
    let mut expected = pattern(6 * MIB, 1);
    file.write_all(&expected).unwrap();
    file.seek(SeekFrom::Start(100)).unwrap();
    file.write_all(b"patched").unwrap();
    expected[100..107].copy_from_slice(b"patched");
    file.sync_all().unwrap();
    file.seek(SeekFrom::End(0)).unwrap();
    file.write_zeroes(100_000).unwrap();
    expected.resize(expected.len() + 100_000, 0);
    file.write_all(&pattern(MIB, 2)).unwrap();
    expected.extend(pattern(MIB, 2));
    file.flush().unwrap();
    let len = expected.len() - 5;
    file.set_len(len as u64).unwrap();
    expected.truncate(len);
    expected
}

fn frames_of_a_rip() -> usize {
    let daemon = fake::Daemon::start(Script::resumable());
    let mut file = small(&daemon).create(path()).unwrap();
    rip(&mut file);
    usize::try_from(file.finish().unwrap().progress.frames_sent).unwrap()
}

fn survives(script: Script) -> u64 {
    let told = format!("{:?} {:?}", script.cuts_before, script.cuts_after);
    let daemon = fake::Daemon::start(script);
    let mut file = small(&daemon).create(path()).unwrap();
    let expected = rip(&mut file);
    let finished = file.finish().unwrap_or_else(|error| panic!("{error} {told}"));
    assert!(daemon.content() == expected, "{told}");
    assert_eq!(finished.len_bytes, expected.len() as u64);
    assert_eq!(finished.progress.kept_bytes, 0, "{told}");
    finished.progress.resumes
}

#[test]
fn a_connection_may_be_lost_at_every_frame() {
    for frame in 0..frames_of_a_rip() {
        let cuts = BTreeSet::from([frame]);
        survives(Script { cuts_before: cuts.clone(), ..Script::resumable() });
        survives(Script { cuts_after: cuts, ..Script::resumable() });
    }
}

#[test]
fn a_connection_may_be_lost_again_and_again() {
    let cuts: BTreeSet<_> = (3..200).step_by(3).collect();
    assert!(survives(Script { cuts_before: cuts.clone(), ..Script::resumable() }) > 2);
    assert!(survives(Script { cuts_after: cuts, ..Script::resumable() }) > 2);
}

#[test]
fn an_open_that_nobody_answered_is_sent_again() {
    let cuts = BTreeSet::from([0, 1]);
    let daemon = fake::Daemon::start(Script { cuts_after: cuts, ..Script::resumable() });
    let mut file = small(&daemon).create(path()).unwrap();
    file.write_all(b"content").unwrap();
    assert_eq!(file.finish().unwrap().progress.resumes, 0);
    assert_eq!(daemon.content(), b"content");
}

#[test]
fn slots_stay_or_content_goes_inline_as_the_new_daemon_likes_it() {
    let daemon = fake::Daemon::start(Script {
        on_resume: [OnResume::Inline].into(),
        cuts_before: BTreeSet::from([3]),
        unwatched: true,
        ..Script::resumable()
    });
    let mut file = small(&daemon).create(path()).unwrap();
    let expected = rip(&mut file);
    let progress = file.finish().unwrap().progress;
    assert!(daemon.content() == expected);
    assert_eq!((progress.resumes, progress.unwatched_restarts), (1, 1));
    let writes = daemon.seen_of(Kind::Write);
    assert_eq!(writes.iter().any(|write| write.is_shared), SHARED);
    assert!(!writes.last().unwrap().is_shared);
}

#[test]
fn refusals_that_pass_are_tried_again() {
    let passing = [
        ErrorCode::GOING_AWAY,
        ErrorCode::ATTACHED,
        ErrorCode::TOO_MANY_CONNECTIONS,
        ErrorCode::HANDSHAKE_TIMEOUT,
    ];
    let failed = passing.map(|code| OnResume::Failed(Failure::new(code, "later")));
    let on_resume = failed.into_iter().chain([OnResume::Close]).collect();
    let cuts_before = BTreeSet::from([2]);
    let daemon = fake::Daemon::start(Script { on_resume, cuts_before, ..Script::resumable() });
    let mut file = small(&daemon).create(path()).unwrap();
    let expected = rip(&mut file);
    assert_eq!(file.finish().unwrap().progress.resumes, 1);
    assert!(daemon.content() == expected);
    assert_eq!(daemon.resumes().len(), 6);
}

#[test]
fn other_refusals_end_the_stream_with_their_reason() {
    for code in [ErrorCode::NO_SUCH_TOKEN, ErrorCode::FILE_CHANGED, ErrorCode::IO, ErrorCode(299)] {
        let daemon = fake::Daemon::start(Script {
            on_resume: [OnResume::Failed(Failure::new(code, "because of that"))].into(),
            cuts_before: BTreeSet::from([1]),
            ..Script::resumable()
        });
        let mut file = small(&daemon).create(path()).unwrap();
        file.write_all(b"content").unwrap();
        let error = file.flush().unwrap_err();
        assert_eq!(Error::inside(&error).unwrap().code(), Some(code));
        let expected = format!("cannot go on writing {}: because of that", path().display());
        assert_eq!(error.to_string(), expected);
        assert_eq!(file.sync_all().unwrap_err().to_string(), expected);
        assert_eq!(daemon.resumes().len(), 1);
    }
}

#[test]
fn a_daemon_of_version_2_that_comes_back_is_a_clear_error() {
    let daemon = fake::Daemon::start(Script {
        on_resume: [OnResume::Old].into(),
        cuts_before: BTreeSet::from([1]),
        ..Script::resumable()
    });
    let mut file = small(&daemon).create(path()).unwrap();
    file.write_all(b"content").unwrap();
    let error = file.flush().unwrap_err().to_string();
    assert!(error.contains("speaks protocol version 2, which can't go on"), "{error}");
}

#[test]
fn without_a_token_or_without_patience_a_loss_is_an_error_at_once() {
    let lost = BTreeSet::from([1]);
    for resumable in [false, true] {
        let script = Script { resumable, cuts_before: lost.clone(), ..Script::default() };
        let daemon = fake::Daemon::start(script);
        let timeout = Duration::from_secs(if resumable { 0 } else { 60 });
        let mut file = small(&daemon).resume_timeout(timeout).create(path()).unwrap();
        file.write_all(b"content").unwrap();
        let error = file.flush().unwrap_err();
        assert!(matches!(Error::inside(&error), Some(Error::Lost { .. })), "{error}");
        assert!(daemon.resumes().is_empty());
    }
}

#[test]
fn a_finish_that_was_done_and_not_told_is_told() {
    let daemon = fake::Daemon::start(Script::resumable());
    let mut file = small(&daemon).create(path()).unwrap();
    file.write_all(b"content").unwrap();
    // A flush sends nothing if the daemon was quick to say that all is written.
    file.sync_all().unwrap();
    let frames = usize::try_from(file.progress().frames_sent).unwrap();
    drop(file);
    let daemon = fake::Daemon::start(Script {
        cuts_after: BTreeSet::from([frames]),
        on_resume: [OnResume::Finished].into(),
        ..Script::resumable()
    });
    let mut file = small(&daemon).create(path()).unwrap();
    file.write_all(b"content").unwrap();
    file.sync_all().unwrap();
    assert_eq!(file.progress().frames_sent, frames as u64);
    let finished = file.finish().unwrap();
    assert_eq!(finished.len_bytes, 7);
    assert_eq!(finished.progress.durable_bytes, 7);
    assert_eq!(daemon.seen_of(Kind::Finish).len(), 1);
    assert_eq!(daemon.resumes().len(), 1);
}

#[test]
fn a_daemon_that_hangs_does_not_hold_up_the_deadline() {
    let daemon = fake::Daemon::start(Script {
        on_resume: vec![OnResume::Hang; 50].into(),
        cuts_before: BTreeSet::from([1]),
        ..Script::resumable()
    });
    let timeout = Duration::from_millis(300);
    let mut file = small(&daemon).resume_timeout(timeout).create(path()).unwrap();
    let since = Instant::now();
    file.write_all(b"content").unwrap();
    let error = file.flush().unwrap_err();
    assert!(since.elapsed() < 4 * timeout, "{:?}", since.elapsed());
    assert!(error.to_string().contains("the daemon did not answer within"), "{error}");
}

#[cfg(unix)]
mod away {
    use std::io::ErrorKind;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::wait_until;

    #[test]
    fn a_sync_in_flight_is_asked_for_again() {
        let daemon = fake::Daemon::start(Script::resumable());
        let mut file = small(&daemon).create(path()).unwrap();
        file.write_all(b"content").unwrap();
        daemon.set_syncing(false);
        file.sync_all_timeout(Duration::from_millis(50)).unwrap_err();
        daemon.cut();
        wait_until("it came back", || !daemon.resumes().is_empty());
        assert!(file.sync_all_timeout(Duration::from_millis(50)).is_err(), "nobody has synced");
        daemon.set_syncing(true);
        file.sync_all().unwrap();
        assert_eq!(file.progress().resumes, 1);
        file.finish().unwrap();
        assert_eq!(daemon.content(), b"content");
    }

    #[test]
    fn a_daemon_that_is_away_for_a_while_is_waited_for() {
        let daemon = fake::Daemon::start(Script::resumable());
        let mut file = small(&daemon).create(path()).unwrap();
        file.write_all(&pattern(MIB, 1)).unwrap();
        file.flush().unwrap();
        daemon.set_away(true);
        daemon.cut();
        std::thread::scope(|scope| {
            let writing = scope.spawn(|| {
                file.write_all(&pattern(9 * MIB, 2)).unwrap();
                file.finish().unwrap()
            });
            std::thread::sleep(Duration::from_millis(300));
            assert!(!writing.is_finished(), "9 MiB in 5 MiB of memory");
            daemon.set_away(false);
            let progress = writing.join().unwrap().progress;
            assert_eq!((progress.resumes, progress.unwatched_restarts), (1, 0));
        });
        assert!(daemon.content() == [pattern(MIB, 1), pattern(9 * MIB, 2)].concat());
    }

    #[test]
    fn nobody_comes_back_is_an_error_that_says_all() {
        let daemon = fake::Daemon::start(Script::resumable());
        let timeout = Duration::from_millis(400);
        let mut file = small(&daemon).resume_timeout(timeout).create(path()).unwrap();
        file.write_all(&pattern(MIB, 1)).unwrap();
        file.sync_all().unwrap();
        daemon.set_away(true);
        daemon.cut();
        let since = Instant::now();
        file.write_all(b"more").unwrap();
        let error = file.flush().unwrap_err();
        assert!(since.elapsed() < 3 * timeout, "{:?}", since.elapsed());
        let text = error.to_string();
        for part in [
            "it closed the connection, and in 0.",
            "tries to go on failed, the last because nobody can be reached at",
            "1048576 bytes are known to be written, 1048576 of them durable",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(file.finish().unwrap_err().to_string(), text);
        daemon.set_away(false);
    }

    #[test]
    fn halts_and_deadlines_hold_while_there_is_no_daemon() {
        let daemon = fake::Daemon::start(Script::resumable());
        let halt = Arc::new(AtomicBool::new(false));
        let mut file = small(&daemon).halt(Arc::clone(&halt)).create(path()).unwrap();
        file.write_all(b"content").unwrap();
        daemon.set_away(true);
        daemon.cut();
        let late = file.sync_all_timeout(Duration::from_millis(50)).unwrap_err();
        assert_eq!(late.kind(), ErrorKind::TimedOut);
        std::thread::scope(|scope| {
            let blocked = scope.spawn(|| (file.flush(), Instant::now()));
            std::thread::sleep(Duration::from_millis(150));
            let since = Instant::now();
            halt.store(true, Ordering::Relaxed);
            let (result, until) = blocked.join().unwrap();
            assert!(until - since < Duration::from_millis(250), "{:?}", until - since);
            let error = result.unwrap_err();
            assert!(matches!(Error::inside(&error), Some(Error::Halted { .. })), "{error}");
        });
        halt.store(false, Ordering::Relaxed);
        daemon.set_away(false);
        file.flush().unwrap();
        file.finish().unwrap();
        assert_eq!(daemon.content(), b"content");
    }

    #[test]
    fn what_is_dropped_without_a_daemon_is_handed_over_to_the_next() {
        let daemon = fake::Daemon::start(Script::resumable());
        let mut file = small(&daemon).create(path()).unwrap();
        file.write_all(&pattern(3 * MIB, 1)).unwrap();
        daemon.set_away(true);
        daemon.cut();
        let since = Instant::now();
        drop(file);
        assert!(since.elapsed() < Duration::from_millis(800), "{:?}", since.elapsed());
        daemon.set_away(false);
        wait_until("it was handed over", || daemon.content() == pattern(3 * MIB, 1));
        wait_until("the connection has ended", || daemon.is_over());
    }

    #[test]
    fn an_abort_is_told_to_the_next_daemon() {
        let daemon = fake::Daemon::start(Script::resumable());
        let options = small(&daemon).drop_wait(Duration::from_secs(10));
        let mut file = options.create(path()).unwrap();
        file.write_all(b"flushed").unwrap();
        file.flush().unwrap();
        daemon.set_away(true);
        daemon.cut();
        file.write_all(b"dropped").unwrap();
        std::thread::scope(|scope| {
            let aborting = scope.spawn(|| file.abort());
            std::thread::sleep(Duration::from_millis(50));
            daemon.set_away(false);
            aborting.join().unwrap().unwrap();
        });
        assert_eq!(daemon.content(), b"flushed");
        assert_eq!(daemon.seen_of(Kind::Abort).len(), 1);
    }

    #[test]
    fn an_abort_that_was_done_and_not_told_is_an_abort() {
        let gone = Failure::new(ErrorCode::NO_SUCH_TOKEN, "it was aborted");
        let on_resume = [OnResume::Failed(gone)].into();
        let daemon = fake::Daemon::start(Script { on_resume, ..Script::resumable() });
        let options = small(&daemon).drop_wait(Duration::from_secs(10));
        let mut file = options.create(path()).unwrap();
        file.write_all(b"dropped").unwrap();
        daemon.set_away(true);
        daemon.cut();
        std::thread::scope(|scope| {
            let aborting = scope.spawn(|| file.abort());
            std::thread::sleep(Duration::from_millis(50));
            daemon.set_away(false);
            aborting.join().unwrap().unwrap();
        });
    }

    #[test]
    fn memory_stays_bounded_while_there_is_no_daemon() {
        let daemon = fake::Daemon::start(Script::resumable());
        let mut file = small(&daemon).create(path()).unwrap();
        daemon.set_away(true);
        daemon.cut();
        // Whether one was still taken by the old connection or not, they are kept.
        file.write_all(&pattern(3 * MIB, 1)).unwrap();
        let late = file.sync_all_timeout(Duration::from_millis(50)).unwrap_err();
        assert_eq!(late.kind(), ErrorKind::TimedOut);
        let kept = file.progress().kept_bytes;
        assert!((3 * MIB as u64..=5 * MIB as u64).contains(&kept), "{kept}");
        daemon.set_away(false);
        file.sync_all().unwrap();
        assert_eq!(file.progress().kept_bytes, 0);
    }
}
