//! The hook: it is told what has happened, has nothing of the daemon's, and whatever it does, streams go on.
//! Stalls and full disks need more than this: `tests/root/hook.rs`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use freemkvd_tests::daemon::{Daemon, wait_until};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{MIB, Neighbour, scratch, stuck, write_pattern};

/// A script of this content.
fn script(dir: &Path, content: &str) -> PathBuf {
    let path = dir.join("hook");
    std::fs::write(&path, format!("#!/bin/sh\n{content}\n")).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path
}

fn section(program: &Path, arguments: &[&str], more: &str) -> String {
    let words: Vec<_> =
        std::iter::once(program.to_str().unwrap()).chain(arguments.iter().copied()).collect();
    format!("[hook]\ncommand = {words:?}\n{more}\n")
}

/// A stream that fails: no file system here takes a byte so far out. Returns its number.
fn fail(daemon: &Daemon, path: &Path) -> u64 {
    let mut file = daemon.options().window_bytes(MIB).create(path).unwrap();
    let stream = file.stream_id().unwrap();
    file.write_all(b"so far it is fine").unwrap();
    file.sync_all().unwrap();
    file.seek(SeekFrom::Start(i64::MAX as u64 - 1)).unwrap();
    file.write_all(b"x").unwrap();
    file.sync_all().unwrap_err();
    stream
}

/// What a script has written there, once it is complete.
fn content(path: &Path) -> String {
    let mut text = String::new();
    let is_there = || {
        text = std::fs::read_to_string(path).unwrap_or_default();
        !text.is_empty()
    };
    assert!(wait_until(is_there), "{} never came", path.display());
    text
}

/// Whether it runs. Of one that has lost its parent the system's first process may take its time to hear.
fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn a_stream_that_fails_has_the_hook_run_with_what_there_is_to_know_and_nothing_else() {
    let (root, home) = (scratch(), scratch());
    let told = home.path().join("told");
    let hook = script(
        home.path(),
        "env -0 > \"$1.new\"; printf '%s' \"$2\" > \"$1.second\"; mv \"$1.new\" \"$1\"",
    );
    let config = section(&hook, &[told.to_str().unwrap(), "two words; $(no shell)"], "");
    let daemon =
        Daemon::start_under(&["env", "SECRET=of the daemon", "TZ=UTC"], root.path(), &config);
    let path = root.path().join("fi\nlm \"1\".mkv");
    let stream = fail(&daemon, &path);
    let text = content(&told);
    let variables = text.split_terminator('\0').map(|line| line.split_once('=').unwrap());
    let variables: BTreeMap<_, _> = variables.collect();
    let own = std::process::id().to_string();
    let uid = rustix::process::getuid().as_raw().to_string();
    for (name, expected) in [
        ("FREEMKVD_EVENT", "stream-failed"),
        ("FREEMKVD_STREAM", &stream.to_string()),
        ("FREEMKVD_PATH", path.to_str().unwrap()),
        ("FREEMKVD_CLIENT_PID", &own),
        ("FREEMKVD_CLIENT_UID", &uid),
        ("FREEMKVD_DURABLE", "17"),
        ("FREEMKVD_ERRNO", "27"),
        ("FREEMKVD_OFFSET", &(i64::MAX - 1).to_string()),
        ("TZ", "UTC"),
    ] {
        assert_eq!(variables.get(name), Some(&expected), "{name} of {variables:#?}");
    }
    let message = variables["FREEMKVD_MESSAGE"];
    assert!(message.starts_with(&format!("stream {stream} failed: cannot write ")), "{message}");
    let time = variables["FREEMKVD_TIME"];
    assert!(time.starts_with("20") && time.ends_with('Z') && time.len() == 27, "{time}");
    // PWD and the like are the shell's own.
    let known =
        ["FREEMKVD_", "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR"];
    let known = known.into_iter().chain(["XDG_RUNTIME_DIR", "PWD", "OLDPWD", "SHLVL", "_"]);
    let known: Vec<_> = known.collect();
    let strange = variables.keys().find(|name| !known.iter().any(|known| name.starts_with(known)));
    assert_eq!(strange, None);
    let second = std::fs::read_to_string(home.path().join("told.second")).unwrap();
    assert_eq!(second, "two words; $(no shell)");
}

#[test]
fn it_inherits_no_descriptor_no_signal_and_no_directory() {
    let (root, home) = (scratch(), scratch());
    let told = home.path().join("told");
    let content_of = "{ ls -l /proc/self/fd; grep Sig /proc/self/status; echo pwd $(pwd); \
                      echo group $(cut -d' ' -f5 /proc/$$/stat) $$; } > \"$1.new\" 2>&1; mv \"$1.new\" \"$1\"";
    let hook = script(home.path(), content_of);
    let daemon = Daemon::start(root.path(), &section(&hook, &[told.to_str().unwrap()], ""));
    let neighbour = Neighbour::start(&daemon, root.path());
    fail(&daemon, &root.path().join("film.mkv"));
    let text = content(&told);
    // What the daemon has from us, we have from whoever runs the tests.
    let ours = Command::new("ls").args(["-l", "/proc/self/fd"]).output().unwrap().stdout;
    let ours = String::from_utf8(ours).unwrap();
    let open = |text: &str| {
        let places = text.lines().filter_map(|line| line.split_once(" -> "));
        let number = |front: &str| front.rsplit(' ').next().unwrap().parse::<u32>().unwrap();
        places.map(|(front, place)| (number(front), place.to_owned())).collect::<Vec<_>>()
    };
    let (all, ours) = (open(&text), open(&ours));
    let of_hook: Vec<_> =
        all.iter().filter(|(number, _)| ours.iter().all(|(n, _)| n != number || *n < 4)).collect();
    let file = format!("{}.new", told.display());
    let places: Vec<_> = of_hook.iter().map(|(_, place)| place.as_str()).take(3).collect();
    assert_eq!(places, ["/dev/null", &file, &file]);
    // The fourth is the listing's own.
    assert!(of_hook.len() == 4 && of_hook[3].1.starts_with("/proc/"), "{text}");
    let signals = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        u64::from_str_radix(line.unwrap().trim(), 16).unwrap()
    };
    // 32 and 33 are the C library's own.
    let ignored = signals("SigIgn:") & !(3 << 31);
    assert_eq!((signals("SigBlk:"), ignored), (0, 0), "{text}");
    assert!(text.contains("\npwd /\n"), "{text}");
    let group = text.lines().find_map(|line| line.strip_prefix("group ")).unwrap();
    let (group, own) = group.split_once(' ').unwrap();
    assert_eq!(group, own, "a process group of its own");
    neighbour.assert_unharmed();
}

#[test]
fn what_it_says_and_how_it_fails_is_logged() {
    let (root, home) = (scratch(), scratch());
    let hook = script(home.path(), "printf 'on\\033[31me\\n'; echo two >&2; seq 1000; exit 3");
    let daemon = Daemon::start(root.path(), &section(&hook, &[], ""));
    let stream = fail(&daemon, &root.path().join("film.mkv"));
    let line = daemon.wait_for_log(&["WARN", "the hook for stream-failed of stream"]);
    for words in [
        format!("of stream {stream}, "),
        "failed with exit status: 3".to_owned(),
        hook.display().to_string(),
    ] {
        assert!(line.contains(&words), "{words} is not in: {line}");
    }
    let said = |words: &str| format!("the hook says for stream-failed: {words}");
    daemon.wait_for_log(&["INFO", &said("on\\u{1b}[31me")]);
    daemon.wait_for_log(&["INFO", &said("two")]);
    daemon.wait_for_log(&["INFO", &said("(lines more: 951)")]);
    assert!(daemon.log().matches("the hook says").count() < 60);
}

#[test]
fn one_that_hangs_is_ended_with_its_children_and_everybody_else_goes_on() {
    let (root, home) = (scratch(), scratch());
    let pids = home.path().join("pids");
    // A child of it ignores the first signal.
    let hook = script(
        home.path(),
        "sh -c 'trap \"\" TERM; echo $$ $PPID > \"$1.new\"; mv \"$1.new\" \"$1\"; while :; do sleep 1000; done' - \"$1\"",
    );
    let config = section(&hook, &[pids.to_str().unwrap()], "timeout = \"1s\"");
    let daemon = Daemon::start(root.path(), &config);
    let neighbour = Neighbour::start(&daemon, root.path());
    fail(&daemon, &root.path().join("film.mkv"));
    let pids = content(&pids);
    assert!(pids.split_whitespace().all(is_alive));
    let mut other = daemon.options().create(root.path().join("other.mkv")).unwrap();
    write_pattern(&mut other, 2, 0, 16 * MIB).unwrap();
    other.finish().unwrap();
    daemon.wait_for_log(&["WARN", "was ended, as it ran for more than 1s (hook.timeout)"]);
    assert!(wait_until(|| !pids.split_whitespace().any(is_alive)), "it is still there");
    neighbour.assert_unharmed();
}

#[test]
fn a_child_that_it_leaves_behind_holds_nothing_up() {
    let (root, home) = (scratch(), scratch());
    let pids = home.path().join("pids");
    // The second one is in a session of its own, and keeps the pipe for ever.
    let hook = script(
        home.path(),
        "sleep 1000 & echo $! > \"$1.new\"; setsid sleep 1000 & echo $! >> \"$1.new\"; sleep 0.2; \
         echo \"left for $FREEMKVD_STREAM\"; mv \"$1.new\" \"$1\"",
    );
    let daemon = Daemon::start(root.path(), &section(&hook, &[pids.to_str().unwrap()], ""));
    let mut begun = Instant::now();
    for name in ["one", "two"] {
        let stream = fail(&daemon, &root.path().join(name));
        daemon.wait_for_log(&[&format!("left for {stream}")]);
        let text = content(&pids);
        std::fs::remove_file(&pids).unwrap();
        let [in_group, apart] = text.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("{text}")
        };
        assert!(wait_until(|| !is_alive(in_group)), "it was left in its group");
        kill_process(Pid::from_raw(apart.parse().unwrap()).unwrap(), Signal::KILL).unwrap();
        // Not by the limit, which is 30 seconds.
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        begun = Instant::now();
    }
    assert!(!daemon.log().contains("WARN the hook"), "{}", daemon.log());
}

#[test]
fn one_that_does_not_exist_is_a_warning_and_a_reload_brings_another() {
    let (root, home) = (scratch(), scratch());
    let config = section(Path::new("/nonexistent/hook"), &[], "");
    let daemon = Daemon::start(root.path(), &config);
    let first = fail(&daemon, &root.path().join("first.mkv"));
    daemon.wait_for_log(&["the hook says for stream-failed: cannot be run: No such file"]);
    let line = daemon
        .wait_for_log(&["WARN", "/nonexistent/hook, failed with exit status: 127; see above"]);
    assert!(line.contains(&format!("of stream {first}, ")), "{line}");

    let hook = script(home.path(), "echo \"this is for $FREEMKVD_STREAM\"");
    std::fs::write(daemon.config_file(), section(&hook, &[], "stall = \"5min\"")).unwrap();
    daemon.signal(Signal::HUP);
    let line = daemon.wait_for_log(&["configuration reloaded", "hook.command from"]);
    assert!(line.contains("hook.stall from 1m to 5m; needs a restart: nothing"), "{line}");
    let second = fail(&daemon, &root.path().join("second.mkv"));
    daemon.wait_for_log(&[&format!("this is for {second}")]);

    std::fs::write(daemon.config_file(), "").unwrap();
    daemon.signal(Signal::HUP);
    daemon.wait_for_log(&["configuration reloaded", "hook.command from", " to nothing"]);
    let third = fail(&daemon, &root.path().join("third.mkv"));
    let (_, log) = daemon.stop();
    for stream in [first, third] {
        assert!(!log.contains(&format!("this is for {stream}")), "{log}");
    }
}

#[test]
fn a_stop_waits_for_no_hook_and_leaves_none_behind() {
    let (root, home) = (scratch(), scratch());
    let pid = home.path().join("pid");
    let hook = script(
        home.path(),
        "echo $$ > \"$1.new\"; mv \"$1.new\" \"$1\"; trap '' TERM; sleep 1000; sleep 1000",
    );
    let daemon = Daemon::start(root.path(), &section(&hook, &[pid.to_str().unwrap()], ""));
    for name in ["one", "two"] {
        fail(&daemon, &root.path().join(name));
    }
    let pid = content(&pid);
    let since = Instant::now();
    let (end, log) = daemon.stop();
    assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
    assert!(end.success(), "{end}; {log}");
    assert!(wait_until(|| !is_alive(&pid)), "it is still there");
    assert!(log.contains("was ended, as the daemon ends"), "{log}");
    assert!(log.contains("events for which the hook was not run: 1, as the daemon ends"), "{log}");
}

#[test]
fn what_fails_in_a_stop_is_told_before_its_end() {
    let (root, home) = (scratch(), scratch());
    let hook = script(home.path(), "echo \"told of $FREEMKVD_STREAM\"");
    let daemon = Daemon::start(root.path(), &section(&hook, &[], ""));
    let (mut file, stream, held) = stuck(&daemon, &root.path().join("film.mkv"));
    file.seek(SeekFrom::Start(i64::MAX as u64 - 1)).unwrap();
    file.write_all(b"x").unwrap();
    file.sync_all_timeout(Duration::from_millis(50)).unwrap_err();
    daemon.wait_for("a byte in the queue", |status| status.budget.queued_bytes == 1);
    daemon.signal(Signal::TERM);
    daemon.wait_for_log(&["stopping: taking no new streams"]);
    drop(held);
    let (_, log) = daemon.wait();
    assert!(log.contains(&format!("told of {stream}")), "{log}");
}

#[test]
fn more_than_it_can_take_are_left_out_and_counted() {
    let (root, home) = (scratch(), scratch());
    let gate = home.path().join("gate");
    assert!(Command::new("mkfifo").arg(&gate).status().unwrap().success());
    let hook =
        script(home.path(), "echo \"has $FREEMKVD_STREAM\"; read line < \"$1\"; echo \"went on\"");
    let daemon = Daemon::start(root.path(), &section(&hook, &[gate.to_str().unwrap()], ""));
    let first = fail(&daemon, &root.path().join("first.mkv"));
    daemon.wait_for_log(&[&format!("has {first}")]);
    for number in 0..70 {
        fail(&daemon, &root.path().join(format!("{number}.mkv")));
    }
    // Of the failed streams of a user so many are remembered; what is seen of them is seen before.
    daemon.wait_for("the last of them to be seen", |status| status.streams.len() == 64);
    let mut opened = File::options().read(true).write(true).open(&gate).unwrap();
    opened.write_all(&[b'\n'; 100]).unwrap();
    let line = daemon
        .wait_for_log(&["WARN", "events for which the hook was not run: 6, as it takes longer"]);
    assert!(line.contains("see hook.timeout"), "{line}");
    assert!(wait_until(|| daemon.log().matches("went on").count() == 65), "{}", daemon.log());
}
