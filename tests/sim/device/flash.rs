//! An SSD with a fast cache: when that is full, it drops to a tenth of its speed. The cache empties at
//! that speed while nothing is written.

use std::ops::Range;
use std::time::Duration;

use super::{Model, time_of};

/// See the module's documentation.
pub struct Flash {
    pub bytes_per_second: u64,
    pub cache_bytes: u64,
    filled_bytes: u64,
    last: Duration,
}

impl Flash {
    pub fn new(bytes_per_second: u64, cache_bytes: u64) -> Self {
        Self { bytes_per_second, cache_bytes, filled_bytes: 0, last: Duration::ZERO }
    }
}

impl Model for Flash {
    fn write(&mut self, _: u64, range: &Range<u64>, now: Duration) -> Duration {
        let slow = self.bytes_per_second / 10;
        let rested = now.saturating_sub(self.last).as_millis();
        let emptied = u64::try_from(rested).unwrap_or(u64::MAX).saturating_mul(slow / 1000);
        self.filled_bytes = self.filled_bytes.saturating_sub(emptied);
        let len = range.end - range.start;
        let fast_bytes = len.min(self.cache_bytes.saturating_sub(self.filled_bytes));
        self.filled_bytes += fast_bytes;
        let time = time_of(fast_bytes, self.bytes_per_second) + time_of(len - fast_bytes, slow);
        self.last = now + time;
        time
    }

    fn commit(&mut self, _: Duration) -> Duration {
        Duration::from_micros(200)
    }
}
