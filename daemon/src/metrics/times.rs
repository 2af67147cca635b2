//! How long what is done to a device took, in histograms.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

/// Devices that have histograms of their own. Users can bring file systems of theirs, and each is a device.
const DEVICES_MAX: usize = 64;

/// What those share that come later.
const OTHERS: &str = "others";

/// The histograms of all devices, by the name of the device.
pub(super) type ByDevice = Family<[(&'static str, String); 1], Histogram, fn() -> Histogram>;

/// How long what was done to one device took.
#[derive(Clone, Debug)]
pub struct Times {
    /// A piece that waited for budget or its turn until it had it, in seconds; also those that had not to wait.
    pub write_wait: Histogram,
    /// Calls that write, in seconds.
    pub write: Histogram,
    /// An extent from when its writeback began, or it was first written, until it was seen clean, in seconds.
    pub completion: Histogram,
    /// Syncs of a file, in seconds.
    pub sync: Histogram,
}

/// Those of all devices that this daemon has had.
#[derive(Debug)]
pub struct AllTimes {
    devices: Mutex<BTreeSet<String>>,
    pub(super) write_wait: ByDevice,
    pub(super) write: ByDevice,
    pub(super) completion: ByDevice,
    pub(super) sync: ByDevice,
}

impl Default for AllTimes {
    fn default() -> Self {
        let new = || Family::new_with_constructor(histogram as fn() -> Histogram);
        let (write_wait, write, completion, sync) = (new(), new(), new(), new());
        Self { devices: Mutex::default(), write_wait, write, completion, sync }
    }
}

/// From what a copy of 64 KiB takes, 16 us, up to a minute: nobody asks by how much more it is wedged.
fn histogram() -> Histogram {
    Histogram::new(exponential_buckets(16e-6, 4.0, 12))
}

impl AllTimes {
    /// Those of the device of this name.
    #[must_use]
    pub fn of(&self, device: &str) -> Arc<Times> {
        let label = [("device", self.name(device).to_owned())];
        Arc::new(Times {
            write_wait: self.write_wait.get_or_create_owned(&label),
            write: self.write.get_or_create_owned(&label),
            completion: self.completion.get_or_create_owned(&label),
            sync: self.sync.get_or_create_owned(&label),
        })
    }

    /// Under which name its times are counted: memory and what is stored of them are bounded.
    fn name<'a>(&self, device: &'a str) -> &'a str {
        let mut devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        if devices.contains(device) {
            return device;
        }
        if devices.len() >= DEVICES_MAX {
            return OTHERS;
        }
        devices.insert(device.to_owned());
        device
    }
}

/// Notes `time` in `histogram`.
pub(crate) fn note(histogram: &Histogram, time: Duration) {
    histogram.observe(time.as_secs_f64());
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn devices_have_their_own_until_there_are_very_many() {
        let all = AllTimes::default();
        for number in 0..1000 {
            note(&all.of(&format!("0:{number}")).sync, Duration::from_secs(1));
        }
        note(&all.of("0:1").sync, Duration::from_secs(1));
        let mut registry = Registry::default();
        registry.register("sync", "Syncs", all.sync.clone());
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let count = |device: &str| {
            let line = format!("sync_count{{device=\"{device}\"}} ");
            text.lines().find_map(|found| found.strip_prefix(&line)).map(str::to_owned)
        };
        let found = ["0:0", "0:1", "0:63", "0:64", "others"].map(count);
        let some = |count: &str| Some(count.to_owned());
        assert_eq!(found, [some("1"), some("2"), some("1"), None, some("936")]);
    }
}
