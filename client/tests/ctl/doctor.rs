//! `freemkvctl doctor`: needs no daemon, and leaves nothing.

use std::io::Read;
use std::path::Path;

use crate::fake_daemon::FakeDaemon;
use crate::status::healthy;
use crate::{exit_code, freemkvctl, interrupt, nobody, stderr, stdout};

fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).unwrap().next().is_none()
}

#[test]
fn doctor_says_what_it_does_first_and_leaves_nothing() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut command = freemkvctl(&nobody());
    let output =
        command.args(["doctor", "--size", "8MiB"]).arg(dir.path().join("film.mkv")).output();
    let output = output.unwrap();
    assert!([0, 4].contains(&exit_code(&output)), "{}", stderr(&output));
    assert!(stderr(&output).starts_with("freemkvctl: writing up to "), "{}", stderr(&output));
    for part in ["drain", "commit", "[budget]", "roots = [", dir.path().to_str().unwrap()] {
        assert!(stdout(&output).contains(part), "{part} is not in {}", stdout(&output));
    }
    assert!(is_empty(dir.path()));
}

#[test]
fn doctors_json_has_all_figures() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut command = freemkvctl(&nobody());
    let output =
        command.args(["doctor", "--json", "--size", "8MiB"]).arg(dir.path()).output().unwrap();
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for key in [
        "directory",
        "filesystem",
        "mount",
        "source",
        "options",
        "free_bytes",
        "drain",
        "verdicts",
        "config",
    ] {
        assert!(told.get(key).is_some(), "{key} is not in {told}");
    }
    let measured = &told["measured"];
    assert_eq!(measured["written_bytes"], 8 << 20);
    for key in ["write_bytes_per_second", "commit_ns_median", "commit_ns_max"] {
        assert!(measured[key].as_u64().unwrap() > 0, "{key} is not in {told}");
    }
}

#[test]
fn doctor_refuses_in_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    for (path, words) in
        [(dir.path().join("gone/film"), "there is no"), (file, "is not a directory")]
    {
        let output = freemkvctl(&nobody()).arg("doctor").arg(path).output().unwrap();
        assert_eq!((exit_code(&output), stdout(&output)), (1, String::new()));
        assert!(stderr(&output).contains(words), "{}", stderr(&output));
        assert_eq!(stderr(&output).lines().count(), 1);
    }
    // Nothing is free there, on whatever machine.
    let output = freemkvctl(&nobody()).args(["doctor", "/proc"]).output().unwrap();
    assert_eq!(exit_code(&output), 1);
    assert!(stderr(&output).contains("not enough space in /proc"), "{}", stderr(&output));
    assert_eq!(stderr(&output).lines().count(), 1, "it was about to write: {}", stderr(&output));
    for size in ["1KiB", "much", "1025GiB"] {
        let output = freemkvctl(&nobody()).args(["doctor", ".", "--size", size]).output().unwrap();
        assert_eq!(exit_code(&output), 2);
    }
}

#[test]
fn an_interrupted_doctor_leaves_nothing() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut command = freemkvctl(&nobody());
    command.args(["doctor", "--size", "1GiB"]).arg(dir.path());
    let mut child = command
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = child.stderr.take().unwrap();
    // Signals are caught by then, and the file is about to be made.
    let mut first = [0; 20];
    said.read_exact(&mut first).unwrap();
    interrupt(&child);
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{rest}");
    assert!(rest.ends_with("interrupted; nothing is left behind\n"), "{rest}");
    assert!(is_empty(dir.path()));
}

#[test]
fn doctor_keeps_out_of_the_way_of_streams_unless_told_otherwise() {
    use std::os::unix::fs::MetadataExt;

    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let dev = dir.path().metadata().unwrap().dev();
    let number = format!("{}:{}", rustix::fs::major(dev), rustix::fs::minor(dev));
    let mut status = healthy();
    status.streams[1].device = Some(number);
    let daemon = FakeDaemon::start(status);
    let doctor = |more: &[&str]| {
        let mut command = freemkvctl(&daemon.socket());
        command.args(["doctor", "--size", "8MiB"]).arg(dir.path()).args(more).output().unwrap()
    };
    let output = doctor(&[]);
    let said = stderr(&output);
    assert_eq!((exit_code(&output), stdout(&output)), (1, String::new()), "{said}");
    let streams = "(stream 2, /rips/Metropolis (1927)/title_t03.mkv)";
    assert!(said.contains(streams) && said.contains("--busy"), "{said}");
    assert_eq!(said.lines().count(), 1, "it was about to write: {said}");
    let output = doctor(&["--busy"]);
    assert!([0, 4].contains(&exit_code(&output)), "{}", stderr(&output));
    // A stream elsewhere is in nobody's way.
    let mut status = healthy();
    for stream in &mut status.streams {
        stream.device = Some("4094:1".into());
    }
    status.devices.clear();
    daemon.say(status);
    let output = doctor(&[]);
    assert!([0, 4].contains(&exit_code(&output)), "{}", stderr(&output));
}
