//! Failures of the daemon, of its disk, and of the connection.

use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::time::{Duration, Instant};

use freemkvd_client::Error;
use freemkvd_proto::hello::{DaemonHello, VERSION_HIGHEST, VERSION_LOWEST};
use freemkvd_proto::{ErrorCode, Failure};

use super::options;
use crate::{MIB, fake, path, pattern, wait_until};

fn disk_full() -> Failure {
    Failure {
        code: ErrorCode::NO_SPACE,
        errno: Some(28),
        offset: Some(4096),
        message: "no space left on device; free some".into(),
    }
}

#[test]
fn the_first_failure_is_told_to_every_later_call() {
    let daemon = fake::Daemon::start(fake::Script {
        fails_after: Some((2 * MIB as u64, disk_full())),
        ..fake::Script::default()
    });
    let mut file = options(&daemon).create(path()).unwrap();
    // Somewhere in here it fails; which write is told first depends on the threads.
    let first = loop {
        if let Err(error) = file.write_all(&pattern(MIB, 1)) {
            break error;
        }
    };
    let again = [
        file.write_all(b"more").unwrap_err(),
        file.flush().unwrap_err(),
        file.sync_all().unwrap_err(),
        file.set_len(5).unwrap_err(),
        file.write_zeroes(5).unwrap_err(),
        file.finish().unwrap_err(),
    ];
    for error in again.iter().chain([&first]) {
        assert_eq!(error.to_string(), first.to_string());
        let inside = Error::inside(error).unwrap();
        assert_eq!(inside.errno(), Some(28));
        assert_eq!(inside.offset(), Some(4096));
        assert_eq!(inside.code(), Some(ErrorCode::NO_SPACE));
        assert_eq!(inside.path(), path());
        if cfg!(unix) {
            assert_eq!(error.kind(), ErrorKind::StorageFull);
        }
    }
    wait_until("the connection has ended", || daemon.is_over());
}

#[test]
fn a_failed_sync_is_not_asked_again_in_hope() {
    let daemon = fake::Daemon::start(fake::Script {
        fails_sync: Some(Failure::new(ErrorCode::IO, "the disk lost what was written")),
        ..fake::Script::default()
    });
    let mut file = options(&daemon).create(path()).unwrap();
    file.write_all(b"content").unwrap();
    let first = file.sync_all().unwrap_err();
    assert_eq!(file.sync_all().unwrap_err().to_string(), first.to_string());
    assert_eq!(daemon.seen_of(freemkvd_proto::Kind::Sync).len(), 1);
}

#[cfg_attr(windows, ignore = "the fake daemon can't end a pipe in the middle")]
#[test]
fn a_lost_connection_says_what_is_written_and_durable() {
    let daemon = fake::Daemon::start(fake::Script {
        closes_after: Some(3 * MIB as u64),
        ..fake::Script::default()
    });
    let mut file = options(&daemon).create(path()).unwrap();
    file.write_all(&pattern(MIB, 1)).unwrap();
    file.sync_all().unwrap();
    file.write_all(&pattern(2 * MIB, 1)).unwrap();
    file.flush().unwrap();
    file.write_all(b"one too many").unwrap();
    let error = file.flush().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
    let Some(Error::Lost { written_bytes, durable_bytes, .. }) = Error::inside(&error) else {
        panic!("{error:?}");
    };
    assert_eq!(*written_bytes, 3 * MIB as u64);
    assert_eq!(*durable_bytes, MIB as u64);
    let text = error.to_string();
    assert!(text.contains("it closed the connection") && text.contains("3145728"), "{text}");
    assert_eq!(file.write(b"again").unwrap_err().to_string(), text);
}

#[cfg_attr(windows, ignore = "the fake daemon can't end a pipe in the middle")]
#[test]
fn a_daemon_that_said_it_would_go_is_named_so() {
    let daemon = fake::Daemon::start(fake::Script {
        closes_after: Some(0),
        says_going_away: true,
        ..fake::Script::default()
    });
    let mut file = options(&daemon).create(path()).unwrap();
    file.write_all(b"content").unwrap();
    let error = file.flush().unwrap_err().to_string();
    assert!(error.contains("it was shutting down"), "{error}");
}

#[test]
fn a_refused_open_is_an_error_and_never_a_fallback() {
    for (code, kind) in [
        (ErrorCode::OUTSIDE_ROOTS, ErrorKind::PermissionDenied),
        (ErrorCode::IN_USE, ErrorKind::ResourceBusy),
        (ErrorCode::NO_SPACE_AHEAD, ErrorKind::StorageFull),
    ] {
        let daemon = fake::Daemon::start(fake::Script {
            refuses_open: Some(Failure::new(code, "because of that")),
            ..fake::Script::default()
        });
        let error = options(&daemon).fallback_to_local(true).create(path()).unwrap_err();
        assert_eq!(error.code(), Some(code));
        assert_eq!(error.kind(), kind);
        let expected = format!("cannot open {}: because of that", path().display());
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn a_version_that_nobody_shares_is_a_clear_error() {
    let (lowest, highest) = (VERSION_HIGHEST + 1, VERSION_HIGHEST + 3);
    let daemon = fake::Daemon::start(fake::Script {
        hello: Some(DaemonHello::Refused { reason: ErrorCode::VERSION, lowest, highest }),
        ..fake::Script::default()
    });
    let error = options(&daemon).create(path()).unwrap_err();
    let text = error.to_string();
    let said = format!(
        "speaks protocol versions {lowest} to {highest}, this client {VERSION_LOWEST} to {VERSION_HIGHEST}"
    );
    assert!(text.contains(&said), "{text}");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn a_daemon_that_never_answers_does_not_hang_an_open() {
    let mute = [
        fake::Script { never_greets: true, ..fake::Script::default() },
        fake::Script { never_opens: true, ..fake::Script::default() },
    ];
    for script in mute {
        let daemon = fake::Daemon::start(script);
        let options = options(&daemon).connect_timeout(Duration::from_millis(150));
        let since = Instant::now();
        let error = options.fallback_to_local(true).create(path()).unwrap_err();
        assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
        assert!(since.elapsed() < Duration::from_secs(1));
        if cfg!(unix) {
            wait_until("it was hung up on", || daemon.is_over());
        }
    }
}

#[test]
fn impossible_requests_do_not_harm_the_stream() {
    let daemon = fake::Daemon::healthy();
    for bad in [
        options(&daemon).window_bytes(0),
        options(&daemon).window_bytes(65 * MIB as u64),
        options(&daemon).memory_limit_bytes(9 * MIB as u64),
        options(&daemon).weight(9),
        options(&daemon).weight(1001),
    ] {
        assert!(matches!(bad.create(path()), Err(Error::Invalid { .. })));
    }
    let mut file = options(&daemon).create(path()).unwrap();
    let kind = |error: std::io::Error| error.kind();
    assert_eq!(kind(file.set_len(u64::MAX).unwrap_err()), ErrorKind::InvalidInput);
    assert_eq!(kind(file.seek(SeekFrom::Start(u64::MAX)).unwrap_err()), ErrorKind::InvalidInput);
    file.seek(SeekFrom::Start(i64::MAX as u64)).unwrap();
    assert_eq!(kind(file.write(b"x").unwrap_err()), ErrorKind::InvalidInput);
    file.seek(SeekFrom::Start(0)).unwrap();
    file.write_all(b"fine").unwrap();
    file.finish().unwrap();
    assert_eq!(daemon.content(), b"fine");
}
