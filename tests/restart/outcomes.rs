//! What a muxer is told when the daemon comes back and something else has changed meanwhile. None of it
//! writes a byte into the wrong file.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use freemkvd_client::Error;
use freemkvd_proto::ErrorCode;
use freemkvd_proto::status::StreamState;
use freemkvd_tests::daemon::Daemon;
use freemkvd_tests::{pattern, programs};

use crate::support::scratch;

const MIB: u64 = 1 << 20;
const SEED: u64 = 5;

/// Writes half of a film, has the daemon killed, lets something happen, starts another daemon, and writes the
/// other half. What the muxer is told, in the end.
fn rip_while(root: &Path, daemon: &mut Daemon, meanwhile: impl FnOnce(&Path)) -> io::Result<()> {
    let path = root.join("film.mkv");
    let mut file = daemon.options().window_bytes(MIB).create(&path).unwrap();
    pattern::write(&mut file, SEED, 0, 8 * MIB).unwrap();
    daemon.wait_for("some of it", |status| {
        status.streams.first().is_some_and(|stream| stream.written_bytes >= 4 * MIB)
    });
    daemon.kill();
    meanwhile(&path);
    daemon.start_again();
    pattern::write(&mut file, SEED, 8 * MIB, 8 * MIB)?;
    file.finish()?;
    Ok(())
}

/// The rip ended with an error of this code, at once, and nothing of the stream is left.
fn assert_told(outcome: io::Result<()>, code: ErrorCode, since: Instant, daemon: &Daemon) {
    let error = outcome.unwrap_err();
    let Some(Error::Failed { failure, .. }) = Error::inside(&error) else {
        panic!("{error:?}");
    };
    assert_eq!(failure.code, code, "{error}");
    assert!(error.to_string().contains("film.mkv"), "{error}");
    assert!(since.elapsed() < Duration::from_secs(20), "it took {:?} to be told", since.elapsed());
    let live = |status: &freemkvd_proto::status::Status| {
        let ended = [StreamState::Failed, StreamState::Abandoned];
        status.streams.iter().filter(|stream| !ended.contains(&stream.state)).count()
    };
    daemon.wait_for("no stream", |status| live(status) == 0);
}

#[test]
fn without_what_was_kept_of_it_the_muxer_hears_at_once_that_its_stream_is_gone() {
    let root = scratch();
    let mut daemon = Daemon::start(root.path(), "");
    let records = daemon.socket().with_file_name("s.streams");
    let since = Instant::now();
    let outcome = rip_while(root.path(), &mut daemon, |_| fs::remove_dir_all(records).unwrap());
    assert_told(outcome, ErrorCode::NO_SUCH_TOKEN, since, &daemon);
    let len = pattern::prefix_len(SEED, &root.path().join("film.mkv")).unwrap();
    assert!((4 * MIB..=8 * MIB).contains(&len), "{len}");
}

#[test]
fn a_file_that_was_renamed_meanwhile_stays_as_it_was() {
    let root = scratch();
    let mut daemon = Daemon::start(root.path(), "");
    let since = Instant::now();
    let elsewhere = root.path().join("renamed.mkv");
    let outcome = rip_while(root.path(), &mut daemon, |film| fs::rename(film, &elsewhere).unwrap());
    assert_told(outcome, ErrorCode::FILE_CHANGED, since, &daemon);
    let len = pattern::prefix_len(SEED, &elsewhere).unwrap();
    assert!((4 * MIB..=8 * MIB).contains(&len), "{len}");
    assert!(!root.path().join("film.mkv").exists(), "nobody asked for a new one");
}

#[test]
fn a_file_that_was_deleted_meanwhile_is_not_made_again() {
    let root = scratch();
    let mut daemon = Daemon::start(root.path(), "");
    let since = Instant::now();
    let outcome = rip_while(root.path(), &mut daemon, |film| fs::remove_file(film).unwrap());
    assert_told(outcome, ErrorCode::FILE_CHANGED, since, &daemon);
    assert!(!root.path().join("film.mkv").exists());
}

#[test]
fn another_file_under_the_same_name_gets_no_byte() {
    // Removed and made again, it may even have the number of the first one; renamed over it, it has not.
    for is_renamed in [false, true] {
        let root = scratch();
        let mut daemon = Daemon::start(root.path(), "");
        let since = Instant::now();
        let mut inode = 0;
        let outcome = rip_while(root.path(), &mut daemon, |film| {
            let other = root.path().join("other");
            if is_renamed {
                fs::write(&other, b"precious").unwrap();
                fs::rename(&other, film).unwrap();
            } else {
                fs::remove_file(film).unwrap();
                fs::write(film, b"precious").unwrap();
            }
            inode = fs::metadata(film).unwrap().ino();
        });
        assert_told(outcome, ErrorCode::FILE_CHANGED, since, &daemon);
        let film = root.path().join("film.mkv");
        assert_eq!(fs::read(&film).unwrap(), b"precious");
        assert_eq!(fs::metadata(&film).unwrap().ino(), inode);
    }
}

#[test]
fn a_link_out_of_the_roots_in_its_place_is_not_followed() {
    let (root, outside) = (scratch(), scratch());
    let target = outside.path().join("target");
    fs::write(&target, b"precious").unwrap();
    let mut daemon = Daemon::start(root.path(), "");
    let outcome = rip_while(root.path(), &mut daemon, |film| {
        fs::remove_file(film).unwrap();
        std::os::unix::fs::symlink(&target, film).unwrap();
    });
    outcome.unwrap_err();
    assert_eq!(fs::read(&target).unwrap(), b"precious");
}

#[test]
fn a_muxer_that_dies_while_the_daemon_is_down_leaves_what_was_written_and_no_stream() {
    let root = scratch();
    let mut daemon = Daemon::start(root.path(), "[daemon]\nresume_grace = \"500ms\"\n");
    let path = root.path().join("film.mkv");
    let mut muxer = std::process::Command::new(programs::freemkvctl())
        .arg("--socket")
        .arg(daemon.socket())
        .args(["write", "--quiet"])
        .arg(&path)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = muxer.stdin.take().unwrap();
    pattern::write(&mut input, SEED, 0, 12 * MIB).unwrap();
    input.flush().unwrap();
    daemon.wait_for("some of it", |status| {
        status.streams.first().is_some_and(|stream| stream.written_bytes >= 4 * MIB)
    });
    daemon.kill();
    muxer.kill().unwrap();
    muxer.wait().unwrap();
    let len = fs::metadata(&path).unwrap().len();
    daemon.start_again();
    daemon.wait_for("an abandoned stream that is durable", |status| {
        status.streams.first().is_some_and(|stream| stream.state == StreamState::Abandoned)
    });
    daemon.wait_for_log(&["has not come back", "film.mkv"]);
    assert_eq!(pattern::prefix_len(SEED, &path).unwrap(), len);
    let records = daemon.socket().with_file_name("s.streams");
    assert_eq!(fs::read_dir(records).unwrap().count(), 0, "a record is left");
    // And its file is free for whoever rips it again.
    let mut file = daemon.options().create(&path).unwrap();
    pattern::write(&mut file, SEED, 0, MIB).unwrap();
    file.finish().unwrap();
    assert_eq!(pattern::prefix_len(SEED, &path).unwrap(), MIB);
}

#[test]
fn a_rip_goes_on_after_the_daemon_has_been_away_for_a_while() {
    let root = scratch();
    let mut daemon = Daemon::start(root.path(), "");
    // Longer than the longest time between two tries.
    let outcome =
        rip_while(root.path(), &mut daemon, |_| std::thread::sleep(Duration::from_secs(2)));
    outcome.unwrap();
    assert_eq!(pattern::prefix_len(SEED, &root.path().join("film.mkv")).unwrap(), 16 * MIB);
}
