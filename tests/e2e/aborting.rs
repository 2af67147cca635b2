//! Streams that are given up by somebody else than their muxers.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use freemkvd_client::control::Control;
use freemkvd_client::{Error, Leftover};
use freemkvd_proto::ErrorCode;
use freemkvd_proto::status::StreamState;
use freemkvd_tests::daemon::{Daemon, wait_until};
use freemkvd_tests::hold::Held;
use freemkvd_tests::programs;

use crate::support::{MIB, Neighbour, inside, scratch, stuck, write_pattern};

fn abort(daemon: &Daemon, stream: u64) -> Result<(), Error> {
    Control::connect(Some(daemon.socket()), Duration::from_secs(10)).unwrap().abort(stream)
}

#[test]
fn a_stream_that_is_aborted_tells_its_muxer_and_leaves_its_file_as_was_chosen() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let neighbour = Neighbour::start(&daemon, root.path());
    for (leftover, exists) in [(Leftover::Keep, true), (Leftover::Remove, false)] {
        let path = root.path().join("film.mkv");
        let mut file = daemon.options().leftover(leftover).create(&path).unwrap();
        write_pattern(&mut file, 1, 0, 30 * MIB).unwrap();
        file.flush().unwrap();
        let stream = file.stream_id().unwrap();
        abort(&daemon, stream).unwrap();
        // Whatever the muxer does next.
        let failed = wait_until(|| file.write_all(b"more").is_err());
        let error = file.sync_all().unwrap_err();
        assert!(failed);
        assert_eq!(inside(&error).code(), Some(ErrorCode::ABORTED), "{error}");
        let by = format!("freemkvctl abort {stream}");
        assert!(error.to_string().contains(&by), "{error}");
        daemon.wait_for("the stream gone", |status| {
            status.streams.iter().all(|other| other.id != stream)
        });
        assert_eq!(path.exists(), exists);
        // Its file is free.
        daemon.options().create(&path).unwrap().finish().unwrap();
        let again = abort(&daemon, stream).unwrap_err();
        assert_eq!(again.code(), Some(ErrorCode::NO_SUCH_STREAM));
    }
    neighbour.assert_unharmed();
}

#[test]
fn whoever_gives_a_stream_up_its_log_and_its_muxer_hear_whose_doing_it_was() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    // Their threads wait for something to write, and wake the moment they are aborted.
    for number in 0..40 {
        let path = root.path().join(format!("{number}.mkv"));
        let mut file = daemon.options().create(&path).unwrap();
        let stream = file.stream_id().unwrap();
        abort(&daemon, stream).unwrap();
        let error = file.sync_all().unwrap_err();
        assert_eq!(inside(&error).code(), Some(ErrorCode::ABORTED), "{number}: {error}");
        daemon.wait_for_log(&[&format!("stream {stream} aborted from outside: ")]);
    }
}

#[test]
fn a_stream_whose_thread_hangs_is_aborted_at_once_and_ends_when_it_can() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let path = root.path().join("stuck.mkv");
    let (mut file, stream, held) = stuck(&daemon, &path);
    write_pattern(&mut file, 1, 0, 20 * MIB).unwrap();
    let since = Instant::now();
    abort(&daemon, stream).unwrap();
    let error = file.finish().unwrap_err();
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    assert_eq!(inside(&error).code(), Some(ErrorCode::ABORTED), "{error}");
    let seen = daemon.wait_for("an aborted stream", |status| {
        status.streams.iter().any(|stream| stream.state == StreamState::Aborted)
    });
    assert_eq!((seen.streams[0].queued_bytes, seen.budget.queued_bytes), (0, 0));
    // While its thread is there, nobody else may write the file.
    let refused = daemon.options().create(&path).unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::IN_USE), "{refused}");
    drop(held);
    daemon.wait_for("no stream", |status| status.streams.is_empty());
    daemon.options().create(&path).unwrap().finish().unwrap();
}

#[test]
fn a_command_whose_input_has_dried_up_hears_that_its_stream_was_aborted() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let mut command = Command::new(programs::freemkvctl());
    command.arg("--socket").arg(daemon.socket()).arg("write").arg(root.path().join("film.mkv"));
    command.stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It stays open, as that of a drive that hangs.
    let mut input = child.stdin.take().unwrap();
    input.write_all(&[7; 1 << 20]).unwrap();
    let seen = daemon.wait_for("its stream", |status| !status.streams.is_empty());
    abort(&daemon, seen.streams[0].id).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("was given up from outside"), "{said}");
    drop(input);
}

#[test]
fn an_abandoned_stream_is_aborted_and_not_written_any_more() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let options = daemon.options().drop_wait(Duration::from_millis(50));
    let path = root.path().join("stuck.mkv");
    let mut file = options.leftover(Leftover::Remove).create(&path).unwrap();
    let stream = file.stream_id().unwrap();
    let held = Held::writer(&daemon, stream);
    write_pattern(&mut file, 1, 0, 20 * MIB).unwrap();
    drop(file);
    abort(&daemon, stream).unwrap();
    drop(held);
    daemon.wait_for("no stream", |status| status.streams.is_empty());
    assert!(!path.exists());
}

#[test]
fn an_abort_outlives_the_daemon_whose_thread_hangs() {
    let root = scratch();
    let mut daemon = Daemon::start(root.path(), "");
    let path = root.path().join("stuck.mkv");
    let options = daemon.options().window_bytes(MIB).leftover(Leftover::Remove);
    let mut file = options.create(&path).unwrap();
    let stream = file.stream_id().unwrap();
    write_pattern(&mut file, 1, 0, 4 * MIB).unwrap();
    file.flush().unwrap();
    let held = Held::writer(&daemon, stream);
    write_pattern(&mut file, 1, 4 * MIB, 20 * MIB).unwrap();
    abort(&daemon, stream).unwrap();
    assert!(path.exists(), "its thread hangs");
    daemon.signal(rustix::process::Signal::KILL);
    held.wait_for_end();
    daemon.wait_for_end();
    daemon.start_again();
    assert!(wait_until(|| !path.exists()), "{}", daemon.log());
    assert!(!daemon.log().contains("was resumed by its muxer"), "{}", daemon.log());
    daemon.options().create(&path).unwrap().finish().unwrap();
}
