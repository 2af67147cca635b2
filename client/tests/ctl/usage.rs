//! Exit codes, help, and what is said when there is nobody to ask.

#[cfg(unix)]
use std::io::Read;
use std::time::{Duration, Instant};

use crate::{exit_code, freemkvctl, stderr, stdout};

#[test]
fn without_a_daemon_it_says_what_to_do_within_a_second() {
    let socket = crate::nobody();
    for arguments in [
        &["status"][..],
        &["status", "--watch"],
        &["watch"],
        &["write", "film.mkv"],
        &["weight", "1", "50"],
    ] {
        let begun = Instant::now();
        let output = freemkvctl(&socket).args(arguments).output().unwrap();
        assert!(begun.elapsed() < Duration::from_secs(1));
        assert_eq!(exit_code(&output), 3, "{arguments:?}");
        assert_eq!(stdout(&output), "");
        let said = stderr(&output);
        for part in [socket.to_str().unwrap(), "start", "--socket", "FREEMKVD_SOCKET"] {
            assert!(said.contains(part), "{part} is not in {said}");
        }
    }
}

#[cfg(unix)]
#[test]
fn a_daemon_that_does_not_answer_is_none_after_a_second() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("mute.sock");
    let _mute = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let begun = Instant::now();
    let output = freemkvctl(&socket).arg("status").output().unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert!(begun.elapsed() < Duration::from_secs(3));
    assert_eq!(exit_code(&output), 3);
    assert!(stderr(&output).contains("mute.sock took longer than 1s"));
}

#[cfg(unix)]
#[test]
fn what_is_not_freemkvd_is_a_failure() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("other.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let other = std::thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        peer.read_exact(&mut [0; 16]).unwrap();
        std::io::Write::write_all(&mut peer, b"HTTP/1.1 400 Bad Request").unwrap();
    });
    let output = freemkvctl(&socket).arg("status").output().unwrap();
    other.join().unwrap();
    assert_eq!(exit_code(&output), 1);
    assert!(stderr(&output).contains("what listens there is not freemkvd"));
}

#[test]
fn wrong_usage_exits_with_2() {
    let nowhere = "nowhere.sock".as_ref();
    for wrong in [
        &["status", "--no-such-option"][..],
        &["status", "--watch=never"],
        &["status", "--json", "--bytes"],
        &["top", "--interval", "x"],
        &["watch", "--interval", "0"],
        &["watch", "1"],
        &["weight", "1"],
        &["weight", "1", "9"],
        &["weight", "1", "1001"],
        &["weight", "one", "100"],
        &["write", "film.mkv", "--weight", "0"],
        &["write"],
        &["write", "film.mkv", "--size-hint", "huge"],
        &["no-such-command"],
        &[],
    ] {
        let output = freemkvctl(nowhere).args(wrong).output().unwrap();
        assert_eq!(exit_code(&output), 2, "{wrong:?}");
        assert_eq!(stdout(&output), "");
        assert_ne!(stderr(&output), "");
    }
}

#[test]
fn what_is_no_stream_is_told_where_streams_have_their_numbers() {
    for command in ["why", "abort", "pause", "resume", "weight"] {
        let more = if command == "weight" { &["100"][..] } else { &[] };
        let mut asked = freemkvctl("nowhere.sock".as_ref());
        let output = asked.args([command, "film.mkv"]).args(more).output().unwrap();
        let words = "'film.mkv' for '<STREAM>': not a stream's number, which is the first column of `freemkvctl status`";
        assert!(stderr(&output).contains(words), "{}", stderr(&output));
        assert_eq!(exit_code(&output), 2, "{command}");
    }
}

#[test]
fn help_names_the_exit_codes_and_the_version_is_the_packages() {
    let nowhere = "nowhere.sock".as_ref();
    let output = freemkvctl(nowhere).arg("--help").output().unwrap();
    assert_eq!(exit_code(&output), 0);
    let help = stdout(&output);
    for part in ["status", "weight", "write", "4  degraded", "FREEMKVD_SOCKET"] {
        assert!(help.contains(part), "{part} is not in {help}");
    }
    let output = freemkvctl(nowhere).arg("--version").output().unwrap();
    assert_eq!(exit_code(&output), 0);
    assert_eq!(stdout(&output), concat!("freemkvctl ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn top_needs_a_terminal_and_says_what_does_not() {
    let output = freemkvctl(&crate::nobody()).arg("top").output().unwrap();
    assert_eq!((exit_code(&output), stdout(&output)), (2, String::new()));
    let said = stderr(&output);
    assert!(said.contains("terminal") && said.contains("freemkvctl status"), "{said}");
}
