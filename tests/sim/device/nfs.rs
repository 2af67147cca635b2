//! An NFS server: a line of constant speed, and a COMMIT of 1 to 50 ms, which in a storm takes 1 to 10 s.
//! Its pauses of up to five minutes are sicknesses of the device.

use std::ops::Range;
use std::time::Duration;

use super::{Model, time_of};
use crate::random::Random;

/// See the module's documentation.
pub struct Nfs {
    pub bytes_per_second: u64,
    pub commit: Duration,
    /// How many of a thousand commits are a storm.
    pub storms: u64,
    pub random: Random,
}

impl Model for Nfs {
    fn write(&mut self, _: u64, range: &Range<u64>, _: Duration) -> Duration {
        Duration::from_micros(500) + time_of(range.end - range.start, self.bytes_per_second)
    }

    fn commit(&mut self, _: Duration) -> Duration {
        match self.random.below(1000) < self.storms {
            true => self.random.ms(1000, 10_000),
            false => self.commit,
        }
    }
}
