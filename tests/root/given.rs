//! Files that come with their streams, from a client that serves them itself and does not answer: it waits alone,
//! and for a bounded number of threads.
//!
//! Injected: a FUSE server that answers nothing (SIGSTOP), by whose files clients open streams.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command as Program;
use std::time::{Duration, Instant};

use freemkvd_proto::status::StreamState;
use freemkvd_proto::{Command, OpenGiven, Reply};
use freemkvd_tests::daemon::{Daemon, wait_until};
use freemkvd_tests::peer::{Peer, giving};
use freemkvd_tests::slots::Slots;

use super::place::{Place, Pool, image, run, work};
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
    assert!(matches!(peer.reply(), Some((1, Reply::StatusReport(_)))));
}

/// A stream on a file below `dir`, whose mount goes away before the daemon sees the file.
fn opened_on_what_was_mounted(daemon: &Daemon, dir: &Path) -> (Peer, [File; 2]) {
    let data = File::create(dir.join("film")).unwrap();
    let sentinel = File::options().write(true).open(dir.join("film")).unwrap();
    run(Program::new("umount").arg("--lazy").arg(dir));
    let mut peer = Peer::greet(daemon.socket());
    peer.give(giving("/no/such/place/film"), &[data.as_fd(), sentinel.as_fd()]);
    peer.opened();
    (peer, [data, sentinel])
}

fn write_and_finish(mut peer: Peer, bytes: u64) {
    let piece = vec![7; 1 << 20];
    let count = bytes / MIB;
    (1..=count).for_each(|sequence| peer.content(sequence, &piece));
    peer.command(count + 1, &Command::Finish);
    let len = peer.until(|_, reply| match reply {
        Reply::Finished(finished) => Some(finished.len_bytes),
        Reply::Failed(failure) => panic!("{failure:?}"),
        _ => None,
    });
    assert_eq!(len, count * MIB);
}

/// Where a mount of the client's is none of the daemon's: a mount that is gone is in nobody's table, and its files
/// are still there for whoever has them open.
#[test]
#[ignore = "needs root: mounts"]
fn a_file_on_a_mount_that_the_daemon_can_not_see_is_on_the_device_that_it_is_on() {
    let place = Place::new("ext4", 128);
    let daemon = Daemon::start(&work(), "");
    let home = tempfile::tempdir_in(work()).unwrap();
    let other = home.path().join("other");
    std::fs::create_dir(&other).unwrap();
    run(Program::new("mount").arg("--bind").arg(place.dir()).arg(&other));
    let (peer, files) = opened_on_what_was_mounted(&daemon, &other);
    let mut by_path = daemon.options().create(place.dir().join("by path")).unwrap();
    write_pattern(&mut by_path, 1, 0, MIB).unwrap();
    let status = daemon.status();
    let device = &status.devices[0];
    assert_eq!((status.devices.len(), device.filesystem.as_str()), (1, "ext4"), "{status:?}");
    assert_eq!(device.mount, place.dir().to_str().unwrap());
    by_path.finish().unwrap();
    write_and_finish(peer, 32 * MIB);
    drop(files);

    // And one of a device that is mounted nowhere here.
    let file = home.path().join("image");
    image("ext4", 128, &file);
    run(Program::new("mount").args(["-o", "loop"]).arg(&file).arg(&other));
    let (mut peer, files) = opened_on_what_was_mounted(&daemon, &other);
    peer.content(1, &vec![7; 1 << 20]);
    let status = daemon.wait_for("its drain", |status| {
        status.devices.iter().any(|device| device.mount == "(mounted elsewhere)")
    });
    let device = &status.devices[0];
    assert!(device.filesystem == "ext4" && device.id.starts_with("7:"), "{device:?}");
    assert_ne!(
        device.drain, "fdatasync",
        "by what it is, and not by what nobody calls it: {device:?}"
    );
    peer.command(2, &Command::Finish);
    peer.until(|_, reply| matches!(reply, Reply::Finished(_)).then_some(()));
    drop(files);
}
