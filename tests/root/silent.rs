//! A device that was dead before anybody had a file on it: the first `open` does not return. However often muxers
//! try, they cost a bounded number of threads, and nobody else can't begin because of them.
//!
//! Injected: a FUSE server that answers nothing (SIGSTOP), and a frozen file system, both from before the
//! daemon's first look at them.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use freemkvd_client::{Error, ErrorCode, RipFile};
use freemkvd_proto::status::StreamState;
use freemkvd_tests::daemon::{Daemon, wait_until};
use freemkvd_tests::pattern;

use super::disk::Frozen;
use super::place::{Place, Pool, work};
use super::support::{freemkvctl_status, write_pattern};
use super::{MIB, mount};

const MUXERS: u32 = 100;

/// An `open` that takes longer says that the device does not answer; after it, nobody waits for one more.
const LASTS: Duration = Duration::from_secs(26);
const SILENT: Duration = Duration::from_secs(20);

/// Shorter than muxers have it by default, so that each tries again and again.
const PATIENCE: Duration = Duration::from_secs(2);

/// Threads that may hang in the device, beside those of muxers that are there.
const HANGING: usize = 8;

/// What became of the tries.
#[derive(Debug, Default)]
struct Tries {
    late: AtomicU32,
    refused: AtomicU32,
    refused_early: AtomicU32,
}

impl Tries {
    fn try_until(&self, daemon: &Daemon, path: &Path, began: Instant) {
        let options = daemon.options().connect_timeout(PATIENCE).drop_wait(Duration::ZERO);
        while began.elapsed() < LASTS {
            let error = options.create(path).expect_err("an open on a dead device");
            match error.code() {
                Some(ErrorCode::DEVICE_SILENT) if began.elapsed() < SILENT => &self.refused_early,
                Some(ErrorCode::DEVICE_SILENT) => &self.refused,
                None if matches!(error, Error::TimedOut { .. }) => &self.late,
                _ => panic!("{error:?}"),
            }
            .fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Somebody else's whole rip, small as it is.
fn elsewhere(daemon: &Daemon, dir: &Path) -> Duration {
    let since = Instant::now();
    let mut file = daemon.options().create(dir.join("film")).unwrap();
    write_pattern(&mut file, 1, 0, MIB).unwrap();
    file.finish().unwrap();
    since.elapsed()
}

/// A hundred muxers try on `dead`, whose opens hang until `heals` is dropped.
fn tries_are_bounded<H>(what: &str, config: &str, dead: &Path, heals: H) {
    let _ = freemkvd_tests::programs::freemkvctl();
    let daemon = Daemon::start(&work(), config);
    let waits = config.contains("\"wait\"");
    let well = tempfile::tempdir_in(mount("xfs")).unwrap();
    let (threads, descriptors) = (daemon.threads().len(), daemon.descriptors());
    let (began, tries) = (Instant::now(), Tries::default());
    let (mut most_threads, mut most_descriptors) = (0, 0);
    let (mut longest, mut slowest_status) = (Duration::ZERO, Duration::ZERO);
    let mut told = String::new();
    std::thread::scope(|scope| {
        for number in 0..MUXERS {
            let (tries, daemon, path) = (&tries, &daemon, dead.join(format!("new{number}")));
            scope.spawn(move || tries.try_until(daemon, &path, began));
        }
        while began.elapsed() < LASTS {
            most_threads = most_threads.max(daemon.threads().len());
            most_descriptors = most_descriptors.max(daemon.descriptors());
            longest = longest.max(elsewhere(&daemon, well.path()));
            let since = Instant::now();
            let _ = daemon.status();
            slowest_status = slowest_status.max(since.elapsed());
            if told.is_empty() && began.elapsed() > Duration::from_secs(5) {
                told = freemkvctl_status(&daemon).0;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let left = daemon.threads().len();
    eprintln!(
        "silent, {what}, {config:?}: {tries:?}; threads {threads}, at most {most_threads}, {left} after; \
         descriptors {descriptors}, at most {most_descriptors}; a rip elsewhere took {longest:.1?} at most, \
         status {slowest_status:.1?}"
    );
    let line = told.lines().find(|line| line.starts_with("stalled in open for "));
    eprintln!("{line:?}");
    assert!(line.is_some_and(|line| line.contains(dead.to_str().unwrap())), "{told}");
    let refused = tries.refused.load(Ordering::Relaxed) > 0;
    assert_eq!(refused, !waits, "{tries:?}");
    // One that gave up and comes again may have two for a moment.
    assert!(most_threads <= threads + 2 * MUXERS as usize + HANGING, "{most_threads}");
    assert!(most_descriptors <= descriptors + 2 * MUXERS as usize + 50, "{most_descriptors}");
    assert!(longest < Duration::from_secs(5), "{longest:?}");
    assert!(wait_until(|| daemon.threads().len() <= threads + HANGING), "{:?}", daemon.threads());

    // Whoever waits when it heals, gets its file. Later ones do in any case.
    let path = dead.join("film");
    let write = |mut file: RipFile| {
        write_pattern(&mut file, 2, 0, MIB).unwrap();
        file.finish().unwrap();
    };
    if waits {
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| write(daemon.options().create(&path).unwrap()));
            daemon.wait_for("one that waits", |status| {
                let name = path.to_str().unwrap();
                status.streams.iter().any(|s| s.path == name && s.state == StreamState::Opening)
            });
            drop(heals);
            waiting.join().unwrap();
        });
    } else {
        drop(heals);
        let opens = || daemon.options().create(&path);
        let mut file = opens();
        assert!(wait_until(|| file.is_ok() || {
            file = opens();
            file.is_ok()
        }));
        write(file.unwrap());
    }
    assert_eq!(pattern::prefix_len(2, &path).unwrap(), MIB);
    daemon.wait_for("nothing left", |status| {
        let open = |state| !matches!(state, StreamState::Failed | StreamState::Abandoned);
        status.budget.charged_bytes == 0 && !status.streams.iter().any(|s| open(s.state))
    });
    assert!(wait_until(|| daemon.threads().len() <= threads + 2), "{:?}", daemon.threads());
}

const REFUSE: &str = "";
const WAIT: &str = "[stream]\nsilent_device = \"wait\"\n";

#[test]
#[ignore = "needs root: a FUSE mount"]
fn tries_on_a_server_that_hangs_are_refused_and_cost_nothing() {
    let below = Place::new("ext4", 128);
    let pool = Pool::over(below.dir());
    tries_are_bounded("hung server", REFUSE, pool.dir(), pool.stop());
}

#[test]
#[ignore = "needs root: a FUSE mount"]
fn tries_on_a_server_that_hangs_wait_if_they_are_to_and_cost_no_more_than_that() {
    let below = Place::new("ext4", 128);
    let pool = Pool::over(below.dir());
    tries_are_bounded("hung server", WAIT, pool.dir(), pool.stop());
}

#[test]
#[ignore = "needs root: loop devices"]
fn tries_on_a_frozen_file_system_are_refused_and_cost_nothing() {
    let place = Place::new("xfs", 300);
    tries_are_bounded("frozen", REFUSE, place.dir(), Frozen::new(place.dir()));
}
