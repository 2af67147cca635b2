//! What a monitoring system reads: OpenMetrics text, put together from memory alone.
//!
//! 1. Nothing here waits for a disk, so that it answers with every device wedged.
//! 2. A label has few values: devices, states and causes, never a file or a stream. `status` names those.

mod latest;
mod text;
mod times;

pub use latest::Latest;
pub use text::text;
pub use times::{AllTimes, Times};

pub(crate) use times::note;

use crate::stream::waits::Spent;

/// What streams have done in this daemon, those that ended among them. Only grows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Taken from muxers, in bytes.
    pub accepted_bytes: u64,
    /// Seen to reach a device, in bytes.
    pub drained_bytes: u64,
    /// Opened, whatever became of them.
    pub opened: u64,
    /// Of those, how many failed, lost their muxers, or were given up from outside.
    pub failed: u64,
    /// Each cause, with the time that it took and how much of it muxers were held up.
    pub spent: Spent,
}

impl Totals {
    /// Adds what another did.
    pub fn add(&mut self, other: &Self) {
        self.accepted_bytes += other.accepted_bytes;
        self.drained_bytes += other.drained_bytes;
        self.opened += other.opened;
        self.failed += other.failed;
        for (sum, more) in self.spent.iter_mut().zip(&other.spent) {
            sum.0 += more.0;
            sum.1 += more.1;
        }
    }
}
