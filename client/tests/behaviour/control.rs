//! Status requests.

use std::time::{Duration, Instant};

use freemkvd_client::Error;
use freemkvd_client::control::Control;
use freemkvd_proto::ErrorCode;
use freemkvd_proto::hello::DaemonHello;

use crate::fake;

#[test]
fn status_may_be_asked_again_and_again() {
    let daemon = fake::Daemon::healthy();
    let mut control = Control::connect(Some(daemon.socket()), Duration::from_secs(5)).unwrap();
    for _ in 0..3 {
        assert_eq!(control.status().unwrap().version, "fake");
    }
}

#[test]
fn a_weight_that_is_refused_leaves_the_connection_as_it_was() {
    let daemon = fake::Daemon::healthy();
    let mut control = Control::connect(Some(daemon.socket()), Duration::from_secs(5)).unwrap();
    control.set_weight(7, 300).unwrap();
    let refused = control.set_weight(8, 300).unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::NO_SUCH_STREAM));
    control.set_weight(7, 100).unwrap();
    assert_eq!(control.status().unwrap().version, "fake");
}

#[test]
fn a_drain_is_done_at_once_and_refused_by_who_does_not_know_it() {
    let daemon = fake::Daemon::healthy();
    let timeout = Duration::from_secs(5);
    Control::connect(Some(daemon.socket()), timeout).unwrap().drain().unwrap();
    assert_eq!(daemon.drains(), 1);
    let hello = Some(DaemonHello::Accepted { version: 2 });
    let old = fake::Daemon::start(fake::Script { hello, ..fake::Script::default() });
    let mut control = Control::connect(Some(old.socket()), timeout).unwrap();
    let error = control.drain().unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::VERSION));
    assert_eq!((old.drains(), control.status().unwrap().protocol), (0, 2));
}

#[test]
fn an_abort_is_refused_for_streams_that_are_not_there_and_by_who_does_not_know_it() {
    let daemon = fake::Daemon::healthy();
    let timeout = Duration::from_secs(5);
    let mut control = Control::connect(Some(daemon.socket()), timeout).unwrap();
    control.abort(7).unwrap();
    assert_eq!(control.abort(8).unwrap_err().code(), Some(ErrorCode::NO_SUCH_STREAM));
    let hello = Some(DaemonHello::Accepted { version: 3 });
    let old = fake::Daemon::start(fake::Script { hello, ..fake::Script::default() });
    let mut control = Control::connect(Some(old.socket()), timeout).unwrap();
    assert_eq!(control.abort(7).unwrap_err().code(), Some(ErrorCode::VERSION));
}

#[test]
fn a_wish_for_the_files_end_that_the_daemon_does_not_know_is_refused_at_open() {
    let dir = tempfile::tempdir().unwrap();
    let hello = Some(DaemonHello::Accepted { version: 3 });
    let old = fake::Daemon::start(fake::Script { hello, ..fake::Script::default() });
    let options = freemkvd_client::RipFile::options().socket(old.socket());
    let path = dir.path().join("film.mkv");
    let error = options.clone().publish(true).create(&path).unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::VERSION), "{error}");
    options.create(&path).unwrap().finish().unwrap();
}

#[test]
fn a_status_that_does_not_come_is_timed_out() {
    let daemon = fake::Daemon::healthy();
    daemon.set_answering(false);
    let timeout = Duration::from_millis(100);
    let mut control = Control::connect(Some(daemon.socket()), timeout).unwrap();
    let since = Instant::now();
    assert!(matches!(control.status(), Err(Error::TimedOut { .. })));
    assert!(since.elapsed() < Duration::from_secs(1));
    // Nobody knows which answer would come next.
    assert!(matches!(control.status(), Err(Error::Io { .. })));
    daemon.set_answering(true);
}

#[test]
fn nobody_there_is_no_daemon() {
    let socket = crate::nobody();
    let error = Control::connect(Some(&socket), Duration::from_secs(5)).unwrap_err();
    assert!(error.is_absent_daemon());
}
