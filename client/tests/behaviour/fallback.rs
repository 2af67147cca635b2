//! Without a daemon. The environment and standard error belong to the process, so tests of those
//! run this binary again.

use std::io::{ErrorKind, Write};
use std::process::{Command, Output};

use freemkvd_client::RipFile;

const CHILD: &str = "FREEMKV_TEST_DIR";

#[test]
fn no_daemon_is_an_error_that_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let socket = crate::nobody();
    let error = RipFile::options().socket(&socket).create(dir.path().join("film.mkv")).unwrap_err();
    assert!(error.is_absent_daemon());
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(error.path(), socket);
    let text = error.to_string();
    assert!(text.contains("start it, name its socket in FREEMKVD_SOCKET"), "{text}");
    assert!(!dir.path().join("film.mkv").exists());
}

#[test]
fn a_local_file_keeps_the_same_promises() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("film.mkv");
    let local = || RipFile::options().socket(crate::nobody()).fallback_to_local(true);
    let mut file = local().create(&target).unwrap();
    assert!(file.is_local());
    assert_eq!(file.stream_id(), None);
    file.write_all(b"content").unwrap();
    assert_eq!(file.progress().written_bytes, 0, "it is in the window");
    file.flush().unwrap();
    assert_eq!(std::fs::read(&target).unwrap(), b"content");
    assert_eq!(file.progress().durable_bytes, 0);
    file.sync_all().unwrap();
    assert_eq!(file.progress().durable_bytes, 7);
    drop(file);

    let refused = local().create_new(true).create(&target).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
    let mut file = local().open(&target).unwrap();
    assert_eq!(file.len_bytes(), 7);
    file.write_all(b"C").unwrap();
    drop(file);
    assert_eq!(std::fs::read(&target).unwrap(), b"Content");
}

#[cfg(target_os = "linux")]
#[test]
fn a_local_disk_that_is_full_is_latched() {
    let mut file = RipFile::options()
        .socket(crate::nobody())
        .fallback_to_local(true)
        .open("/dev/full")
        .unwrap();
    file.write_all(b"content").unwrap();
    let first = file.flush().unwrap_err();
    assert_eq!(first.kind(), ErrorKind::StorageFull);
    let inside = freemkvd_client::Error::inside(&first).unwrap();
    assert_eq!((inside.errno(), inside.offset()), (Some(28), Some(0)));
    let later = [
        file.write_all(b"more").unwrap_err(),
        file.sync_all().unwrap_err(),
        file.finish().unwrap_err(),
    ];
    for error in later {
        assert_eq!(error.to_string(), first.to_string());
    }
}

fn run_child(name: &str, socket: &str) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("fallback::{name}"), "--ignored", "--nocapture"])
        .env(CHILD, dir.path())
        .env("FREEMKVD_SOCKET", socket)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    output
}

fn lines_of_ours(output: &Output) -> usize {
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines().filter(|line| line.starts_with("freemkvd-client: ")).count()
}

#[test]
fn a_fallback_is_said_once() {
    let output = run_child("child_writes_twice", &crate::nobody().to_string_lossy());
    assert_eq!(lines_of_ours(&output), 1, "{output:?}");
}

#[test]
fn off_is_local_without_a_word() {
    let output = run_child("child_writes_twice", "off");
    assert_eq!(lines_of_ours(&output), 0, "{output:?}");
}

#[test]
#[ignore = "run by the tests above, in a process of its own"]
fn child_writes_twice() {
    let dir = std::path::PathBuf::from(std::env::var_os(CHILD).unwrap());
    for name in ["one.mkv", "two.mkv"] {
        let mut file = RipFile::options().fallback_to_local(true).create(dir.join(name)).unwrap();
        file.write_all(b"content").unwrap();
        file.finish().unwrap();
    }
}
