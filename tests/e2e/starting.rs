//! Starting: with what is needed, with less, and where somebody else was before.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use freemkvd_client::OpenBy;
use freemkvd_tests::daemon::{self, Daemon, wait_until};
use freemkvd_tests::programs;
use rustix::process::Signal;

use crate::support::scratch;

fn freemkvd(arguments: &[&str]) -> Output {
    let mut command = Command::new(programs::freemkvd());
    command.args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_second_daemon_on_the_same_socket_refuses() {
    let root = scratch();
    let first = Daemon::start(root.path(), "");
    let socket = first.socket().to_str().unwrap();
    let second = freemkvd(&["--root", root.path().to_str().unwrap(), "--socket", socket]);
    assert_eq!(second.status.code(), Some(1));
    let said = text(&second.stderr);
    assert_eq!(
        said,
        format!(
            "freemkvd: another freemkvd listens on {socket}; stop it (systemctl stop freemkvd), \
             or choose another socket with --socket\n"
        )
    );
    assert!(first.try_status().is_some(), "the first one's socket is gone");
}

#[test]
fn the_socket_of_a_killed_daemon_is_replaced() {
    let root = scratch();
    let mut first = Daemon::start(root.path(), "");
    first.signal(Signal::KILL);
    assert!(wait_until(|| first.ended().is_some()));
    assert!(first.socket().exists());
    let mut command = Command::new(programs::freemkvd());
    command.arg("--root").arg(root.path()).arg("--socket").arg(first.socket());
    let second = Daemon::start_as(daemon::home(), first.socket().to_owned(), command);
    let path = root.path().join("film.mkv");
    second.options().create(&path).unwrap().finish().unwrap();
}

#[test]
fn a_file_in_the_way_of_the_socket_is_left_alone() {
    let root = scratch();
    let file = root.path().join("precious");
    std::fs::write(&file, b"precious").unwrap();
    let name = file.to_str().unwrap();
    let refused = freemkvd(&["--root", root.path().to_str().unwrap(), "--socket", name]);
    assert_eq!(refused.status.code(), Some(1));
    let said = text(&refused.stderr);
    assert!(said.contains(&format!("cannot listen on {name}")), "{said}");
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
}

#[test]
fn check_config_says_what_is_wrong_and_where() {
    let home = daemon::home();
    let file = home.path().join("config.toml");
    let name = file.to_str().unwrap();
    let check = |config: &str| {
        std::fs::write(&file, config).unwrap();
        freemkvd(&["--config", name, "--check-config"])
    };
    let example = include_str!("../../config.example.toml");
    for config in ["", example] {
        let valid = check(config);
        assert_eq!(valid.status.code(), Some(0), "{}", text(&valid.stderr));
        assert_eq!(text(&valid.stdout), "the configuration is valid\n");
        assert_eq!(text(&valid.stderr), "");
    }
    let cases = [
        ("[stream]\nqueue = \"1\"\n", 2, "like \"64MiB\""),
        ("[stream]\nqueue = \"1KiB\"\n", 2, "stream.queue"),
        ("[stream]\nqueue_total = \"1MiB\"\n", 2, "limits.streams"),
        ("[daemon]\nroots = [\"rips\"]\n", 2, "absolute"),
        ("[daemon]\n\nrots = []\n", 3, "unknown field `rots`"),
        ("[log]\nlevel = \"loud\"\n", 2, "\"info\""),
        ("x", 1, ""),
    ];
    for (config, line, words) in cases {
        let invalid = check(config);
        assert_eq!(invalid.status.code(), Some(2), "{config}");
        let said = text(&invalid.stderr);
        assert!(said.starts_with(&format!("freemkvd: {name}:{line}: ")), "{said}");
        assert!(said.contains(words), "{words} is not in: {said}");
        assert_eq!(text(&invalid.stdout), "");
    }
    std::fs::remove_file(&file).unwrap();
    let missing = freemkvd(&["--config", name, "--check-config"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(text(&missing.stderr).contains(name));
    let usage = freemkvd(&["--rot", "/"]);
    assert_eq!(usage.status.code(), Some(2));
}

const NOBODY: u32 = 65534;

/// An ordinary user's daemon and muxer: when root runs this, they are run as nobody.
fn as_user(mut command: Command, runtime_dir: &Path) -> Command {
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
        .env("XDG_RUNTIME_DIR", runtime_dir)
        .env_remove("FREEMKVD_SOCKET")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

/// Makes a directory that user's own.
fn for_user(directory: &Path) {
    if rustix::process::geteuid().is_root() {
        chown(directory, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

#[test]
fn a_users_own_daemon_is_found_without_naming_its_socket() {
    let (root, home) = (tempfile::tempdir().unwrap(), daemon::home());
    for_user(root.path());
    for_user(home.path());
    let socket = home.path().join("freemkvd.sock");
    let mut command = as_user(Command::new(programs::freemkvd()), home.path());
    command.arg("--root").arg(root.path());
    let daemon = Daemon::start_as(home, socket.clone(), command);
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "others could write as this user");
    let mut muxer = as_user(Command::new(programs::muxer()), socket.parent().unwrap());
    muxer
        .args(["--trace", "m2ts", "--content-seconds", "1", "--sink", "daemon", "--verify"])
        .arg("--out")
        .arg(root.path().join("film.m2ts"));
    assert!(muxer.status().unwrap().success(), "{}", daemon.log());
    daemon.wait_for_log(&[" finished: ", "film.m2ts"]);
}

#[test]
fn with_nothing_said_it_starts_and_names_what_is_missing() {
    let home = daemon::home();
    for_user(home.path());
    let socket = home.path().join("freemkvd.sock");
    let command = as_user(Command::new(programs::freemkvd()), home.path());
    let daemon = Daemon::start_as(home, socket, command);
    daemon.wait_for_log(&["INFO", "freemkvd serves /srv/rips on", "at most"]);
    if !Path::new("/srv/rips").is_dir() {
        daemon.wait_for_log(&["WARN", "the root /srv/rips is not a directory"]);
        let error = daemon.options().create("/srv/rips/film.mkv").unwrap_err();
        assert!(error.to_string().contains("/srv/rips/film.mkv"), "{error}");
    }
    let by_path = daemon.options().open_by(OpenBy::Path);
    let outside = by_path.create("/tmp/film.mkv").unwrap_err();
    assert!(outside.to_string().contains("outside the daemon's roots (/srv/rips)"), "{outside}");
}
