//! A thread that looks, every 10 ms while a run goes on, at what only shows while it goes on.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::dirty::{Asked, Gauge};
use super::kernel;

/// Dirty pages come and go within tens of milliseconds.
const EVERY: Duration = Duration::from_millis(10);
/// Memory changes slower, and reading it costs more.
const MEMORY_EVERY: u64 = 3;

/// Who is looked at.
pub(crate) struct Watched {
    pub(crate) gauge: Gauge,
    pub(crate) paths: Vec<PathBuf>,
    pub(crate) writers: Vec<u32>,
    pub(crate) daemon: Option<u32>,
}

/// The worst that was seen, in bytes.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) dirty_bytes: Option<u64>,
    pub(crate) asked: Asked,
    pub(crate) samples: u64,
    pub(crate) writers_bytes: Vec<u64>,
    pub(crate) daemon_private_bytes: Option<u64>,
    /// Moment, on the clock of the writers, and length of each file.
    pub(crate) lengths: Vec<(u64, Vec<u64>)>,
}

/// The thread.
pub(crate) struct Sampler {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Seen>>,
}

impl Sampler {
    pub(crate) fn start(watched: Watched) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let flag = Arc::clone(&stop);
        let thread = thread::spawn(move || look(watched, &flag));
        Self { stop, thread: Some(thread) }
    }

    /// Ends it.
    pub(crate) fn finish(mut self) -> Option<Seen> {
        self.end()
    }

    fn end(&mut self) -> Option<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take()?.join().ok()
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.end();
    }
}

fn look(mut watched: Watched, stop: &AtomicBool) -> Seen {
    let mut seen = Seen {
        dirty_bytes: None,
        asked: watched.gauge.asked(),
        samples: 0,
        writers_bytes: vec![0; watched.writers.len()],
        daemon_private_bytes: None,
        lengths: Vec::new(),
    };
    loop {
        // Once more after the end, so that the shortest run has a sample.
        let last = stop.load(Ordering::Relaxed);
        seen.dirty_bytes = seen.dirty_bytes.max(watched.gauge.bytes());
        let time = clock_gettime(ClockId::Monotonic);
        let now_ns = time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs();
        let length = |path: &PathBuf| std::fs::metadata(path).map_or(0, |found| found.len());
        seen.lengths.push((now_ns, watched.paths.iter().map(length).collect()));
        if seen.samples % MEMORY_EVERY == 0 || last {
            for (pid, peak) in watched.writers.iter().zip(&mut seen.writers_bytes) {
                // One that has ended has none.
                *peak = (*peak).max(kernel::memory_bytes(*pid).unwrap_or(0));
            }
            let daemon = watched.daemon.and_then(|pid| kernel::private_bytes(pid).ok());
            seen.daemon_private_bytes = seen.daemon_private_bytes.max(daemon);
        }
        seen.samples += 1;
        if last {
            // A file system that does not tell is found out on the way.
            seen.asked = watched.gauge.asked();
            return seen;
        }
        thread::sleep(EVERY);
    }
}

impl Seen {
    /// What each file grew by while all of them did: after `from_ns`, before `until_ns`. `None` when
    /// that was too short to say anything.
    pub(crate) fn growth(&self, from_ns: u64, until_ns: u64) -> Option<Vec<f64>> {
        let within = |moment: &&(u64, Vec<u64>)| (from_ns..=until_ns).contains(&moment.0);
        let first = self.lengths.iter().find(within)?;
        let last = self.lengths.iter().rev().find(within)?;
        if last.0 - first.0 < SHORTEST_NS {
            return None;
        }
        let growth = first.1.iter().zip(&last.1);
        Some(growth.map(|(before, after)| after.saturating_sub(*before) as f64).collect())
    }
}

/// In less it is chance who was first.
const SHORTEST_NS: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_taken_while_all_write() {
        let ms = |ms: u64| ms * 1_000_000;
        let seen = Seen {
            dirty_bytes: None,
            asked: Asked::Nobody,
            samples: 4,
            writers_bytes: Vec::new(),
            daemon_private_bytes: None,
            lengths: vec![
                (ms(0), vec![0, 0]),
                (ms(500), vec![10, 5]),
                (ms(2500), vec![50, 25]),
                (ms(4500), vec![50, 65]),
            ],
        };
        assert_eq!(seen.growth(ms(250), ms(3000)), Some(vec![40.0, 20.0]));
        assert_eq!(seen.growth(ms(250), ms(1000)), None);
        assert_eq!(seen.growth(ms(4750), ms(9000)), None);
    }
}
