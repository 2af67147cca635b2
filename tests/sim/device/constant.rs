//! A device of constant speed.

use std::ops::Range;
use std::time::Duration;

use super::{Model, time_of};

/// See the module's documentation.
pub struct Constant {
    pub bytes_per_second: u64,
    /// Of each request, and of a commit.
    pub latency: Duration,
}

impl Model for Constant {
    fn write(&mut self, _: u64, range: &Range<u64>, _: Duration) -> Duration {
        self.latency + time_of(range.end - range.start, self.bytes_per_second)
    }

    fn commit(&mut self, _: Duration) -> Duration {
        self.latency
    }
}
