//! A daemon that was killed or stopped, and the streams that go on with the next one, as the wire has it.

use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use freemkvd_client::Error;
use freemkvd_proto::hello::{ClientHello, DaemonHello, VERSION_HIGHEST};
use freemkvd_proto::status::StreamState;
use freemkvd_proto::{
    AbortStream, Command, ErrorCode, Kind, Mark, OpenMode, OpenResumable, Opened, Reply, Resume,
    Seek, Token, Transfer,
};
use freemkvd_tests::daemon::{Daemon, wait_until};
use freemkvd_tests::hold::Held;
use freemkvd_tests::pattern;
use freemkvd_tests::peer::{Peer, opening};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal, pidfd_getfd, pidfd_open};
use tempfile::TempDir;

use crate::support::{MIB, Way, inside, scratch, write_pattern};

const TOKEN: Token = Token(*b"a streams secret");

/// A stream that can be resumed by `TOKEN`, as its muxer and its daemon have it.
struct Begun {
    root: TempDir,
    path: PathBuf,
    daemon: Daemon,
    peer: Peer,
    opened: Opened,
}

fn begun(config: &str) -> Begun {
    let root = scratch();
    let path = root.path().join("film");
    let daemon = Daemon::start(root.path(), config);
    let mut peer = Peer::greet(daemon.socket());
    let opened = peer.open_resumable(&path, OpenMode::CreateNew, TOKEN);
    Begun { root, path, daemon, peer, opened }
}

fn from(token: Token, written: Mark, position: u64) -> Resume {
    Resume { token, written, durable: Mark::default(), position, transfer: Transfer::Inline }
}

fn mark(sequence: u64, bytes: u64) -> Mark {
    Mark { sequence, bytes }
}

/// Waits until everything up to `sequence` is written.
fn wait_written(peer: &mut Peer, sequence: u64) -> Mark {
    peer.until(|_, reply| match reply {
        Reply::Progress(progress) if progress.written.sequence >= sequence => {
            Some(progress.written)
        }
        _ => None,
    })
}

#[test]
fn a_stream_goes_on_where_its_client_knows_it_to_be_written() {
    let Begun { root: _root, path, mut daemon, mut peer, opened } = begun("");
    peer.content(1, b"hello, ");
    peer.command(2, &Command::Flush);
    assert_eq!(wait_written(&mut peer, 2), mark(2, 7));
    // It may be written or not: the client has not heard.
    peer.content(3, b"big world");
    daemon.kill();
    daemon.start_again();
    let suspended = daemon.status();
    assert_eq!(suspended.streams.len(), 1);
    assert_eq!(suspended.streams[0].state, StreamState::Suspended);
    assert_eq!(suspended.streams[0].id, opened.stream);

    let mut again = Peer::greet(daemon.socket());
    let resumed = again.resume(from(TOKEN, mark(2, 7), 7));
    assert_eq!((resumed.stream, resumed.watched), (opened.stream, false));
    again.content(3, b"big world");
    again.command(4, &Command::Seek(Seek { offset: 7 }));
    again.content(5, b"new");
    again.command(6, &Command::Finish);
    let finished = again.until(|_, reply| match reply {
        Reply::Finished(finished) => Some(*finished),
        _ => None,
    });
    assert_eq!((finished.len_bytes, finished.progress.durable), (16, mark(6, 19)));
    assert_eq!(fs::read(&path).unwrap(), b"hello, new world");
    // It has ended: nobody can go on with it, and nothing is kept.
    drop(again);
    let kept = daemon.socket().with_file_name("s.streams");
    assert!(wait_until(|| fs::read_dir(&kept).unwrap().count() == 0));
}

#[test]
fn what_was_finished_or_had_failed_is_answered_by_the_next_daemon() {
    let Begun { root: _root, mut daemon, mut peer, .. } = begun("");
    peer.content(1, b"all");
    peer.command(2, &Command::Finish);
    // It has not heard of it, and stays connected.
    daemon.wait_for_log(&["finished", "film"]);
    assert!(wait_until(|| daemon.status().streams.is_empty()));
    daemon.kill();
    daemon.start_again();
    let mut again = Peer::greet(daemon.socket());
    again.command(0, &Command::Resume(from(TOKEN, mark(0, 0), 0)));
    let Some((_, Reply::Finished(finished))) = again.reply() else { panic!("not finished") };
    assert_eq!((finished.len_bytes, finished.progress.durable.bytes), (3, 3));
}

#[test]
fn a_planned_stop_writes_what_is_queued_and_tells_how_far_it_came() {
    let Begun { root: _root, path, mut daemon, mut peer, .. } = begun("");
    let content = vec![7; 3 << 20];
    peer.content(1, &content);
    daemon.wait_for("the content", |status| status.streams[0].accepted_bytes == 3 << 20);
    daemon.signal(Signal::TERM);
    let mut going_away = false;
    let mut written = Mark::default();
    while let Some((_, reply)) = peer.reply() {
        match reply {
            Reply::GoingAway(_) => going_away = true,
            Reply::Progress(progress) => written = progress.written,
            other => panic!("{other:?}"),
        }
    }
    assert!(going_away);
    assert_eq!(written, mark(1, 3 << 20));
    assert!(wait_until(|| daemon.ended().is_some()));
    assert!(daemon.ended().unwrap().success());
    daemon.start_again();
    let mut again = Peer::greet(daemon.socket());
    again.resume(from(TOKEN, written, 3 << 20));
    again.content(2, b"end");
    again.command(3, &Command::Sync);
    again.until(|sequence, reply| (sequence == 3 && *reply == Reply::Synced).then_some(()));
    let found = fs::read(&path).unwrap();
    assert!(found[..3 << 20] == content && found[3 << 20..] == *b"end");
}

#[test]
fn a_token_that_nobody_has_and_one_of_a_stream_with_a_connection_are_refused() {
    let Begun { root: _root, mut daemon, peer: _peer, .. } = begun("");
    let refused = |token, code| {
        let mut other = Peer::greet(daemon.socket());
        other.command(0, &Command::Resume(from(token, mark(0, 0), 0)));
        assert_eq!(other.failure().code, code);
    };
    refused(Token([0; 16]), ErrorCode::NO_SUCH_TOKEN);
    refused(TOKEN, ErrorCode::ATTACHED);
    daemon.kill();
    daemon.start_again();
    let mut first = Peer::greet(daemon.socket());
    first.resume(from(TOKEN, mark(0, 0), 0));
    let mut second = Peer::greet(daemon.socket());
    second.command(0, &Command::Resume(from(TOKEN, mark(0, 0), 0)));
    assert_eq!(second.failure().code, ErrorCode::ATTACHED);
}

#[test]
fn an_open_that_was_not_answered_is_asked_again_and_opens_once() {
    let Begun { root: _root, path, mut daemon, peer: _peer, opened } = begun("");
    let mut other = Peer::greet(daemon.socket());
    let open = opening(&path, OpenMode::CreateNew, Transfer::Inline);
    let again = Command::OpenResumable(OpenResumable { token: TOKEN, open });
    other.command(0, &again);
    assert_eq!(other.failure().code, ErrorCode::ATTACHED);
    daemon.kill();
    daemon.start_again();
    // As if it had not heard.
    let mut peer = Peer::greet(daemon.socket());
    let again = peer.open_resumable(&path, OpenMode::CreateNew, TOKEN);
    assert_eq!((again.stream, again.len_bytes), (opened.stream, 0));
    peer.content(1, b"film");
    peer.command(2, &Command::Finish);
    peer.until(|_, reply| matches!(reply, Reply::Finished(_)).then_some(()));
    assert_eq!(fs::read(&path).unwrap(), b"film");
}

#[test]
fn a_client_that_did_not_hear_that_it_was_let_in_may_come_again() {
    let Begun { root: _root, path, mut daemon, peer: _peer, .. } = begun("");
    daemon.kill();
    daemon.start_again();
    for _ in 0..3 {
        let mut again = Peer::greet(daemon.socket());
        again.resume(from(TOKEN, mark(0, 0), 0));
        drop(again);
        daemon.wait_for("a stream that waits", |status| {
            status.streams[0].state == StreamState::Suspended
        });
    }
    let mut again = Peer::greet(daemon.socket());
    again.resume(from(TOKEN, mark(0, 0), 0));
    again.content(1, b"film");
    again.command(2, &Command::Finish);
    again.until(|_, reply| matches!(reply, Reply::Finished(_)).then_some(()));
    assert_eq!(fs::read(&path).unwrap(), b"film");
}

#[test]
fn the_number_of_a_stream_that_had_ended_is_not_given_again() {
    let root = scratch();
    let mut daemon = Daemon::start(root.path(), "[daemon]\nresume_grace = \"2s\"\n");
    let mut first = Peer::greet(daemon.socket());
    let before = first.open_resumable(root.path().join("first"), OpenMode::CreateNew, TOKEN);
    first.command(1, &Command::Finish);
    daemon.wait_for_log(&["finished", "first"]);
    daemon.kill();
    daemon.start_again();
    let mut second = Peer::greet(daemon.socket());
    let token = Token([2; 16]);
    let opened = second.open_resumable(root.path().join("second"), OpenMode::CreateNew, token);
    assert!(opened.stream > before.stream, "{opened:?}");
    // What was kept of the first is forgotten after a while, and nothing else: the second has its file,
    // and another for the next change.
    let kept = daemon.socket().with_file_name("s.streams");
    let names = || {
        let entries = fs::read_dir(&kept).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
        names.sort_unstable();
        names
    };
    assert!(wait_until(|| names().len() == 2));
    let own = opened.stream.to_string();
    assert_eq!(names(), [own.clone(), own + ".new"]);
}

#[test]
fn nonsense_in_a_resume_is_refused_and_the_stream_still_waits() {
    let Begun { root: _root, mut daemon, peer: _peer, .. } = begun("");
    daemon.kill();
    daemon.start_again();
    let good = from(TOKEN, mark(0, 0), 0);
    for (bad, code) in [
        (Resume { position: u64::MAX, ..good }, ErrorCode::OFFSET_RANGE),
        (Resume { durable: mark(1, 0), ..good }, ErrorCode::OUT_OF_SEQUENCE),
        (Resume { written: mark(0, u64::MAX), ..good }, ErrorCode::OFFSET_RANGE),
        (Resume { transfer: Transfer::Shared { slots: 1 }, ..good }, ErrorCode::BAD_SLOTS),
    ] {
        let mut other = Peer::greet(daemon.socket());
        other.command(0, &Command::Resume(bad));
        assert_eq!(other.failure().code, code, "{bad:?}");
    }
    Peer::greet(daemon.socket()).resume(good);
}

#[test]
fn a_stream_that_nobody_comes_back_for_is_closed_and_reported() {
    let Begun { root: _root, path, mut daemon, mut peer, opened: _ } =
        begun("[daemon]\nresume_grace = \"1s\"\n");
    peer.content(1, b"half");
    peer.command(2, &Command::Flush);
    wait_written(&mut peer, 2);
    daemon.kill();
    daemon.start_again();
    daemon.wait_for("its end", |status| {
        status.streams[0].state == StreamState::Abandoned && status.devices.is_empty()
    });
    daemon.wait_for_log(&["has not come back", "film"]);
    let mut late = Peer::greet(daemon.socket());
    late.command(0, &Command::Resume(from(TOKEN, mark(2, 4), 4)));
    assert_eq!(late.failure().code, ErrorCode::NO_SUCH_TOKEN);
    // Its file is free again.
    let _ = Peer::greet(daemon.socket()).open(&path, OpenMode::Existing);
    assert_eq!(fs::read(&path).unwrap(), b"half");
}

#[test]
fn until_it_is_resumed_or_given_up_nobody_else_writes_its_file() {
    let Begun { root: _root, path, mut daemon, peer: _peer, .. } = begun("");
    daemon.kill();
    daemon.start_again();
    let mut other = Peer::greet(daemon.socket());
    other.ask_to_open(&path, OpenMode::Create);
    assert_eq!(other.failure().code, ErrorCode::IN_USE);
}

#[test]
fn a_file_that_was_removed_or_replaced_meanwhile_is_never_written() {
    for (what, is_replaced) in [("was removed", false), ("was replaced by another file", true)] {
        let Begun { root: _root, path, mut daemon, peer: _peer, .. } = begun("");
        daemon.kill();
        fs::remove_file(&path).unwrap();
        if is_replaced {
            // It gets the number of the one that was removed, on most file systems.
            fs::write(&path, b"another").unwrap();
        }
        daemon.start_again();
        // Also whoever looks in the morning sees it.
        daemon.wait_for("its failure", |status| status.is_degraded());
        daemon.wait_for_log(&["ERROR", "can't go on", what]);
        let mut again = Peer::greet(daemon.socket());
        again.command(0, &Command::Resume(from(TOKEN, mark(0, 0), 0)));
        again.content(1, b"ours");
        let failure = again.failure();
        assert_eq!(failure.code, ErrorCode::FILE_CHANGED);
        assert!(failure.message.contains(what), "{}", failure.message);
        assert_eq!(fs::read(&path).ok(), is_replaced.then(|| b"another".to_vec()));
    }
}

#[test]
fn without_what_was_kept_the_client_hears_that_it_can_not_go_on() {
    let Begun { root: _root, mut daemon, peer: _peer, .. } = begun("");
    daemon.kill();
    fs::remove_dir_all(daemon.socket().with_file_name("s.streams")).unwrap();
    daemon.start_again();
    let mut again = Peer::greet(daemon.socket());
    again.command(0, &Command::Resume(from(TOKEN, mark(0, 0), 0)));
    assert_eq!(again.failure().code, ErrorCode::NO_SUCH_TOKEN);
}

#[test]
fn a_client_of_version_2_is_served_as_ever_and_one_of_a_later_version_as_one_of_this() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let mut old = Peer::connect(daemon.socket());
    let hello = old.hello(&ClientHello { lowest: 1, highest: 2 }.encode());
    assert_eq!(hello, Some(DaemonHello::Accepted { version: 2 }));
    old.ask_to_open(root.path().join("film"), OpenMode::CreateNew);
    assert!(matches!(old.reply(), Some((0, Reply::Opened(_)))), "and nothing before it");
    old.content(1, b"x");
    old.command(2, &Command::Finish);
    old.until(|_, reply| matches!(reply, Reply::Finished(_)).then_some(()));

    let mut old = Peer::connect(daemon.socket());
    old.hello(&ClientHello { lowest: 2, highest: 2 }.encode());
    old.command(0, &Command::Drain);
    assert_eq!(old.failure().code, ErrorCode::UNKNOWN_KIND);
    let mut old = Peer::connect(daemon.socket());
    old.hello(&ClientHello { lowest: 3, highest: 3 }.encode());
    old.command(0, &Command::AbortStream(AbortStream { stream: 1 }));
    assert_eq!(old.failure().code, ErrorCode::UNKNOWN_KIND);

    let mut new = Peer::connect(daemon.socket());
    let (known, beyond) = (VERSION_HIGHEST, VERSION_HIGHEST + 3);
    let hello = new.hello(&ClientHello { lowest: 2, highest: beyond }.encode());
    assert_eq!(hello, Some(DaemonHello::Accepted { version: known }));
    let mut too_new = Peer::connect(daemon.socket());
    let hello = too_new.hello(&ClientHello { lowest: known + 1, highest: beyond }.encode());
    let told =
        matches!(hello, Some(DaemonHello::Refused { lowest: 2, highest, .. }) if highest == known);
    assert!(told, "{hello:?}");

    // Each hears of the daemon in words that it knows.
    for (version, kind) in
        [(2, Kind::StatusReport), (5, Kind::StatusReport), (known, Kind::FullReport)]
    {
        let mut peer = Peer::connect(daemon.socket());
        peer.hello(&ClientHello { lowest: 2, highest: version }.encode());
        peer.command(1, &Command::Status);
        let (_, reply) = peer.reply().unwrap();
        assert_eq!(reply.kind(), kind, "version {version}");
    }
}

#[test]
fn asked_to_drain_it_answers_writes_what_is_queued_and_stops() {
    let Begun { root: _root, path, mut daemon, mut peer, .. } = begun("");
    peer.content(1, b"queued");
    daemon.wait_for("the content", |status| status.streams[0].accepted_bytes == 6);
    let mut other = Peer::greet(daemon.socket());
    other.command(5, &Command::Drain);
    assert_eq!(other.reply(), Some((5, Reply::Done)));
    assert!(wait_until(|| daemon.ended().is_some()));
    assert!(daemon.ended().unwrap().success());
    assert_eq!(fs::read(&path).unwrap(), b"queued");
}

#[test]
fn with_no_grace_streams_end_with_the_daemon() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "[daemon]\nresume_grace = \"0s\"\n");
    let mut peer = Peer::greet(daemon.socket());
    let open = opening(root.path().join("film"), OpenMode::CreateNew, Transfer::Inline);
    peer.command(0, &Command::OpenResumable(OpenResumable { token: TOKEN, open }));
    assert!(matches!(peer.reply(), Some((0, Reply::Opened(_)))), "and not that it is resumable");
    assert!(!daemon.socket().with_file_name("s.streams").exists());
}

/// What is left of a daemon that was killed while a thread of it hangs in the kernel: its sockets stay open.
fn keep_sockets_open(daemon: &Daemon) -> Vec<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(daemon.pid()).unwrap()).unwrap();
    let process = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    let descriptors = fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap();
    let sockets = descriptors.filter_map(|descriptor| {
        let path = descriptor.ok()?.path();
        let is_socket = fs::read_link(&path).ok()?.to_str()?.starts_with("socket:");
        let number = path.file_name()?.to_str()?.parse().ok()?;
        is_socket.then(|| pidfd_getfd(&process, number, PidfdGetfdFlags::empty()).unwrap())
    });
    sockets.collect()
}

#[test]
fn a_connection_that_outlives_its_daemon_is_found_out_and_left() {
    for way in [Way::Shared, Way::Inline] {
        let root = scratch();
        let path = root.path().join("film");
        let mut daemon = Daemon::start(root.path(), "");
        let mut file = way.options(&daemon).create(&path).unwrap();
        write_pattern(&mut file, 1, 0, 30 * MIB).unwrap();
        file.flush().unwrap();
        let sockets = keep_sockets_open(&daemon);
        daemon.kill();
        fs::remove_file(daemon.socket()).unwrap();
        daemon.start_again();
        write_pattern(&mut file, 1, 30 * MIB, 100 * MIB).unwrap();
        let finished = file.finish().unwrap();
        assert_eq!((finished.len_bytes, finished.progress.resumes), (130 * MIB, 1));
        assert_eq!(pattern::prefix_len(1, &path).unwrap(), 130 * MIB);
        drop(sockets);
    }
}

#[test]
fn a_daemon_that_is_merely_slow_is_asked_and_kept() {
    let root = scratch();
    let path = root.path().join("film");
    let daemon = Daemon::start(root.path(), "");
    let mut file = daemon.options().create(&path).unwrap();
    let held = Held::writer(&daemon, file.stream_id().unwrap());
    write_pattern(&mut file, 1, 0, 30 * MIB).unwrap();
    let late = file.sync_all_timeout(Duration::from_secs(4)).unwrap_err();
    assert!(matches!(inside(&late), Error::TimedOut { .. }), "{late}");
    drop(held);
    file.sync_all().unwrap();
    assert_eq!(file.progress().resumes, 0);
    file.finish().unwrap();
    assert_eq!(pattern::prefix_len(1, &path).unwrap(), 30 * MIB);
}

#[test]
fn a_stream_that_goes_on_is_counted_as_one_that_has_begun() {
    let root = scratch();
    let mut daemon = Daemon::start(root.path(), "");
    let mut file =
        daemon.options().daemon_window_bytes(0).create(root.path().join("film")).unwrap();
    write_pattern(&mut file, 1, 0, 24 * MIB).unwrap();
    file.flush().unwrap();
    let is_counted = |daemon: &Daemon| {
        daemon.wait_for("what the kernel counts", |status| {
            status.streams.iter().any(|stream| stream.kernel_dirty_bytes.is_some())
        });
    };
    is_counted(&daemon);
    daemon.kill();
    daemon.start_again();
    write_pattern(&mut file, 1, 24 * MIB, 8 * MIB).unwrap();
    file.flush().unwrap();
    is_counted(&daemon);
    file.finish().unwrap();
}

#[test]
fn what_was_handed_over_before_a_restart_is_no_traffic_after_it() {
    let Begun { root: _root, mut daemon, peer: _peer, .. } = begun("");
    daemon.kill();
    daemon.start_again();
    daemon.wait_for("rates", |status| status.uptime_seconds >= 2);
    let mut again = Peer::greet(daemon.socket());
    again.resume(from(TOKEN, mark(1, 1 << 40), 1 << 40));
    daemon.wait_for("new rates", |status| {
        let stream = &status.streams[0];
        assert_eq!(stream.in_bytes_per_second, 0, "{stream:?}");
        stream.accepted_bytes == 1 << 40 && stream.state_seconds >= 2
    });
}
