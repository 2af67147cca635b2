//! Paths that must not be written: each is refused with its code, and the answer names the path.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use freemkvd_client::Error;
use freemkvd_proto::{ErrorCode, OpenMode};
use freemkvd_tests::daemon::Daemon;
use freemkvd_tests::peer::Peer;
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::support::{Neighbour, scratch};

fn refused(daemon: &Daemon, path: &Path, code: ErrorCode, words: &str) {
    let error = daemon.options().create(path).unwrap_err();
    assert_eq!(error.code(), Some(code), "{}: {error}", path.display());
    let text = error.to_string();
    assert!(text.contains(path.to_str().unwrap()), "{text}");
    assert!(text.contains(words), "{words} is not in: {text}");
}

#[test]
fn nothing_outside_the_roots_is_opened() {
    let (root, outside) = (scratch(), scratch());
    let daemon = Daemon::start(root.path(), "");
    let neighbour = Neighbour::start(&daemon, root.path());
    let secret = outside.path().join("secret");
    std::fs::write(&secret, b"precious").unwrap();
    let inside = |name: &str| root.path().join(name);
    symlink(outside.path(), inside("directory")).unwrap();
    symlink(&secret, inside("file")).unwrap();
    symlink(outside.path().join("new"), inside("dangling")).unwrap();
    symlink("loop", inside("loop")).unwrap();
    let up = Path::new("..").join(outside.path().file_name().unwrap());
    let paths = [
        secret.clone(),
        PathBuf::from("/"),
        root.path().to_owned(),
        root.path().with_extension("sibling"),
        inside("..").join("secret"),
        root.path().join(up).join("secret"),
        inside("directory").join("secret"),
        inside("directory").join("new"),
        inside("file"),
        inside("dangling"),
        inside("loop"),
    ];
    let roots = format!("roots ({})", root.path().display());
    for path in &paths {
        refused(&daemon, path, ErrorCode::OUTSIDE_ROOTS, &roots);
    }
    assert_eq!(std::fs::read(&secret).unwrap(), b"precious");
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
    neighbour.assert_unharmed();
}

#[test]
fn nothing_but_a_regular_file_is_opened() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let neighbour = Neighbour::start(&daemon, root.path());
    let inside = |name: &str| root.path().join(name);
    std::fs::create_dir(inside("directory")).unwrap();
    mknodat(CWD, inside("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    let reader = mknodat(CWD, inside("fifo with a reader"), FileType::Fifo, Mode::RWXU, 0);
    reader.unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(inside("socket")).unwrap();
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK;
    let _reader = rustix::fs::open(inside("fifo with a reader"), flags, Mode::empty()).unwrap();
    let cases = [
        ("directory", "a directory"),
        ("fifo", "a FIFO"),
        ("fifo with a reader", "a FIFO"),
        ("socket", "socket"),
    ];
    for (name, what) in cases {
        refused(&daemon, &inside(name), ErrorCode::NOT_A_FILE, what);
    }
    neighbour.assert_unharmed();
}

#[test]
fn a_line_feed_in_a_path_makes_no_line_in_the_log() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let film = root.path().join("film\nERROR forged\r\u{9b}2J");
    daemon.options().create(&film).unwrap().finish().unwrap();
    let error = daemon.options().create(film.join("below")).unwrap_err();
    assert!(error.code().is_some(), "{error}");
    // As it is called, and quoted by its message; both times in one line.
    daemon.wait_for_log(&["INFO", "finished: ", r"film\nERROR forged\r\u{9b}2J", "path="]);
    daemon.wait_for_log(&["refused: ", r"film\nERROR forged\r\u{9b}2J/below"]);
    let log = daemon.log();
    assert!(!log.lines().any(|line| line.trim_start().starts_with("ERROR forged")), "{log}");
    assert!(log.chars().all(|character| character == '\n' || !character.is_control()), "{log}");
}

#[test]
fn a_missing_directory_or_file_is_named() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let path = root.path().join("missing/film.mkv");
    refused(&daemon, &path, ErrorCode::NOT_FOUND, "create its directory");
    let path = root.path().join("film.mkv");
    let error = daemon.options().open(&path).unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::NOT_FOUND), "{error}");
    assert!(!path.exists());
    let long = root.path().join("n".repeat(300));
    refused(&daemon, &long, ErrorCode::OPEN_FAILED, "too long");
    std::fs::write(&path, b"").unwrap();
    refused(&daemon, &path.join("below"), ErrorCode::OPEN_FAILED, "irectory");
}

#[test]
fn what_is_not_a_path_is_refused() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let neighbour = Neighbour::start(&daemon, root.path());
    let text = root.path().to_str().unwrap();
    let cases = [
        (String::new(), "not absolute"),
        ("film.mkv".to_owned(), "not absolute"),
        (format!("{text}/a\0b"), "NUL"),
        (format!("{text}/{}", "d/".repeat(2500)), "too long"),
    ];
    for (path, words) in &cases {
        let mut peer = Peer::greet(daemon.socket());
        peer.ask_to_open(OsStr::from_bytes(path.as_bytes()), OpenMode::Create);
        let failure = peer.failure();
        assert_eq!(failure.code, ErrorCode::BAD_PATH, "{failure:?}");
        assert!(failure.message.contains(words), "{failure:?}");
        let remedy = "send an absolute path of at most 4095 bytes (limits.path_length)";
        assert!(failure.message.contains(remedy), "{failure:?}");
        peer.hang_up();
    }
    neighbour.assert_unharmed();
}

#[test]
fn permissions_hold() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let (file, directory) = (root.path().join("ro.mkv"), root.path().join("ro"));
    std::fs::write(&file, b"precious").unwrap();
    std::fs::create_dir(&directory).unwrap();
    let set = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    set(&file, 0o444);
    set(&directory, 0o555);
    if std::fs::File::options().write(true).open(&file).is_ok() {
        eprintln!("skipped: whoever runs this may write everything");
        return;
    }
    refused(&daemon, &file, ErrorCode::PERMISSION, "let the daemon's user write there");
    refused(&daemon, &directory.join("new"), ErrorCode::PERMISSION, "ermission");
    let error: std::io::Error = daemon.options().create(&file).unwrap_err().into();
    assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
    assert_eq!(Error::inside(&error).unwrap().errno(), Some(13));
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
    set(&directory, 0o755);
}
