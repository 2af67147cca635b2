//! `freemkvctl write`.

use std::io::Write;
use std::process::{Child, Command, Output, Stdio};

use freemkvd_proto::status::{Budget, DaemonState, Status};

use crate::fake_daemon::FakeDaemon;
use crate::{exit_code, freemkvctl, stderr, stdout};

fn daemon() -> FakeDaemon {
    FakeDaemon::start(Status {
        version: "0.1.0".into(),
        protocol: 2,
        pid: 811,
        uptime_seconds: 0,
        state: DaemonState::Running,
        budget: Budget {
            limit_bytes: 0,
            charged_bytes: 0,
            kernel_dirty_bytes: None,
            queued_bytes: 0,
            queue_limit_bytes: 0,
        },
        devices: Vec::new(),
        streams: Vec::new(),
    })
}

fn write(daemon: &FakeDaemon, arguments: &[&str]) -> Command {
    let mut command = freemkvctl(&daemon.socket());
    command.arg("write").args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Hands over `content` and closes the command's input.
fn feed(mut child: Child, content: &[u8]) -> Output {
    child.stdin.take().unwrap().write_all(content).unwrap();
    child.wait_with_output().unwrap()
}

/// More than the patch window and what is in flight, and not a multiple of any of them.
fn content() -> Vec<u8> {
    let scrambled = |i: u32| i.wrapping_mul(2_654_435_761).to_be_bytes()[0];
    // A period that no buffer has, so that content at a wrong offset is noticed.
    let period: Vec<u8> = (0..1_000_003).map(scrambled).collect();
    period.repeat(60)
}

#[test]
fn every_byte_arrives_and_is_durable() {
    let daemon = daemon();
    let content = content();
    let child = write(&daemon, &["/rips/a.iso", "--size-hint", "64MiB"]).spawn().unwrap();
    let output = feed(child, &content);
    let said = stderr(&output);
    assert_eq!(exit_code(&output), 0, "{said}");
    assert_eq!(stdout(&output), "");
    let shown = std::path::absolute("/rips/a.iso").unwrap();
    assert!(said.starts_with(&format!("wrote 57.2 MiB to {} in ", shown.display())), "{said}");
    assert!(said.ends_with(" s, durable; opened by path\n"), "{said}");
    let file = daemon.file(shown.to_str().unwrap()).unwrap();
    assert!(file.content == content);
    assert!(file.finished);
    assert_eq!(file.size_hint, Some(64 << 20));
    assert_eq!((file.weight, file.window_bytes), (100, Some(0)), "a pipe never patches");
}

// Names of Windows have no such characters.
#[cfg(unix)]
#[test]
fn what_a_path_holds_is_shown_and_acts_on_no_terminal() {
    let daemon = daemon();
    let child = write(&daemon, &["/rips/a\nfreemkvctl: forged\u{1b}[2J"]).spawn().unwrap();
    let said = stderr(&feed(child, b"content"));
    assert!(said.contains(r"to /rips/a\nfreemkvctl: forged\u{1b}[2J in "), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    let socket = daemon.socket().with_file_name("none\nfreemkvctl: forged\u{1b}[2J");
    let output = freemkvctl(&socket).args(["abort", "1"]).output().unwrap();
    let said = stderr(&output);
    assert!(said.starts_with("freemkvctl: no freemkvd at "), "{said}");
    assert!(said.contains(r"none\nfreemkvctl: forged\u{1b}[2J: "), "{said}");
}

#[test]
fn a_restart_of_the_daemon_is_not_noticed() {
    let daemon = daemon();
    daemon.restart_during_writes(3);
    let content: Vec<u8> =
        (0..30 << 20).map(|byte: u32| (byte % 251).try_into().unwrap()).collect();
    let child = write(&daemon, &["/rips/a.iso", "--quiet"]).spawn().unwrap();
    let output = feed(child, &content);
    assert_eq!(stderr(&output), "");
    assert_eq!(exit_code(&output), 0);
    assert_eq!(daemon.losses_left(), 0);
    assert!(daemon.file("/rips/a.iso").unwrap().content == content);
}

#[test]
fn a_weight_is_passed_on() {
    let daemon = daemon();
    let child = write(&daemon, &["/rips/a.iso", "--weight", "250"]).spawn().unwrap();
    assert_eq!(exit_code(&feed(child, b"content")), 0);
    assert_eq!(daemon.file("/rips/a.iso").unwrap().weight, 250);
}

#[test]
fn nothing_is_a_file_too_and_quiet_is_quiet() {
    let daemon = daemon();
    let child = write(&daemon, &["/rips/empty", "--quiet"]).spawn().unwrap();
    let output = feed(child, b"");
    assert_eq!(stderr(&output), "");
    assert_eq!(exit_code(&output), 0);
    assert!(daemon.file("/rips/empty").unwrap().finished);
}

#[test]
fn a_file_that_exists_is_left_alone_unless_told_otherwise() {
    let daemon = daemon();
    daemon.put("/rips/a.mkv", b"dear");
    let output = write(&daemon, &["/rips/a.mkv"]).stdin(Stdio::null()).output().unwrap();
    assert_eq!(exit_code(&output), 1);
    let said = stderr(&output);
    let words = "the file exists, says the fake daemon; --overwrite empties and writes it";
    assert!(said.contains(words), "{said}");
    assert_eq!(daemon.file("/rips/a.mkv").unwrap().content, b"dear");

    let child = write(&daemon, &["/rips/a.mkv", "--overwrite"]).spawn().unwrap();
    assert_eq!(exit_code(&feed(child, b"new")), 0);
    assert_eq!(daemon.file("/rips/a.mkv").unwrap().content, b"new");
}

#[cfg(unix)]
#[test]
fn an_input_that_fails_leaves_the_file_and_says_so() {
    let daemon = daemon();
    let directory = std::fs::File::open(daemon.directory()).unwrap();
    let output = write(&daemon, &["/rips/a.iso"]).stdin(directory).output().unwrap();
    assert_eq!(exit_code(&output), 1);
    let said = stderr(&output);
    assert!(said.contains("cannot read standard input: "), "{said}");
    assert!(said.contains("/rips/a.iso stays as it is"), "{said}");
    assert!(!daemon.file("/rips/a.iso").unwrap().finished);
}

#[cfg(unix)]
#[test]
fn an_interrupt_keeps_what_was_read() {
    let daemon = daemon();
    let mut child = write(&daemon, &["/rips/a.iso"]).spawn().unwrap();
    // Kept open: only the signal ends the command. What the window passes on shows that it reads.
    let mut input = child.stdin.take().unwrap();
    let content = vec![7; 16 << 20];
    input.write_all(&content).unwrap();
    daemon.wait_for("/rips/a.iso", |file| !file.content.is_empty());
    crate::interrupt(&child);
    let output = child.wait_with_output().unwrap();
    let said = stderr(&output);
    assert_eq!(exit_code(&output), 1, "{said}");
    let file = daemon.file("/rips/a.iso").unwrap();
    assert!(!file.finished);
    assert!(content.starts_with(&file.content));
    let size = bytesize::ByteSize(file.content.len() as u64).display().iec();
    let expected = format!("{size} are written and {size} of them durable");
    assert!(
        said.starts_with("freemkvctl: making durable what was read; interrupt again"),
        "{said}"
    );
    assert!(said.contains("\nfreemkvctl: interrupted; "), "{said}");
    assert!(said.contains(&expected), "{said} is not {expected}");
}

#[test]
fn what_becomes_of_the_file_is_what_was_asked_for() {
    use freemkvd_proto::Leftover;
    let daemon = daemon();
    for arguments in [
        vec!["/rips/a.iso", "--quiet"],
        vec!["/rips/b.iso", "--quiet", "--publish", "--leftover", "remove"],
        vec!["/rips/c.iso", "--quiet", "--leftover", "partial"],
    ] {
        let output = feed(write(&daemon, &arguments).spawn().unwrap(), b"film");
        assert_eq!(exit_code(&output), 0, "{}", stderr(&output));
    }
    assert_eq!(daemon.openings(), [(true, Leftover::Remove), (false, Leftover::Partial)]);
}

#[test]
fn what_is_waited_for_is_said() {
    use std::io::{BufRead, BufReader};

    use freemkvd_proto::status::{StreamState, WaitingFor};

    let mut status = crate::status::healthy();
    let what = "space on /rips (at least 3.1 GiB more, gives up in 7m)";
    status.streams[0].state = StreamState::NoSpace;
    status.streams[0].waiting_for = Some(WaitingFor { what: what.into(), ms: 61_000 });
    let daemon = FakeDaemon::start(status);
    let mut child = write(&daemon, &["/rips/a.iso"]).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, format!("freemkvctl: waiting for {what}; free some\n"));
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

// Where a directory can be opened, and not be read.
#[cfg(unix)]
#[test]
fn what_is_left_of_a_file_is_said_at_its_end() {
    for (arguments, left) in [
        (vec![], "/rips/a.iso stays as it is, "),
        (vec!["--publish"], "/rips/a.iso.partial stays as it is, "),
        (vec!["--leftover", "partial"], "/rips/a.iso.partial stays as it is, "),
        (vec!["--publish", "--leftover", "remove"], "nothing of it is kept\n"),
    ] {
        let daemon = daemon();
        let mut command = write(&daemon, &["/rips/a.iso", "--quiet"]);
        // A directory can't be read.
        command.args(arguments).stdin(std::fs::File::open("/").unwrap());
        let output = command.output().unwrap();
        let said = stderr(&output);
        assert_eq!(exit_code(&output), 1, "{said}");
        assert!(said.contains("cannot read standard input: ") && said.contains(left), "{said}");
    }
}
