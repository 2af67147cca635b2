//! A device that takes nothing any more, for long enough to be given up by the budget: the streams of others
//! keep their speed, status names what hangs, a stuck stream can be given up, and everything goes on by itself
//! when the device does.
//!
//! Injected, one in each test:
//! * a disk that takes 1 byte per second (blkio throttle): `write` returns, writeback never ends;
//! * a file system that is frozen (`fsfreeze`): `write` itself hangs;
//! * a FUSE server that answers nothing (SIGSTOP): every call hangs, `open` and `statfs` too.
//!
//! `FREEMKVD_WEDGED_SECONDS` makes it last longer, and the run without it that it is compared with.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use freemkvd_client::{Error, ErrorCode};
use freemkvd_proto::status::{Device, DeviceState, Status, StreamState};
use freemkvd_tests::daemon::{Daemon, wait_until};

use super::disk::{Frozen, Throttled};
use super::place::{Place, Pool, Stopped, work};
use super::support::{Muxer, freemkvctl_status};
use super::watch::{Sample, status_latency, watch};

/// Of each disk.
const BYTES_PER_SECOND: u64 = 40_000_000;

/// Suspect after two seconds, wedged after 30 more.
const LASTS: Duration = Duration::from_secs(36);

/// What it is compared with.
const WITHOUT: Duration = Duration::from_secs(10);

/// The first seconds are a slow start.
const START: Duration = Duration::from_secs(4);

const LEN_MAX: u64 = 8 << 30;

/// Three disks, one of which will be sick.
struct Disks {
    _throttled: Vec<Throttled>,
    pool: Option<Pool>,
    sick: Place,
    well: [Place; 2],
}

impl Disks {
    fn new(sick: &'static str, has_pool: bool) -> Self {
        let well = [Place::new("xfs", 8192), Place::new("btrfs", 8192)];
        let sick = Place::new(sick, 8192);
        let pool = has_pool.then(|| Pool::over(sick.dir()));
        let all = well.iter().chain([&sick]);
        let throttled = all.map(|place| place.disk().throttle(BYTES_PER_SECOND)).collect();
        Self { _throttled: throttled, pool, sick, well }
    }

    fn sick_dir(&self) -> &Path {
        self.pool.as_ref().map_or(self.sick.dir(), Pool::dir)
    }
}

/// A muxer on each disk, and one more on the sick one.
struct Rips {
    sick: Vec<Muxer>,
    well: Vec<Muxer>,
}

impl Rips {
    fn start(daemon: &Daemon, disks: &Disks) -> Self {
        let start = |dir: &Path, name: &str, seed: u64| {
            Muxer::start(&daemon.options(), dir.join(name), seed, LEN_MAX)
        };
        let well = disks.well.iter().zip(1..).map(|(place, seed)| start(place.dir(), "film", seed));
        let well = well.collect();
        let sick =
            ["one", "two"].iter().zip(11..).map(|(name, seed)| start(disks.sick_dir(), name, seed));
        Self { sick: sick.collect(), well }
    }

    fn paths(&self) -> Vec<PathBuf> {
        self.sick.iter().chain(&self.well).map(|muxer| muxer.path().to_owned()).collect()
    }

    fn finish(self) {
        let paths = self.paths();
        super::support::finish_all(self.sick.into_iter().chain(self.well).collect());
        paths.iter().for_each(|path| std::fs::remove_file(path).unwrap());
    }
}

/// What the muxers of the well devices felt: MB/s of each, and the longest of all their calls.
fn felt(well: &[Muxer], lasted: Duration) -> (Vec<f64>, Duration) {
    let felt: Vec<_> = well.iter().map(Muxer::felt).collect();
    let speeds = felt.iter().map(|(bytes, _)| *bytes as f64 / 1e6 / lasted.as_secs_f64());
    (speeds.collect(), felt.iter().map(|(_, longest)| *longest).max().unwrap())
}

/// Looks at the daemon for this long, and what the well muxers felt then.
fn measure(daemon: &Daemon, rips: &Rips, lasts: Duration) -> (Vec<Sample>, Vec<f64>, Duration) {
    let _ = felt(&rips.well, lasts);
    let since = Instant::now();
    let samples = watch(daemon, lasts);
    let (speeds, longest) = felt(&rips.well, since.elapsed());
    (samples, speeds, longest)
}

fn lasts(default: Duration) -> Duration {
    let seconds = std::env::var("FREEMKVD_WEDGED_SECONDS").ok();
    seconds.map_or(default, |seconds| Duration::from_secs(seconds.parse().unwrap()))
}

fn sick_device<'a>(status: &'a Status, disks: &Disks) -> &'a Device {
    let mount = disks.sick_dir().to_str().unwrap();
    let found = status.devices.iter().find(|device| device.mount.as_deref() == Some(mount));
    found.unwrap_or_else(|| panic!("no {mount}: {status:#?}"))
}

/// What is done to the sick device, as long as this lives.
#[expect(dead_code, reason = "only what they do when they are dropped matters")]
enum Wedged<'a> {
    Throttled(Throttled),
    Frozen(Frozen),
    Stopped(Stopped<'a>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    OneBytePerSecond,
    Frozen,
    ServerStopped,
}

impl Fault {
    fn inject(self, disks: &Disks) -> Wedged<'_> {
        match self {
            Self::OneBytePerSecond => Wedged::Throttled(disks.sick.disk().throttle(1)),
            Self::Frozen => Wedged::Frozen(Frozen::new(disks.sick.dir())),
            Self::ServerStopped => Wedged::Stopped(disks.pool.as_ref().unwrap().stop()),
        }
    }
}

/// The others keep their speed; then what is told and done about the sick device is looked at, and at last it is
/// healed.
fn others_keep_their_speed(fault: Fault, filesystem: &'static str, calls: &[&str]) {
    let disks = &Disks::new(filesystem, fault == Fault::ServerStopped);
    // Nothing is compiled while the device is sick.
    let _ = freemkvd_tests::programs::freemkvctl();
    let daemon = Daemon::start(&work(), "");
    let rips = Rips::start(&daemon, disks);
    std::thread::sleep(START);
    let (_, speeds_before, longest_before) = measure(&daemon, &rips, lasts(WITHOUT));
    rips.finish();

    let mut rips = Rips::start(&daemon, disks);
    std::thread::sleep(START);
    let wedged = fault.inject(disks);
    let (samples, speeds, longest) = measure(&daemon, &rips, lasts(LASTS));
    let (p99, most) = status_latency(&samples);
    let kept: Vec<_> =
        speeds.iter().zip(&speeds_before).map(|(now, before)| now / before).collect();
    eprintln!(
        "wedged, {fault:?}: others {speeds_before:.1?} MB/s without and {speeds:.1?} with it; longest write \
         {longest_before:.0?} and {longest:.0?}; {} status reports, p99 {p99:.1?}, most {most:.1?}",
        samples.len()
    );
    assert_told(&daemon, disks, calls);
    give_up(&daemon, &mut rips);
    refused(&daemon, disks);
    drop(wedged);

    // Of two streams one was given up; the other one goes on, and so does the device.
    daemon.wait_for("a device that goes on", |status| {
        let state = sick_device(status, disks).state;
        matches!(state, DeviceState::Recovering | DeviceState::Healthy)
    });
    rips.finish();
    daemon.wait_for("nothing left", |status| {
        status.budget.charged_bytes == 0 && status.streams.is_empty()
    });
    assert!(kept.iter().all(|kept| *kept >= 0.8), "they kept {kept:.2?}");
    assert!(longest <= longest_before.max(Duration::from_millis(500)) * 4, "{longest:?}");
    assert!(p99 < Duration::from_millis(200) && samples.len() > 300, "{p99:?}");
}

/// Status says that the device is given up, and in which call its streams are, where, and for how long.
fn assert_told(daemon: &Daemon, disks: &Disks, calls: &[&str]) {
    // On a busy machine it was given its last work later than the fault came.
    let last = &daemon.wait_for("a device that is wedged", |status| {
        sick_device(status, disks).state == DeviceState::Wedged
    });
    let device = sick_device(last, disks);
    assert_eq!(device.limit_bytes, 0);
    let mount = device.mount.as_deref().unwrap();
    let others = last.devices.iter().filter(|other| other.mount != device.mount);
    assert!(
        others.clone().count() == 2
            && others.into_iter().all(|other| other.state == DeviceState::Healthy)
    );
    let stuck = last
        .streams
        .iter()
        .find(|s| s.device.as_ref() == Some(&device.id) && s.blocked_in.is_some());
    let stuck = stuck.unwrap_or_else(|| panic!("nobody is blocked: {last:#?}"));
    let call = stuck.blocked_in.as_deref().unwrap();
    assert!(calls.contains(&call), "{call}");
    assert!(stuck.state_seconds >= 25, "{stuck:?}");
    let waiting = stuck.waiting_for.as_ref().unwrap();
    assert_eq!(waiting.what, format!("{call} on {mount}"));
    assert!(waiting.ms >= 25_000);

    let (text, code) = freemkvctl_status(daemon);
    eprintln!("{}", text.split("\nDEVICE").next().unwrap());
    assert_eq!(code, Some(4), "{text}");
    let line = text.lines().find(|line| line.starts_with(&format!("stalled in {call} for ")));
    let line = line.unwrap_or_else(|| panic!("{text}"));
    assert!(line.contains(&format!(" on {mount}: stream {}", stuck.id)), "{line}");
    let wedged = text.lines().find(|line| line.contains("has been wedged for"));
    assert!(wedged.is_some_and(|line| line.contains(mount)), "{text}");
}

/// A stream that is stuck in a call is given up from outside.
fn give_up(daemon: &Daemon, rips: &mut Rips) {
    let muxer = rips.sick.pop().unwrap();
    let (returned, heard) = muxer.give_up(daemon);
    eprintln!(
        "wedged: the abort returned after {returned:.1?}, its muxer heard of it after {heard:.1?}"
    );
    assert!(returned < Duration::from_secs(1) && heard < Duration::from_secs(2));
}

/// Nothing new is begun on it, and a hundred muxers that try for two seconds cost nothing that stays.
fn refused(daemon: &Daemon, disks: &Disks) {
    let (threads, descriptors) = (daemon.threads().len(), daemon.descriptors());
    let options = daemon.options().connect_timeout(Duration::from_secs(10));
    let end = Instant::now() + Duration::from_secs(2);
    let (mut most_threads, mut most_descriptors) = (0, 0);
    let refusals: u32 = std::thread::scope(|scope| {
        let muxers: Vec<_> = (0..100)
            .map(|number| {
                let (options, path) = (&options, disks.sick_dir().join(format!("new{number}")));
                scope.spawn(move || {
                    let mut refusals = 0;
                    while Instant::now() < end {
                        let error = options.create(&path).unwrap_err();
                        assert_eq!(error.code(), Some(ErrorCode::DEVICE_SILENT), "{error}");
                        assert!(matches!(error, Error::Failed { .. }), "{error:?}");
                        refusals += 1;
                        std::thread::sleep(Duration::from_millis(50));
                    }
                    refusals
                })
            })
            .collect();
        while Instant::now() < end {
            most_threads = most_threads.max(daemon.threads().len());
            most_descriptors = most_descriptors.max(daemon.descriptors());
            std::thread::sleep(Duration::from_millis(10));
        }
        muxers.into_iter().map(|muxer| muxer.join().unwrap()).sum()
    });
    eprintln!(
        "wedged: {refusals} opens refused; threads {threads}, then at most {most_threads}; descriptors \
         {descriptors}, then at most {most_descriptors}"
    );
    assert!(most_threads <= threads + 2, "{:?}", daemon.threads());
    // A connection and the memory that comes with it, for each who asks at this moment.
    assert!(most_descriptors <= descriptors + 200, "{most_descriptors}");
    assert!(wait_until(|| daemon.descriptors() <= descriptors + 2), "{}", daemon.descriptors());
    let no_new = |status: &Status| status.streams.iter().all(|s| s.state != StreamState::Opening);
    assert!(no_new(&daemon.status()));
}

#[test]
#[ignore = "needs root: loop devices"]
fn a_disk_that_takes_nothing_costs_the_others_nothing_and_goes_on_by_itself() {
    others_keep_their_speed(Fault::OneBytePerSecond, "ext4", &["sync_file_range"]);
}

#[test]
#[ignore = "needs root: loop devices"]
fn a_file_system_in_which_write_hangs_costs_the_others_nothing_and_goes_on_by_itself() {
    others_keep_their_speed(Fault::Frozen, "ext4", &["pwrite"]);
}

#[test]
#[ignore = "needs root: a FUSE mount"]
fn a_server_that_hangs_costs_the_others_nothing_and_goes_on_by_itself() {
    others_keep_their_speed(Fault::ServerStopped, "ext4", &["pwrite", "fdatasync"]);
}
