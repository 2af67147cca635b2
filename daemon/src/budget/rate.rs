//! How fast a device gets pages clean, and how long an extent takes there. Pure.
//!
//! 1. Time counts only while the device had something to do: an extent's time begins with its own
//!    writeback or with the completion before it, whichever is later. So the times of extents that
//!    are in writeback together don't overlap, and idle time is in none of them.
//! 2. A completion that nobody waited for was noticed late: the device was at least that fast. So time and
//!    bytes are added up to the next whose end is known. Where there is none for a while, what was added
//!    up can raise the rate and never lower it, or a slow muxer would look like a slow disk.

use std::collections::VecDeque;
use std::time::Duration;

/// The rate of a device that has not completed anything yet: what a hard disk does at its slowest
/// place, so that the first extents wait for nobody.
const BYTES_PER_SECOND_FIRST: f64 = (50 << 20) as f64;

/// Over how much busy time the rate is averaged. A disk's zones and an SSD's cache change within
/// seconds; single extents vary by half.
const SPAN_SECONDS: f64 = 1.0;

/// Completions closer together than this are one: two threads wake up in either order.
const TOGETHER: Duration = Duration::from_millis(5);

/// How long the end of a completion may remain unknown. Late completions come in bursts, and a burst by
/// itself is fast.
const UNKNOWN_MAX: Duration = Duration::from_millis(250);

/// Completions that the percentiles look back on: some seconds of a busy device.
const COMPLETIONS: usize = 128;

/// An extent that is clean, as far as its device is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// Bytes that became clean.
    pub bytes: u64,
    /// When its writeback was started.
    pub began: Duration,
    /// True when its end was waited for, and is known to be now.
    pub exact: bool,
}

/// See the module's documentation.
#[derive(Clone, Debug)]
pub(super) struct DrainRate {
    bytes_per_second: f64,
    last: Duration,
    /// Completed and not yet in the rate.
    pending_bytes: u64,
    pending: Duration,
    took: VecDeque<Duration>,
}

impl DrainRate {
    pub(super) fn new() -> Self {
        Self {
            bytes_per_second: BYTES_PER_SECOND_FIRST,
            last: Duration::ZERO,
            pending_bytes: 0,
            pending: Duration::ZERO,
            took: VecDeque::new(),
        }
    }

    pub(super) fn complete(&mut self, completion: Completion, now: Duration) {
        let since = completion.began.max(self.last);
        self.last = self.last.max(now);
        self.pending += now.saturating_sub(since);
        self.pending_bytes += completion.bytes;
        if completion.exact {
            if self.took.len() == COMPLETIONS {
                self.took.pop_front();
            }
            self.took.push_back(now.saturating_sub(completion.began));
        }
        let enough = if completion.exact { TOGETHER } else { UNKNOWN_MAX };
        if self.pending >= enough {
            self.sample(completion.exact);
        }
    }

    fn sample(&mut self, exact: bool) {
        let seconds = self.pending.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate is an estimate")]
        let recent = self.pending_bytes as f64 / seconds;
        if exact || recent > self.bytes_per_second {
            let weight = 1.0 - (-seconds / SPAN_SECONDS).exp();
            self.bytes_per_second += weight * (recent - self.bytes_per_second);
        }
        self.pending = Duration::ZERO;
        self.pending_bytes = 0;
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "never negative")]
    pub(super) fn bytes_per_second(&self) -> u64 {
        self.bytes_per_second as u64
    }

    /// Bytes that it gets clean in so many milliseconds.
    pub(super) fn bytes_in_ms(&self, ms: u64) -> u64 {
        self.bytes_per_second().saturating_mul(ms) / 1000
    }

    /// The time within which so many of a hundred recent extents became clean; zero before the first.
    pub(super) fn percentile(&self, percent: usize) -> Duration {
        let mut sorted: Vec<_> = self.took.iter().copied().collect();
        sorted.sort_unstable();
        let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
        sorted.get(at).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn extent(began: u64, exact: bool) -> Completion {
        Completion { bytes: 8 * MIB, began: ms(began), exact }
    }

    #[test]
    fn extents_in_writeback_together_do_not_count_their_time_twice() {
        let mut rate = DrainRate::new();
        // One of 8 MiB each 40 ms, two in writeback at any time: 200 MiB/s.
        (1..200).for_each(|at| rate.complete(extent(40 * at - 40, true), ms(40 * at)));
        let mib = rate.bytes_per_second() / MIB;
        assert!((195..=200).contains(&mib), "{mib} MiB/s");
    }

    #[test]
    fn idle_time_is_no_slow_device() {
        let mut rate = DrainRate::new();
        // 40 ms of work each second.
        (1..200).for_each(|at| rate.complete(extent(1000 * at, true), ms(1000 * at + 40)));
        assert!(rate.bytes_per_second() > 190 * MIB, "{} MiB/s", rate.bytes_per_second() / MIB);
    }

    #[test]
    fn what_nobody_waited_for_only_raises_the_rate() {
        let mut rate = DrainRate::new();
        (1..50).for_each(|at| rate.complete(extent(1000 * at, false), ms(1000 * at + 900)));
        assert_eq!(rate.bytes_per_second(), 50 * MIB);
        (100..200).for_each(|at| rate.complete(extent(1000 * at, false), ms(1000 * at + 40)));
        assert!(rate.bytes_per_second() > 150 * MIB);
        assert_eq!(rate.percentile(95), Duration::ZERO, "their ends are not known");
    }

    #[test]
    fn a_burst_of_late_completions_is_no_faster_than_the_time_since_the_last_known_end() {
        let mut rate = DrainRate::new();
        // 8 MiB each 40 ms. The ends of three of four are noticed 6 ms before the next known one.
        for round in 2..200 {
            let end = 160 * round;
            for extent_end in [end - 120, end - 80, end - 40] {
                rate.complete(extent(extent_end - 80, false), ms(end - 6));
            }
            rate.complete(extent(end - 80, true), ms(end));
        }
        let mib = rate.bytes_per_second() / MIB;
        assert!((195..=205).contains(&mib), "{mib} MiB/s");
    }

    #[test]
    fn the_95th_percentile_is_the_19th_of_20() {
        let mut rate = DrainRate::new();
        (1..=20).for_each(|at| {
            rate.complete(Completion { bytes: 1, began: ms(1000), exact: true }, ms(1000 + at));
        });
        assert_eq!(rate.percentile(95), ms(19));
    }
}
