//! What a file system refuses reaches the muxer as what it is.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use freemkvd_client::Error;
use freemkvd_tests::daemon::Daemon;

use super::mount;

/// Writes until it is told that there is no more space, and returns what it was told.
fn fill(daemon: &Daemon, path: &Path) -> Error {
    let mut file = daemon.options().create(path).unwrap();
    let piece = vec![7; 1 << 20];
    let error = loop {
        if let Err(error) = file.write_all(&piece) {
            break error;
        }
        assert!(file.progress().accepted_bytes < 1 << 30, "the file system never got full");
    };
    let first = Error::inside(&error).unwrap().clone();
    // Latched: whatever is called afterwards says the same.
    let again = file.flush().unwrap_err();
    assert_eq!(Error::inside(&again).unwrap().errno(), first.errno());
    let last = file.finish().unwrap_err();
    assert_eq!(Error::inside(&last).unwrap().offset(), first.offset());
    first
}

#[test]
#[ignore = "needs root: a tmpfs of limited size"]
fn a_full_file_system_is_told_with_errno_offset_and_path() {
    let dir = tempfile::tempdir_in(mount("tmpfs")).unwrap();
    let daemon = Daemon::start(dir.path(), "[stream]\nno_space_wait = \"1s\"\n");
    let path = dir.path().join("film.mkv");
    let error = fill(&daemon, &path);
    assert_eq!(error.errno(), Some(28), "{error}");
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    assert!(error.offset().is_some() && error.to_string().contains("film.mkv"), "{error}");
    let seen = daemon.wait_for("the failed stream", |status| {
        status.streams.iter().any(|stream| stream.error.is_some())
    });
    assert_eq!(seen.streams[0].error.as_ref().unwrap().errno, Some(28));
    assert!(seen.is_degraded());
    // What was said to be written is there.
    let len = std::fs::metadata(&path).unwrap().len();
    assert!(len >= error.offset().unwrap(), "{len} bytes, {error}");
}

#[test]
#[ignore = "needs root: loop devices"]
fn a_read_only_file_system_is_refused_as_such() {
    let mount = mount("ext4");
    let dir = tempfile::tempdir_in(&mount).unwrap();
    let daemon = Daemon::start(dir.path(), "");
    let remount = |how: &str| {
        let options = format!("remount,{how}");
        let status = Command::new("mount").args(["-o", &options]).arg(&mount).status().unwrap();
        assert!(status.success());
    };
    remount("ro");
    let result = daemon.options().create(dir.path().join("film.mkv"));
    remount("rw");
    let error = result.unwrap_err();
    assert_eq!(error.errno(), Some(30), "{error}");
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    assert!(error.to_string().contains("film.mkv"), "{error}");
}
