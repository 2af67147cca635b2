//! What the hook is told of disks that stand still and of disks that are full; all else about it is in
//! `tests/e2e/hook.rs`.
//!
//! Injected:
//! * a file system that is frozen (`fsfreeze`): `write` hangs;
//! * ENOSPC at `write`: a small ext4, of which a file takes the rest.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use freemkvd_proto::status::StreamState;
use freemkvd_tests::daemon::{Daemon, wait_until};

use super::MIB;
use super::disk::Frozen;
use super::place::{Place, work};
use super::support::{Muxer, finish_all};

/// A daemon whose hook prints what it is told.
fn daemon(home: &Path, more: &str) -> Daemon {
    let hook = home.join("hook");
    let content = "#!/bin/sh\nenv | grep ^FREEMKVD_ | sort | tr '\\n' '|'; echo\n";
    std::fs::write(&hook, content).unwrap();
    std::fs::set_permissions(&hook, PermissionsExt::from_mode(0o755)).unwrap();
    Daemon::start(&work(), &format!("[hook]\ncommand = [{hook:?}]\n{more}\n"))
}

/// What it was told of each such event of this stream.
fn told(daemon: &Daemon, event: &str, stream: u64) -> Vec<String> {
    let words = [format!("FREEMKVD_EVENT={event}|"), format!("|FREEMKVD_STREAM={stream}|")];
    let log = daemon.log();
    let lines = log.lines().filter(|line| line.contains("the hook says"));
    lines.filter(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned).collect()
}

fn wait_for(daemon: &Daemon, event: &str, stream: u64, count: usize) -> Vec<String> {
    let is_told = || told(daemon, event, stream).len() >= count;
    assert!(wait_until(is_told), "{event} of stream {stream} was not told:\n{}", daemon.log());
    told(daemon, event, stream)
}

#[test]
#[ignore = "needs root: loop devices"]
fn each_stall_is_told_once_and_only_of_those_who_stand_still() {
    let home = tempfile::tempdir_in(work()).unwrap();
    let (sick, well) = (Place::new("ext4", 1024), Place::new("ext4", 1024));
    let daemon = daemon(home.path(), "stall = \"2s\"");
    let start = |place: &Place, seed| {
        Muxer::start(&daemon.options(), place.dir().join("film"), seed, 400 * MIB)
    };
    let muxers = vec![start(&sick, 1), start(&well, 2)];
    let (stalled, other) = (muxers[0].stream, muxers[1].stream);
    for count in [1, 2] {
        let frozen = Frozen::new(sick.dir());
        // It may have written all of it by then: a call that hangs is only made for something.
        let lines = wait_for(&daemon, "stream-stalled", stalled, count);
        let line = lines.last().unwrap();
        for words in ["FREEMKVD_CALL=", &format!("FREEMKVD_PATH={}/film|", sick.dir().display())] {
            assert!(line.contains(words), "{words} is not in: {line}");
        }
        let sentence = format!("FREEMKVD_MESSAGE=stream {stalled} has been stalled in ");
        assert!(line.contains(&sentence), "{line}");
        let seconds =
            line.split("|FREEMKVD_SECONDS=").nth(1).and_then(|rest| rest.split('|').next());
        let seconds: u64 = seconds.and_then(|seconds| seconds.parse().ok()).unwrap_or(0);
        assert!(seconds >= 2 && line.contains(&format!(" for {seconds}s: ")), "{line}");
        // Of a stall that goes on nothing more is told.
        daemon.wait_for("a long stall", |status| {
            let stream = status.streams.iter().find(|stream| stream.id == stalled);
            stream.is_some_and(|stream| stream.state_seconds >= 5)
        });
        assert_eq!(told(&daemon, "stream-stalled", stalled).len(), count);
        let written = written(&daemon, stalled);
        drop(frozen);
        daemon.wait_for("it to go on", |_| self::written(&daemon, stalled) > written);
    }
    assert_eq!(told(&daemon, "stream-stalled", other), [""; 0]);
    finish_all(muxers);
}

#[test]
#[ignore = "needs root: loop devices"]
fn one_that_hangs_in_the_kernel_is_said_and_holds_up_no_stream_and_no_stop() {
    let home = tempfile::tempdir_in(work()).unwrap();
    let (sick, well) = (Place::new("ext4", 64), Place::new("ext4", 64));
    let (hook, mark) = (home.path().join("hook"), sick.dir().join("mark"));
    let content = format!("#!/bin/sh\necho begun\nexec touch {}\n", mark.display());
    std::fs::write(&hook, content).unwrap();
    std::fs::set_permissions(&hook, PermissionsExt::from_mode(0o755)).unwrap();
    let config = format!(
        "[hook]\ncommand = [{hook:?}]\ntimeout = \"1s\"\n[stream]\nno_space_wait = \"0s\"\n"
    );
    let daemon = Daemon::start(&work(), &config);
    let frozen = Frozen::new(sick.dir());
    let options = daemon.options().window_bytes(MIB).memory_limit_bytes(8 * MIB);
    Muxer::start(&options, well.dir().join("long"), 1, 80 * MIB).error();
    daemon.wait_for_log(&["the hook was killed and does not end, as it hangs in the kernel"]);
    std::fs::remove_file(well.dir().join("long")).unwrap();
    let other = Muxer::start(&options, well.dir().join("short"), 2, 16 * MIB);
    assert!(wait_until(|| other.is_over()));
    other.finish();
    // It is given up, or this would not end: what hangs is let go of behind it.
    let (end, log) = daemon.stop();
    assert_eq!(log.matches("begun").count(), 1, "{log}");
    assert!(end.success(), "{log}");
    assert!(log.contains("was ended, as the daemon ends"), "{log}");
    drop(frozen);
}

fn written(daemon: &Daemon, stream: u64) -> u64 {
    let status = daemon.status();
    let stream = status.streams.iter().find(|found| found.id == stream);
    stream.map_or(u64::MAX, |stream| stream.written_bytes)
}

#[test]
#[ignore = "needs root: loop devices"]
fn each_wait_for_space_is_told_once_and_so_is_the_failure_after_it() {
    let home = tempfile::tempdir_in(work()).unwrap();
    let place = Place::new("ext4", 128);
    let filler = place.fill_up_to(24);
    let daemon = daemon(home.path(), "[stream]\nno_space_wait = \"8s\"");
    let options = daemon.options().window_bytes(MIB).memory_limit_bytes(8 * MIB);
    let options = options.drop_wait(Duration::from_millis(100));
    let first = Muxer::start(&options, place.dir().join("one"), 1, 40 * MIB);
    let lines = wait_for(&daemon, "stream-no-space", first.stream, 1);
    for words in ["FREEMKVD_MISSING_BYTES=", " waits for space on ", " and gives up in "] {
        assert!(lines[0].contains(words), "{words} is not in: {lines:?}");
    }
    drop(filler);
    assert!(wait_until(|| first.is_over()), "{:#?}", daemon.status());
    let stream = first.stream;
    first.finish();
    assert_eq!(told(&daemon, "stream-no-space", stream).len(), 1);

    let _filler = place.fill_up_to(24);
    let second = Muxer::start(&options, place.dir().join("two"), 2, 40 * MIB);
    let stream = second.stream;
    wait_for(&daemon, "stream-no-space", stream, 1);
    daemon.wait_for("the end of its patience", |status| {
        status.streams.iter().any(|found| found.id == stream && found.state == StreamState::Failed)
    });
    let lines = wait_for(&daemon, "stream-failed", stream, 1);
    assert!(lines[0].contains("FREEMKVD_ERRNO=28|"), "{lines:?}");
    assert_eq!(told(&daemon, "stream-no-space", stream).len(), 1);
    second.error();
}
