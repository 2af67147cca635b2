//! Streams, from open to durable.

use std::fs;
use std::io::{Read, Write};

use freemkvd_client::Error;
use freemkvd_proto::ErrorCode;
use freemkvd_tests::daemon::{Daemon, wait_until};
use freemkvd_tests::pattern;

use crate::support::{ctl, ended_well, muxer};

#[test]
fn two_muxers_at_once_get_every_byte_to_their_files() {
    let root = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(root.path(), "");
    let bd = muxer(&daemon, "bd", "4", &root.path().join("bd.m2ts"));
    let dvd = muxer(&daemon, "dvd", "30", &root.path().join("dvd.mkv"));
    ended_well(bd, &daemon);
    ended_well(dvd, &daemon);
    let (end, log) = daemon.stop();
    assert!(end.success(), "{end}: {log}");
}

#[test]
fn who_writes_is_in_status_and_a_player_reads_meanwhile() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("film.mkv");
    let daemon = Daemon::start(root.path(), "");
    let mut file = daemon.options().create(&path).unwrap();
    file.write_all(&pattern::bytes(7, 0, 3 << 20)).unwrap();
    file.sync_all().unwrap();
    let status = daemon.status();
    let [stream] = &status.streams[..] else { panic!("{status:?}") };
    assert_eq!(stream.client_pid, Some(std::process::id()));
    // A number, or what the account is called.
    let user = (stream.client_uid.is_some(), stream.client_user.is_some());
    assert_eq!(user, (cfg!(unix), cfg!(windows)), "{stream:?}");
    assert!(stream.path.ends_with("film.mkv"), "{stream:?}");
    let mut seen = Vec::new();
    fs::File::open(&path).unwrap().read_to_end(&mut seen).unwrap();
    assert!(seen == pattern::bytes(7, 0, 3 << 20));
    let shown = ctl(&daemon, &["status", "--json"], b"");
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains(&format!("\"client_pid\":{}", std::process::id())), "{shown}");
    file.finish().unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), 3 << 20);
}

#[test]
fn a_file_gets_its_name_when_it_is_complete() {
    let root = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(root.path(), "");
    let path = root.path().join("film.mkv");
    let to = path.to_str().unwrap();
    let wrote = ctl(&daemon, &["write", "--publish", to], b"film");
    assert!(wrote.status.success(), "{}", String::from_utf8_lossy(&wrote.stderr));
    assert_eq!(fs::read(&path).unwrap(), b"film");
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1, "and no other is left");
    let again = ctl(&daemon, &["write", "--publish", to], b"other");
    assert!(!again.status.success());
    assert_eq!(fs::read(&path).unwrap(), b"film");
}

#[test]
fn a_path_outside_of_the_roots_is_refused_and_nothing_is_made() {
    let (root, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let daemon = Daemon::start(root.path(), "");
    let path = other.path().join("film.mkv");
    match daemon.options().create(&path) {
        Err(Error::Failed { failure, .. }) => assert_eq!(failure.code, ErrorCode::OUTSIDE_ROOTS),
        other => panic!("{other:?}"),
    }
    assert!(!path.exists());
}

#[test]
fn a_file_of_a_muxer_that_is_gone_is_closed_and_what_it_sent_is_there() {
    let root = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(root.path(), "[daemon]\nresume_grace = \"0s\"\n");
    let mut muxer = muxer(&daemon, "uhd", "3600", &root.path().join("uhd.mkv"));
    daemon.wait_for("a stream that writes", |status| {
        status.streams.iter().any(|stream| stream.written_bytes > 1 << 20)
    });
    muxer.kill().unwrap();
    muxer.wait().unwrap();
    daemon.wait_for_log(&["the muxer of stream 1 is gone"]);
    let path = root.path().join("uhd.mkv");
    assert!(fs::metadata(&path).unwrap().len() > 1 << 20);
    assert!(wait_until(|| fs::File::options().write(true).open(&path).is_ok()), "let go of");
}

#[test]
fn a_second_daemon_does_not_take_the_place_of_the_first() {
    let root = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(root.path(), "");
    let second = std::process::Command::new(freemkvd_tests::programs::freemkvd())
        .arg("--socket")
        .arg(daemon.socket())
        .arg("--root")
        .arg(root.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(!second.status.success() && said.contains("another freemkvd listens"), "{said}");
    assert!(daemon.try_status().is_some());
}
