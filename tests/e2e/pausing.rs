//! Streams that somebody pauses, and has go on.

use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use freemkvd_client::Options;
use freemkvd_client::control::Control;
use freemkvd_proto::status::{Status, Stream, StreamState};
use freemkvd_proto::waits::Cause;
use freemkvd_proto::{Command, Mark, OpenMode, Reply, Resume, Token, Transfer};
use freemkvd_tests::daemon::{Daemon, wait_until};
use freemkvd_tests::hold::Held;
use freemkvd_tests::pattern;
use freemkvd_tests::peer::Peer;

use crate::support::{MIB, Neighbour, Way, scratch, stuck, write_pattern};

const LEN: u64 = 100 * MIB;

fn control(daemon: &Daemon) -> Control {
    Control::connect(Some(daemon.socket()), Duration::from_secs(10)).unwrap()
}

/// A muxer that writes all of a file as fast as it can; what it is told at the end.
fn muxer(options: &Options, path: &Path) -> (u64, JoinHandle<std::io::Result<()>>) {
    let mut file = options.create(path).unwrap();
    let stream = file.stream_id().unwrap();
    let thread = thread::spawn(move || {
        write_pattern(&mut file, 1, 0, LEN)?;
        file.finish()?;
        Ok(())
    });
    (stream, thread)
}

fn find(status: &Status, stream: u64) -> Option<&Stream> {
    status.streams.iter().find(|other| other.id == stream)
}

/// Waits until it is paused and its muxer can't hand over more.
fn wait_for_stop(daemon: &Daemon, stream: u64) -> Stream {
    daemon.wait_for("a paused stream", |status| {
        find(status, stream).is_some_and(|stream| stream.state == StreamState::Paused)
    });
    let full = daemon.wait_for("a full queue", |status| {
        let stream = find(status, stream).unwrap();
        // That it waits is only said of what lasts.
        let is_told = stream.waiting_for.is_some();
        is_told && stream.queued_bytes > 0 && stream.in_bytes_per_second == 0
    });
    find(&full, stream).unwrap().clone()
}

fn is_paused_and_goes_on(way: Way) {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let path = root.path().join("film.mkv");
    let (stream, muxer) = muxer(&way.options(&daemon), &path);
    control(&daemon).pause(stream).unwrap();
    let before = wait_for_stop(&daemon, stream);
    assert!(!muxer.is_finished() && before.written_bytes < LEN, "{before:?}");
    assert_eq!(before.dirty_bytes, 0, "its part of the budget is for others");
    let waits = before.waiting_for.clone().unwrap();
    assert_eq!(waits.what, format!("freemkvctl resume {stream}"));
    // While it stands still others write.
    let neighbour = Neighbour::start(&daemon, root.path());
    neighbour.assert_unharmed();
    let after = find(&daemon.status(), stream).unwrap().clone();
    assert_eq!(after.written_bytes, before.written_bytes);
    let waits = control(&daemon).why(stream).unwrap();
    assert_eq!(waits.now, Cause::Paused);
    control(&daemon).resume(stream).unwrap();
    muxer.join().unwrap().unwrap();
    assert_eq!(pattern::prefix_len(1, &path).unwrap(), LEN);
    daemon.wait_for_log(&[&format!("stream {stream} is paused")]);
    daemon.wait_for_log(&[&format!("stream {stream} is to go on")]);
}

#[test]
fn a_paused_stream_stands_still_for_others_and_goes_on() {
    is_paused_and_goes_on(Way::Shared);
}

#[test]
fn a_paused_stream_stands_still_for_others_and_goes_on_inline_too() {
    is_paused_and_goes_on(Way::Inline);
}

#[test]
fn a_pause_outlives_the_daemon_however_that_ends() {
    let root = scratch();
    let mut daemon = Daemon::start(root.path(), "");
    let path = root.path().join("film.mkv");
    let (stream, muxer) = muxer(&daemon.options(), &path);
    control(&daemon).pause(stream).unwrap();
    let before = wait_for_stop(&daemon, stream);
    daemon.kill();
    daemon.start_again();
    let after = wait_for_stop(&daemon, stream);
    assert!(after.written_bytes <= before.accepted_bytes, "{before:?}, {after:?}");
    // A planned stop writes what it has, and does not wait for anybody to have it go on.
    daemon.signal(rustix::process::Signal::TERM);
    assert!(daemon.wait_for_end().success(), "{}", daemon.log());
    daemon.start_again();
    wait_for_stop(&daemon, stream);
    control(&daemon).resume(stream).unwrap();
    muxer.join().unwrap().unwrap();
    assert_eq!(pattern::prefix_len(1, &path).unwrap(), LEN);
    // And the next one knows that it goes on.
    assert!(daemon.status().streams.is_empty());
}

#[test]
fn what_was_handed_over_is_written_when_the_muxer_of_a_paused_stream_is_gone() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let path = root.path().join("film.mkv");
    let mut peer = Peer::greet(daemon.socket());
    let stream = peer.open(path.clone(), OpenMode::Create).stream;
    control(&daemon).pause(stream).unwrap();
    daemon.wait_for("a paused stream", |status| status.streams[0].state == StreamState::Paused);
    let mut piece = vec![0; 256 << 10];
    for number in 0..16 {
        pattern::fill(1, number * piece.len() as u64, &mut piece);
        peer.content(number + 1, &piece);
    }
    daemon.wait_for("all of it", |status| status.streams[0].accepted_bytes == 4 * MIB);
    assert_eq!(path.metadata().unwrap().len(), 0);
    drop(peer);
    daemon.wait_for_log(&["the muxer of stream", "is gone"]);
    daemon.wait_for("no open file", |status| status.devices.is_empty());
    assert_eq!(pattern::prefix_len(1, &path).unwrap(), 4 * MIB);
}

#[test]
fn a_paused_stream_is_given_up_at_once() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let (stream, muxer) = muxer(&daemon.options(), &root.path().join("film.mkv"));
    control(&daemon).pause(stream).unwrap();
    wait_for_stop(&daemon, stream);
    control(&daemon).abort(stream).unwrap();
    let error = muxer.join().unwrap().unwrap_err();
    assert!(error.to_string().contains("was given up from outside"), "{error}");
    daemon.wait_for("no stream", |status| status.streams.is_empty());
}

#[test]
fn a_pause_is_shown_and_taken_back_before_the_thread_has_come_to_it() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let (file, stream, held) = stuck(&daemon, &root.path().join("film.mkv"));
    let shown =
        || find(&daemon.status(), stream).map(|stream| (stream.paused, stream.state)).unwrap();
    let before = shown().1;
    assert_eq!(shown(), (Some(false), before));
    control(&daemon).pause(stream).unwrap();
    assert_eq!(shown(), (Some(true), before), "its thread does not stand still yet");
    control(&daemon).resume(stream).unwrap();
    assert_eq!(shown(), (Some(false), before));
    drop(held);
    daemon.wait_for("a thread at rest", |status| {
        find(status, stream).is_some_and(|stream| stream.state == StreamState::Idle)
    });
    // Somebody has it go on, and somebody else pauses it again, before the thread has woken up.
    control(&daemon).pause(stream).unwrap();
    daemon.wait_for("a paused stream", |status| {
        find(status, stream).is_some_and(|stream| stream.state == StreamState::Paused)
    });
    let held = Held::writer(&daemon, stream);
    control(&daemon).resume(stream).unwrap();
    assert_eq!(shown(), (Some(false), StreamState::Idle));
    control(&daemon).pause(stream).unwrap();
    assert_eq!(shown(), (Some(true), StreamState::Paused));
    drop(held);
    assert_eq!(shown(), (Some(true), StreamState::Paused));
    control(&daemon).resume(stream).unwrap();
    file.finish().unwrap();
}

#[test]
fn a_paused_stream_that_waits_for_its_muxer_after_a_restart_is_shown_to_do_that_first() {
    let root = scratch();
    let mut daemon = Daemon::start(root.path(), "");
    let path = root.path().join("film.mkv");
    let mut peer = Peer::greet(daemon.socket());
    let token = Token([7; 16]);
    let stream = peer.open_resumable(&path, OpenMode::Create, token).stream;
    control(&daemon).pause(stream).unwrap();
    daemon.kill();
    daemon.start_again();
    let shown = |daemon: &Daemon| {
        let status = daemon.status();
        let stream = find(&status, stream).unwrap();
        (stream.state, stream.paused)
    };
    // Its thread has come to rest, and stands still.
    daemon.wait_for_log(&[&format!("stream {stream} goes on")]);
    drop(Held::writer(&daemon, stream));
    assert_eq!(shown(&daemon), (StreamState::Suspended, Some(true)));
    let again = |daemon: &Daemon| {
        let mut peer = Peer::greet(daemon.socket());
        let (written, durable) = (Mark::default(), Mark::default());
        peer.resume(Resume { token, written, durable, position: 0, transfer: Transfer::Inline });
        peer
    };
    // One that goes away before it has said anything may come again, and meanwhile somebody has it go on.
    drop(again(&daemon));
    daemon.wait_for("a stream that waits for its muxer", |status| {
        find(status, stream).is_some_and(|stream| stream.state == StreamState::Suspended)
    });
    control(&daemon).resume(stream).unwrap();
    drop(Held::writer(&daemon, stream));
    assert_eq!(shown(&daemon), (StreamState::Suspended, Some(false)));
    control(&daemon).pause(stream).unwrap();
    let mut peer = again(&daemon);
    assert_eq!(shown(&daemon), (StreamState::Paused, Some(true)));
    control(&daemon).resume(stream).unwrap();
    assert_eq!(shown(&daemon), (StreamState::Idle, Some(false)));
    peer.content(1, b"film");
    peer.command(2, &Command::Finish);
    peer.until(|_, reply| matches!(reply, Reply::Finished(_)).then_some(()));
}

#[test]
fn a_muxer_that_waits_for_a_sync_of_a_paused_stream_is_held_up_by_the_pause() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let mut peer = Peer::greet(daemon.socket());
    let stream = peer.open(root.path().join("film.mkv"), OpenMode::Create).stream;
    control(&daemon).pause(stream).unwrap();
    daemon.wait_for("a paused stream", |status| status.streams[0].state == StreamState::Paused);
    let held_ns = || {
        let waits = control(&daemon).why(stream).unwrap();
        let paused = waits.parts.iter().find(|part| part.cause == Cause::Paused);
        paused.map_or(0, |paused| paused.held_ns)
    };
    peer.content(1, b"film");
    daemon.wait_for("the content", |status| status.streams[0].accepted_bytes == 4);
    assert_eq!(held_ns(), 0, "it could go on");
    // It asks for a sync and goes on: that was no wait.
    peer.command(2, &Command::Sync);
    assert!(wait_until(|| held_ns() > 50_000_000));
    peer.content(3, b"film");
    daemon.wait_for("the content", |status| status.streams[0].accepted_bytes == 8);
    assert_eq!(held_ns(), 0);
    peer.command(4, &Command::Sync);
    assert!(wait_until(|| held_ns() > 50_000_000));
    control(&daemon).resume(stream).unwrap();
    peer.until(|_, reply| matches!(reply, Reply::Synced).then_some(()));
    peer.until(|_, reply| matches!(reply, Reply::Synced).then_some(()));
    // And from here on it is not.
    let after = held_ns();
    assert!(after > 50_000_000, "it has waited: {after}");
    control(&daemon).pause(stream).unwrap();
    daemon.wait_for("a paused stream", |status| status.streams[0].state == StreamState::Paused);
    assert_eq!(held_ns(), after);
}
