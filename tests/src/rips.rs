//! Muxers that rip one title after the other, whatever becomes of the daemon meanwhile, and compare each
//! file with what they sent.
//!
//! Owns what a muxer may notice of a restart: how long calls kept it waiting, how much memory it held for
//! the replay. What it may not notice, an error or a wrong byte, ends the thread, and the test with it.

use std::fmt;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use freemkvd_client::{Error, Options, RipFile};
use freemkvd_proto::ErrorCode;

use crate::sink::Sink;
use crate::trace::{Kind, Trace};
use crate::verify::verify;

/// Shorter calls are not kept: nobody takes them for a pause, and there are thousands of them in a second.
const NOTICED: Duration = Duration::from_micros(500);

/// How long a muxer tries to begin a title while there is no daemon. What was begun waits by itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// What one muxer does.
#[derive(Clone, Copy, Debug)]
pub struct Rip {
    /// Which muxer.
    pub kind: Kind,
    /// Length of each title in seconds of content.
    pub content_seconds: f64,
    /// Times faster than the content; 0 for flat out.
    pub speed: f64,
    /// Whether content lies in shared slots.
    pub shared: bool,
    /// The patch window and the memory limit in bytes, if they are not the usual ones.
    pub memory: Option<(u64, u64)>,
}

const MIB: u64 = 1 << 20;

/// A UHD disc as it is ripped; a Blu-ray flat out with so small a window that every patch of a cluster
/// crosses the wire; a DVD through the socket; and an image with its second pass, flat out through the
/// socket.
pub const FOUR: [Rip; 4] = [
    Rip { kind: Kind::Uhd, content_seconds: 4.0, speed: 2.5, shared: true, memory: None },
    Rip {
        kind: Kind::Bd,
        content_seconds: 5.0,
        speed: 0.0,
        shared: true,
        memory: Some((MIB, 8 * MIB)),
    },
    Rip {
        kind: Kind::Dvd,
        content_seconds: 15.0,
        speed: 10.0,
        shared: false,
        memory: Some((2 * MIB, 12 * MIB)),
    },
    Rip { kind: Kind::Sweep, content_seconds: 2.0, speed: 0.0, shared: false, memory: None },
];

/// A call that kept its muxer waiting.
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    /// When it was made.
    pub begun: Instant,
    /// How long it took.
    pub took: Duration,
}

/// What muxers have done and noticed.
#[derive(Debug, Default)]
pub struct Tally {
    /// Files that were finished and found right.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Calls of `write`, `seek` and `write_zeroes` that took more than half a millisecond.
    pub waits: Vec<Wait>,
    /// How often streams went on with another daemon.
    pub resumes: u64,
    /// Most memory that one of them held to send it again, in bytes.
    pub kept_bytes_max: u64,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.files += other.files;
        self.bytes += other.bytes;
        self.resumes += other.resumes;
        self.kept_bytes_max = self.kept_bytes_max.max(other.kept_bytes_max);
        self.waits.extend(other.waits);
    }

    /// For each of `moments`, in order, the longest wait of a call that was under way between it and the
    /// next one; zero where no call was worth mentioning.
    #[must_use]
    pub fn pauses(&self, moments: &[Instant]) -> Pauses {
        let longest = |at: usize| {
            let from = moments[at];
            let to = moments.get(at + 1);
            let near = self.waits.iter().filter(|wait| {
                wait.begun + wait.took >= from && to.is_none_or(|to| wait.begun < *to)
            });
            near.map(|wait| wait.took).max().unwrap_or_default()
        };
        Pauses::of((0..moments.len()).map(longest).collect())
    }
}

/// How long something took each time, ascending: the longest wait around each of several moments, say.
#[derive(Clone, Debug)]
pub struct Pauses(Vec<Duration>);

impl Pauses {
    /// These, in any order.
    #[must_use]
    pub fn of(mut all: Vec<Duration>) -> Self {
        all.sort_unstable();
        Self(all)
    }

    /// So many percent took no longer.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Duration {
        let at = (self.0.len() * percent / 100).min(self.0.len().saturating_sub(1));
        self.0.get(at).copied().unwrap_or_default()
    }

    /// The longest.
    #[must_use]
    pub fn max(&self) -> Duration {
        self.0.last().copied().unwrap_or_default()
    }
}

impl fmt::Display for Pauses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |wait: Duration| wait.as_secs_f64() * 1e3;
        let (p50, p99) = (self.percentile(50), self.percentile(99));
        write!(f, "p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms", ms(p50), ms(p99), ms(self.max()))
    }
}

/// Muxers at work, each in a thread of its own.
#[derive(Debug)]
pub struct Rips {
    threads: Vec<(Rip, JoinHandle<Result<Tally, String>>)>,
    enough: Arc<AtomicBool>,
    halt: Arc<AtomicBool>,
}

impl Rips {
    /// Starts them. `options` lead to the daemon; titles go to `root` and are removed once they are
    /// compared. `seed` chooses their content.
    #[must_use]
    pub fn start(options: &Options, root: &Path, rips: &[Rip], seed: u64) -> Self {
        let (enough, halt) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let start = |(number, rip): (u64, &Rip)| {
            let muxer = Muxer {
                rip: *rip,
                options: rip.options(options.clone().halt(Arc::clone(&halt))),
                root: root.to_owned(),
                number,
                seed: seed.wrapping_add(number << 32),
                enough: Arc::clone(&enough),
            };
            (*rip, thread::spawn(move || muxer.run()))
        };
        let threads = (0..).zip(rips).map(start).collect();
        Self { threads, enough, halt }
    }

    /// True while none of them has had to give up.
    #[must_use]
    pub fn all_go_on(&self) -> bool {
        !self.threads.iter().any(|(_, thread)| thread.is_finished())
    }

    /// Lets each come to the end of its title.
    ///
    /// # Panics
    /// When one of them noticed what it may not notice.
    #[must_use]
    pub fn finish(mut self) -> Tally {
        self.enough.store(true, Ordering::Relaxed);
        let mut all = Tally::default();
        let mut wrong = Vec::new();
        for (rip, thread) in self.threads.drain(..) {
            match thread.join().expect("a muxer does not panic") {
                Ok(tally) => all.add(tally),
                Err(error) => wrong.push(format!("{} ({rip:?}): {error}", rip.kind)),
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        all
    }
}

impl Drop for Rips {
    /// After a panic of the test; whatever they wait for.
    fn drop(&mut self) {
        self.enough.store(true, Ordering::Relaxed);
        self.halt.store(true, Ordering::Relaxed);
        for (_, thread) in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Rip {
    fn options(&self, options: Options) -> Options {
        let options = options.shared_slots(self.shared);
        match self.memory {
            Some((window, limit)) => options.window_bytes(window).memory_limit_bytes(limit),
            None => options,
        }
    }
}

struct Muxer {
    rip: Rip,
    options: Options,
    root: PathBuf,
    number: u64,
    seed: u64,
    enough: Arc<AtomicBool>,
}

impl Muxer {
    fn run(self) -> Result<Tally, String> {
        let mut tally = Tally::default();
        while !self.enough.load(Ordering::Relaxed) {
            let title = self.seed + tally.files;
            let path = self.root.join(format!("{}-{title}.{}", self.number, self.rip.kind));
            self.rip_one(title, &path, &mut tally)
                .map_err(|error| format!("title {title}: {error}"))?;
            std::fs::remove_file(&path).map_err(|error| error.to_string())?;
        }
        Ok(tally)
    }

    /// One title; of an image, the second pass too.
    fn rip_one(&self, title: u64, path: &Path, tally: &mut Tally) -> Result<(), String> {
        let Rip { kind, content_seconds, .. } = self.rip;
        let trace = Trace { kind, seed: title, content_seconds };
        self.write(trace, path, tally).map_err(|error| error.to_string())?;
        tally.bytes += verify(&trace, path).map_err(|error| error.to_string())?;
        tally.files += 1;
        if kind == Kind::Sweep {
            let patch = Trace { kind: Kind::Patch, ..trace };
            self.write(patch, path, tally).map_err(|error| error.to_string())?;
            tally.bytes += verify(&patch, path).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn write(&self, trace: Trace, path: &Path, tally: &mut Tally) -> io::Result<()> {
        let file = self.begin(trace.kind, path)?;
        let start = Instant::now();
        let mut sink = Noticing { file, waits: Vec::new(), kept_bytes_max: 0 };
        trace.run_unbuffered(&mut sink, &mut |content| {
            if self.rip.speed > 0.0 {
                let due = start + Duration::from_secs_f64(content / self.rip.speed);
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        })?;
        let Noticing { mut file, waits, kept_bytes_max } = sink;
        tally.waits.extend(waits);
        tally.kept_bytes_max = tally.kept_bytes_max.max(kept_bytes_max);
        // Most muxers only finish.
        if trace.seed % 2 == 0 {
            file.sync_all()?;
        }
        let len = file.len_bytes();
        let finished = file.finish()?;
        tally.resumes += finished.progress.resumes;
        if finished.len_bytes != len {
            return Err(io::Error::other(format!("{finished:?} instead of {len} bytes")));
        }
        Ok(())
    }

    /// Opens the file, again and again while there is no daemon: that is for whoever starts a rip to see.
    fn begin(&self, kind: Kind, path: &Path) -> Result<RipFile, Error> {
        let end = Instant::now() + PATIENCE;
        loop {
            let opened = match kind {
                Kind::Patch => self.options.open(path),
                _ => self.options.create(path),
            };
            match opened {
                Err(error) if is_absence(&error) && Instant::now() < end => {
                    thread::sleep(Duration::from_millis(5));
                }
                other => return other,
            }
        }
    }
}

/// Nobody is there, or about to leave.
fn is_absence(error: &Error) -> bool {
    match error {
        Error::NoDaemon { .. } => true,
        Error::Refused { code, .. } => *code == ErrorCode::GOING_AWAY,
        Error::Failed { failure, .. } => failure.code == ErrorCode::GOING_AWAY,
        _ => false,
    }
}

/// A file that notices when it has to wait.
struct Noticing {
    file: RipFile,
    waits: Vec<Wait>,
    kept_bytes_max: u64,
}

impl Noticing {
    fn notice<T>(&mut self, call: impl FnOnce(&mut RipFile) -> io::Result<T>) -> io::Result<T> {
        let begun = Instant::now();
        let outcome = call(&mut self.file);
        let took = begun.elapsed();
        if took > NOTICED {
            self.waits.push(Wait { begun, took });
            self.kept_bytes_max = self.kept_bytes_max.max(self.file.progress().kept_bytes);
        }
        outcome
    }
}

impl Write for Noticing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.notice(|file| file.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Noticing {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.notice(|file| file.seek(to))
    }

    fn stream_position(&mut self) -> io::Result<u64> {
        self.file.stream_position()
    }
}

impl Sink for Noticing {
    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn write_zeroes(&mut self, len: u64) -> io::Result<()> {
        self.notice(|file| file.write_zeroes(len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_belongs_to_the_moments_during_which_a_call_waited() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let wait =
            |begun: u64, took: u64| Wait { begun: at(begun), took: Duration::from_millis(took) };
        let waits = vec![wait(0, 5), wait(90, 30), wait(150, 20), wait(390, 200)];
        let tally = Tally { waits, ..Tally::default() };
        let found = tally.pauses(&[at(100), at(200), at(400)]);
        let ms = [30, 200, 200].map(Duration::from_millis);
        assert_eq!(found.0, ms);
        assert_eq!((found.percentile(50), found.max()), (ms[1], ms[2]));
        assert_eq!(Tally::default().pauses(&[at(1)]).max(), Duration::ZERO);
    }
}
