//! Files that come with their streams, from a client that serves them itself and does not answer: it waits alone,
//! and for a bounded number of threads.
//!
//! Injected: a FUSE server that answers nothing (SIGSTOP), by whose files clients open streams.

use std::fs::File;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use freemkvd_proto::status::StreamState;
use freemkvd_proto::{Command, OpenGiven, Reply};
use freemkvd_tests::daemon::{Daemon, wait_until};
use freemkvd_tests::peer::{Peer, giving};
use freemkvd_tests::slots::Slots;

use super::place::{Place, Pool, work};
use super::support::write_pattern;
use super::{MIB, mount};

/// As in `silent.rs`.
const HANGING: usize = 8;

const CLIENTS: usize = 30;

/// Somebody else's whole rip, and how long it took.
fn elsewhere(daemon: &Daemon) -> Duration {
    let dir = tempfile::tempdir_in(mount("xfs")).unwrap();
    let since = Instant::now();
    let mut file = daemon.options().create(dir.path().join("film")).unwrap();
    write_pattern(&mut file, 1, 0, MIB).unwrap();
    file.finish().unwrap();
    let _ = daemon.status();
    since.elapsed()
}

/// Two descriptors of each of so many files.
fn files(pool: &Pool, count: usize) -> Vec<[File; 2]> {
    let name = |number: usize| pool.dir().join(number.to_string());
    (0..count)
        .map(|number| {
            let data = File::create(name(number)).unwrap();
            [data, File::options().write(true).open(name(number)).unwrap()]
        })
        .collect()
}

#[test]
#[ignore = "needs root: a FUSE mount"]
fn files_of_a_server_that_hangs_cost_a_few_threads_and_nobody_else_any_time() {
    let below = Place::new("ext4", 128);
    let pool = Pool::over(below.dir());
    let daemon = Daemon::start(&work(), "");
    let threads = daemon.threads().len();
    let files = files(&pool, CLIENTS);
    // What the kernel has been told of them is old by then, and it asks again.
    std::thread::sleep(Duration::from_millis(1500));
    let stopped = pool.stop();
    let mut peers: Vec<_> = files
        .iter()
        .map(|[data, sentinel]| {
            let mut peer = Peer::greet(daemon.socket());
            let open = OpenGiven { empties: true, ..giving("film") };
            peer.give(open, &[data.as_fd(), sentinel.as_fd()]);
            peer
        })
        .collect();
    daemon.wait_for("all of them", |status| status.streams.len() == CLIENTS);
    let calls = |status: &freemkvd_proto::status::Status| {
        status.streams.iter().filter(|stream| stream.state == StreamState::Opening).count()
    };
    let status = daemon.status();
    assert_eq!(calls(&status), CLIENTS, "{status:?}");
    let longest = (0..10).map(|_| elsewhere(&daemon)).max().unwrap();
    assert!(longest < Duration::from_secs(5), "{longest:?}");
    // Those that hang in a call are few; the others have a thread only while their client is there.
    let stay = peers.split_off(CLIENTS - 1);
    drop(peers);
    let few = || daemon.threads().len() <= threads + HANGING + stay.len();
    assert!(wait_until(few), "{:?}", daemon.threads());
    eprintln!(
        "given, hung server: {threads} threads, {} then; elsewhere {longest:.1?}",
        daemon.threads().len()
    );
    drop(stopped);
    drop(stay);
    drop(files);
    assert!(wait_until(|| daemon.threads().len() <= threads + 1), "{:?}", daemon.threads());
}

#[test]
#[ignore = "needs root: a FUSE mount"]
fn what_is_refused_and_can_not_be_closed_keeps_nobody_waiting() {
    let below = Place::new("ext4", 128);
    let pool = Pool::over(below.dir());
    let daemon = Daemon::start(&work(), "");
    let (threads, descriptors) = (daemon.threads().len(), daemon.descriptors());
    let files = files(&pool, CLIENTS);
    std::thread::sleep(Duration::from_millis(1500));
    let stopped = pool.stop();
    let memory = Slots::new(1);
    for [data, sentinel] in &files {
        // A file is no memory, a request has no use for one, and three are too many.
        let mut peer = Peer::greet(daemon.socket());
        let shared = OpenGiven { transfer: memory.transfer(), ..giving("film") };
        peer.give(shared, &[data.as_fd(), sentinel.as_fd(), data.as_fd()]);
        peer.failure();
        let mut peer = Peer::greet(daemon.socket());
        peer.send_with(&Command::Status.encode(1).unwrap(), &[data.as_fd()]);
        peer.failure();
        let mut peer = Peer::greet(daemon.socket());
        peer.give(giving("film"), &[data.as_fd(), sentinel.as_fd(), data.as_fd()]);
        peer.failure();
    }
    let longest = (0..10).map(|_| elsewhere(&daemon)).max().unwrap();
    assert!(longest < Duration::from_secs(5), "{longest:?}");
    let closing = daemon.threads();
    assert_eq!(closing.iter().filter(|(name, _)| name.starts_with("close:")).count(), 1);
    eprintln!(
        "refused, hung server: {descriptors} descriptors, {} wait; elsewhere {longest:.1?}",
        daemon.descriptors()
    );
    drop(stopped);
    drop(files);
    let is_as_before =
        || daemon.threads().len() <= threads + 1 && daemon.descriptors() <= descriptors + 1;
    assert!(wait_until(is_as_before), "{:?}", daemon.threads());
    let mut peer = Peer::greet(daemon.socket());
    peer.command(1, &Command::Status);
    assert!(matches!(peer.reply(), Some((1, Reply::FullReport(_)))));
}

/// Starts the daemon as systemd does that has files of streams of which nobody knows, and the one of `$0`, whose
/// server answers nothing any more.
const WITH_A_HUNG_FILE: &str = r#"
    exec 3<>"$0/film" 4<>"$0/film" 5<>"$0/film"
    kill -STOP "$SERVER"
    export LISTEN_PID=$$ LISTEN_FDS=3 LISTEN_FDNAMES=stream-7-data:stream-7-sentinel:stream-8-data
    exec "$@""#;

#[test]
#[ignore = "needs root: a FUSE mount"]
fn what_systemd_has_kept_of_a_server_that_hangs_does_not_keep_the_daemon_from_its_start() {
    let below = Place::new("ext4", 128);
    let pool = Pool::over(below.dir());
    std::fs::write(pool.dir().join("film"), b"").unwrap();
    let server = format!("SERVER={}", pool.pid());
    let launcher = ["env", &server, "sh", "-c", WITH_A_HUNG_FILE, pool.dir().to_str().unwrap()];
    let since = Instant::now();
    let daemon = Daemon::start_under(&launcher, &work(), "");
    let started = since.elapsed();
    let longest = elsewhere(&daemon);
    let hangs = || daemon.threads().iter().any(|(name, _)| name == "close");
    let hung = wait_until(hangs);
    // Before anything can fail: a daemon whose thread hangs can't be ended.
    drop(pool.stop());
    eprintln!("kept, hung server: started in {started:.1?}; elsewhere {longest:.1?}");
    assert!(hung && wait_until(|| !hangs()), "{hung}, {:?}", daemon.threads());
    assert!(started.max(longest) < Duration::from_secs(5), "{started:?}, {longest:?}");
}
