//! Files that the client library opens itself and passes on: outside of all roots, with both ways of content,
//! and over restarts of the daemon. What only several users can show is in `tests/root/own_files.rs`.

use std::fs::{self, File};
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use freemkvd_client::{ErrorCode, Leftover, OpenBy, OpenedBy, Options};
use freemkvd_tests::daemon::{Daemon, wait_until};
use freemkvd_tests::ops::{Limits, apply, sequence};
use freemkvd_tests::{pattern, programs};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::{MIB, Way, assert_same, inside, scratch, write_pattern};

const WAYS: [Way; 2] = [Way::Inline, Way::Shared];

/// A daemon with a root, and a directory elsewhere.
struct Ground {
    root: TempDir,
    elsewhere: TempDir,
    daemon: Daemon,
}

impl Ground {
    fn new() -> Self {
        let root = scratch();
        let daemon = Daemon::start(root.path(), "");
        Self { root, elsewhere: scratch(), daemon }
    }

    fn options(&self, way: Way) -> Options {
        way.options(&self.daemon).open_by(OpenBy::Descriptor).window_bytes(MIB)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.elsewhere.path().join(name)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.elsewhere.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    fn is_film(&self, name: &str, len: u64) {
        assert_eq!(pattern::prefix_len(1, &self.path(name)).unwrap(), len, "{name}");
    }
}

#[test]
fn a_daemon_of_the_same_user_is_told_the_path() {
    let ground = Ground::new();
    let options = ground.daemon.options();
    let file = options.create(ground.root.path().join("film")).unwrap();
    assert_eq!(file.opened_by(), OpenedBy::Path);
    file.finish().unwrap();
    let error = options.create(ground.path("film")).unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::OUTSIDE_ROOTS));
    let file = options.open_by(OpenBy::Descriptor).create(ground.path("film")).unwrap();
    assert_eq!(file.opened_by(), OpenedBy::Descriptor);
    let status = ground.daemon.status();
    assert_eq!(status.streams[0].path, ground.path("film").to_str().unwrap());
}

#[test]
fn random_calls_leave_the_bytes_of_a_file() {
    let ground = Ground::new();
    let (expected, rip) = (ground.path("expected"), ground.path("rip"));
    for (seed, way) in (1..=16).flat_map(|seed| WAYS.map(|way| (seed, way))) {
        println!("seed {seed}, {way:?}");
        let ops = sequence(seed, Limits { ops: 120, len: 12 * MIB, written: 12 * MIB });
        let mut file = File::create(&expected).unwrap();
        apply(&ops, &mut file).unwrap();
        let mut stream = ground.options(way).create(&rip).unwrap();
        assert_eq!(stream.opened_by(), OpenedBy::Descriptor);
        apply(&ops, &mut stream).unwrap();
        let len = stream.len_bytes();
        assert_eq!(stream.finish().unwrap().len_bytes, len);
        assert_same(&expected, &rip);
    }
}

/// Writes a film with a patch, while `disturb` is called twice. Returns how often it went on.
fn disturbed(way: Way, mut disturb: impl FnMut(&mut Daemon)) -> u64 {
    let mut ground = Ground::new();
    let options = ground.options(way).publish(true).leftover(Leftover::Remove);
    let mut file = options.create(ground.path("film")).unwrap();
    let inode = fs::metadata(ground.path("film.partial")).unwrap().ino();
    write_pattern(&mut file, 1, 0, 8 * MIB).unwrap();
    disturb(&mut ground.daemon);
    write_pattern(&mut file, 1, 8 * MIB, 8 * MIB).unwrap();
    file.flush().unwrap();
    disturb(&mut ground.daemon);
    file.seek(SeekFrom::Start(5)).unwrap();
    file.write_all(&pattern::bytes(1, 5, 100_000)).unwrap();
    assert_eq!(ground.names(), ["film.partial"]);
    let progress = file.finish().unwrap().progress;
    assert_eq!(ground.names(), ["film"]);
    assert_eq!(fs::metadata(ground.path("film")).unwrap().ino(), inode);
    ground.is_film("film", 16 * MIB);
    assert_eq!(progress.unwatched_restarts, 0, "the muxer has kept it open");
    progress.resumes
}

#[test]
fn a_daemon_that_is_killed_is_gone_on_without() {
    for way in WAYS {
        let resumes = disturbed(way, |daemon| {
            daemon.kill();
            daemon.start_again();
        });
        assert!(resumes >= 1, "{way:?}");
    }
}

#[test]
fn a_daemon_that_is_stopped_is_gone_on_without() {
    for way in WAYS {
        let resumes = disturbed(way, |daemon| {
            daemon.replace(Signal::TERM);
        });
        assert!(resumes >= 1, "{way:?}");
    }
}

#[test]
fn a_file_that_was_renamed_meanwhile_is_gone_on_with() {
    let mut ground = Ground::new();
    let mut file = ground.options(Way::Shared).create(ground.path("film")).unwrap();
    write_pattern(&mut file, 1, 0, 4 * MIB).unwrap();
    fs::rename(ground.path("film"), ground.path("elsewhere")).unwrap();
    ground.daemon.kill();
    ground.daemon.start_again();
    write_pattern(&mut file, 1, 4 * MIB, 4 * MIB).unwrap();
    file.finish().unwrap();
    assert_eq!(ground.names(), ["elsewhere"]);
    ground.is_film("elsewhere", 8 * MIB);
}

#[test]
fn a_name_is_changed_where_the_file_was_opened_wherever_the_path_leads_by_then() {
    for create_new in [false, true] {
        let ground = Ground::new();
        let (films, moved, others) =
            (ground.path("films"), ground.path("moved"), ground.path("others"));
        fs::create_dir(&films).unwrap();
        fs::create_dir(&others).unwrap();
        let options = ground.options(Way::Shared).publish(true).create_new(create_new);
        let mut file = options.create(films.join("film")).unwrap();
        write_pattern(&mut file, 1, 0, 2 * MIB).unwrap();
        // The same file, so that looking at it by its path tells nothing.
        fs::hard_link(films.join("film.partial"), others.join("film.partial")).unwrap();
        fs::rename(&films, &moved).unwrap();
        std::os::unix::fs::symlink(&others, &films).unwrap();
        file.finish().unwrap();
        let names = |directory: &PathBuf| -> Vec<_> {
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect()
        };
        assert_eq!(
            (names(&moved), names(&others)),
            (vec!["film".into()], vec!["film.partial".into()])
        );
        ground.is_film("moved/film", 2 * MIB);
    }
}

#[test]
fn a_file_that_is_being_written_is_refused_and_not_emptied() {
    let ground = Ground::new();
    let mut file = ground.options(Way::Shared).create(ground.path("film")).unwrap();
    write_pattern(&mut file, 1, 0, 2 * MIB).unwrap();
    file.flush().unwrap();
    fs::hard_link(ground.path("film"), ground.path("link")).unwrap();
    for name in ["film", "link"] {
        let error = ground.options(Way::Inline).create(ground.path(name)).unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::IN_USE), "{error}");
    }
    let new = ground.options(Way::Inline).create_new(true);
    assert_eq!(new.create(ground.path("film")).unwrap_err().kind(), ErrorKind::AlreadyExists);
    file.finish().unwrap();
    ground.is_film("link", 2 * MIB);
}

#[test]
fn a_size_that_does_not_fit_leaves_no_file() {
    let ground = Ground::new();
    let error = ground.options(Way::Shared).size_hint(1 << 60).create(ground.path("film"));
    assert_eq!(error.unwrap_err().code(), Some(ErrorCode::NO_SPACE_AHEAD));
    assert!(ground.names().is_empty());
}

#[test]
fn a_muxer_that_dies_leaves_its_file_as_it_is() {
    let ground = Ground::new();
    let mut muxer = Command::new(programs::freemkvctl())
        .args(["--socket".as_ref(), ground.daemon.socket().as_os_str(), "write".as_ref()])
        .args(["--open-by", "descriptor", "--publish", "--leftover", "remove"])
        .arg(ground.path("film"))
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = muxer.stdin.take().unwrap();
    write_pattern(&mut input, 1, 0, 8 * MIB).unwrap();
    ground.daemon.wait_for("content", |status| {
        status.streams.iter().any(|stream| stream.written_bytes >= MIB)
    });
    muxer.kill().unwrap();
    muxer.wait().unwrap();
    let end = ground.daemon.wait_for("its end", |status| status.devices.is_empty());
    assert_eq!(end.budget.charged_bytes, 0);
    assert_eq!(ground.names(), ["film.partial"]);
    let len = fs::metadata(ground.path("film.partial")).unwrap().len();
    assert!(len >= MIB);
    ground.is_film("film.partial", len);
}

#[test]
fn freemkvctl_says_who_has_opened_the_file() {
    let ground = Ground::new();
    let write = |how: &str, path: PathBuf| {
        let mut command = Command::new(programs::freemkvctl());
        command.arg("--socket").arg(ground.daemon.socket()).args(["write", "--open-by", how]);
        let output = command.arg(path).stdin(Stdio::null()).output().unwrap();
        (String::from_utf8(output.stderr).unwrap(), output.status.code())
    };
    for (how, path, end) in [
        ("auto", ground.root.path().join("a"), "durable; opened by path\n"),
        ("path", ground.root.path().join("b"), "durable; opened by path\n"),
        ("descriptor", ground.path("c"), "durable; opened by descriptor\n"),
    ] {
        let (said, code) = write(how, path);
        assert!(said.ends_with(end), "{said}");
        assert_eq!(code, Some(0));
    }
    let (said, code) = write("descriptor", ground.path("c"));
    assert!(said.contains("cannot open, in this process, "), "{said}");
    assert_eq!(code, Some(1));
}

#[test]
fn an_error_of_the_stream_removes_what_was_to_be_removed() {
    let ground = Ground::new();
    let removed = ground.options(Way::Shared).leftover(Leftover::Remove);
    let mut file = removed.create(ground.path("film")).unwrap();
    write_pattern(&mut file, 1, 0, 2 * MIB).unwrap();
    file.flush().unwrap();
    let mut control = freemkvd_client::control::Control::connect(
        Some(ground.daemon.socket()),
        std::time::Duration::from_secs(10),
    )
    .unwrap();
    control.abort(file.stream_id().unwrap()).unwrap();
    let error = file.sync_all().unwrap_err();
    assert_eq!(inside(&error).code(), Some(ErrorCode::ABORTED));
    assert_eq!(ground.names(), ["film"]);
    drop(file);
    assert!(wait_until(|| ground.names().is_empty()));
}

/// Who a client is told that it is connected to: a process, and its user.
fn peer(socket: &std::path::Path) -> (u32, u32) {
    let connection = std::os::unix::net::UnixStream::connect(socket).unwrap();
    let peer = rustix::net::sockopt::socket_peercred(&connection).unwrap();
    (peer.pid.as_raw_pid().try_into().unwrap(), peer.uid.as_raw())
}

#[test]
fn behind_a_socket_that_was_passed_to_it_it_is_the_daemon_that_clients_are_told_of() {
    let (root, home) = (scratch(), freemkvd_tests::daemon::home());
    let socket = home.path().join("s");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    assert_eq!(peer(&socket).0, std::process::id());
    let mut command = Command::new("sh");
    // As systemd passes it: the third descriptor, and the number of the process that it is for.
    command.args(["-c", "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\" 3>&1 1>/dev/null", "sh"]);
    command.arg(programs::freemkvd()).arg("--root").arg(root.path());
    command.stdout(std::os::fd::OwnedFd::from(listener)).env("XDG_CONFIG_HOME", home.path());
    let mut daemon = Daemon::start_as(home, socket.clone(), command);
    assert_eq!(peer(&socket).0, daemon.pid());
    daemon.kill();
    daemon.start_again();
    assert_eq!(peer(&socket).0, daemon.pid());
    let file = daemon.options().create(root.path().join("film")).unwrap();
    assert_eq!(file.opened_by(), OpenedBy::Path);
}
