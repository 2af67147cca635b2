//! Bytes per second from a counter that only grows. Pure.

use std::time::Duration;

/// Over how long a rate is averaged: short enough to see a stall, long enough to read.
const SPAN_SECONDS: f64 = 2.0;

/// An exponentially weighted average.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rate {
    last: Option<(Duration, u64)>,
    bytes_per_second: f64,
}

impl Rate {
    /// Takes note that the counter stood at `total_bytes` at `now`. The first call only sets the
    /// starting point.
    pub fn sample(&mut self, now: Duration, total_bytes: u64) {
        let Some((before, bytes_before)) = self.last else {
            self.last = Some((now, total_bytes));
            return;
        };
        let seconds = now.saturating_sub(before).as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "a rate is an estimate")]
        let recent = total_bytes.saturating_sub(bytes_before) as f64 / seconds;
        let weight = 1.0 - (-seconds / SPAN_SECONDS).exp();
        self.bytes_per_second += weight * (recent - self.bytes_per_second);
        self.last = Some((now, total_bytes));
    }

    /// The counter begins again: what it makes up for was no traffic.
    pub fn restart(&mut self) {
        *self = Self::default();
    }

    /// The rate as of the last sample.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "never negative")]
    pub fn bytes_per_second(&self) -> u64 {
        self.bytes_per_second as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_counter_gives_its_rate_and_a_stopped_one_decays() {
        let mut rate = Rate::default();
        let at = |tick: u64| Duration::from_millis(tick * 500);
        (0..40).for_each(|tick| rate.sample(at(tick), tick * 50_000_000));
        let steady = rate.bytes_per_second();
        assert!((99_000_000..=100_000_000).contains(&steady), "{steady}");
        (40..60).for_each(|tick| rate.sample(at(tick), 39 * 50_000_000));
        assert!(rate.bytes_per_second() < 1_000_000);
    }

    #[test]
    fn a_counter_that_begins_again_where_another_was_is_no_traffic() {
        let mut rate = Rate::default();
        let at = |tick: u64| Duration::from_millis(tick * 500);
        rate.sample(at(0), 0);
        rate.restart();
        (1..10).for_each(|tick| rate.sample(at(tick), (5 << 30) + tick));
        assert!(rate.bytes_per_second() < 10, "{}", rate.bytes_per_second());
    }
}
