//! How long what is done to a device took, in histograms.
//!
//! 1. There are no more than [`DEVICES_MAX`] names and one, however many devices come and go over the months.
//! 2. Those of a device that somebody uses only grow. Of one that nobody does they stay until another needs the place.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

/// Devices that have histograms of their own. Users can bring file systems of theirs, and each is a device.
const DEVICES_MAX: usize = 64;

/// What those share that come while all of those are in use.
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

/// Those of the devices that this daemon has, and of the last that it had.
#[derive(Debug)]
pub struct AllTimes {
    devices: Mutex<Names>,
    pub(super) write_wait: ByDevice,
    pub(super) write: ByDevice,
    pub(super) completion: ByDevice,
    pub(super) sync: ByDevice,
}

/// Devices with histograms of their own.
#[derive(Debug, Default)]
struct Names {
    by_device: BTreeMap<String, Use>,
    /// How often one came into use.
    count: u64,
}

#[derive(Debug)]
struct Use {
    times: Weak<Times>,
    /// When it last came into use.
    turn: u64,
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
    /// Those of the device of this name, for as long as somebody uses it.
    #[must_use]
    pub fn of(&self, device: &str) -> Arc<Times> {
        let mut names = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        if !names.by_device.contains_key(device) && names.by_device.len() >= DEVICES_MAX {
            match names.longest_unused() {
                Some(gone) => self.forget(&gone),
                None => return self.named(OTHERS),
            }
        }
        let known = names.by_device.get(device).and_then(|used| used.times.upgrade());
        let times = known.unwrap_or_else(|| self.named(device));
        names.count += 1;
        let used = Use { times: Arc::downgrade(&times), turn: names.count };
        names.by_device.insert(device.to_owned(), used);
        times
    }

    fn named(&self, name: &str) -> Arc<Times> {
        let label = [("device", name.to_owned())];
        Arc::new(Times {
            write_wait: self.write_wait.get_or_create_owned(&label),
            write: self.write.get_or_create_owned(&label),
            completion: self.completion.get_or_create_owned(&label),
            sync: self.sync.get_or_create_owned(&label),
        })
    }

    fn forget(&self, name: &str) {
        let label = [("device", name.to_owned())];
        for histograms in [&self.write_wait, &self.write, &self.completion, &self.sync] {
            histograms.remove(&label);
        }
    }
}

impl Names {
    /// Takes out the one of those that nobody uses that came into use longest ago.
    fn longest_unused(&mut self) -> Option<String> {
        let unused = self.by_device.iter().filter(|(_, used)| used.times.strong_count() == 0);
        let name = unused.min_by_key(|(_, used)| used.turn)?.0.clone();
        self.by_device.remove(&name);
        Some(name)
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

    /// How many syncs of which device are told.
    fn told(all: &AllTimes) -> BTreeMap<String, String> {
        let mut registry = Registry::default();
        registry.register("sync", "Syncs", all.sync.clone());
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let counts = text.lines().filter_map(|line| line.strip_prefix("sync_count{device=\""));
        let pairs = counts.map(|count| count.split_once("\"} ").unwrap());
        pairs.map(|(device, count)| (device.to_owned(), count.to_owned())).collect()
    }

    fn sync(times: &Times) {
        note(&times.sync, Duration::from_secs(1));
    }

    #[test]
    fn devices_have_their_own_until_very_many_are_in_use() {
        let all = AllTimes::default();
        let used: Vec<_> = (0..1000).map(|number| all.of(&format!("0:{number}"))).collect();
        used.iter().for_each(|times| sync(times));
        sync(&all.of("0:1"));
        let counts = told(&all);
        assert_eq!(counts.len(), DEVICES_MAX + 1);
        assert_eq!((counts["0:0"].as_str(), counts["0:1"].as_str()), ("1", "2"));
        assert_eq!((counts["0:63"].as_str(), counts["others"].as_str()), ("1", "936"));
    }

    #[test]
    fn devices_that_come_and_go_for_months_leave_those_in_use_alone_and_take_their_places_in_turn()
    {
        let all = AllTimes::default();
        let stays = all.of("8:1");
        for number in 0..1000 {
            sync(&all.of(&format!("0:{number}")));
            sync(&stays);
            assert_eq!(told(&all)["8:1"], (number + 1).to_string());
        }
        let counts = told(&all);
        assert_eq!(counts.len(), DEVICES_MAX);
        // The last of them, each with what it did.
        assert!(
            (1000 - (DEVICES_MAX - 1)..1000).all(|number| counts[&format!("0:{number}")] == "1")
        );
        // One that comes back in time goes on.
        sync(&all.of("0:999"));
        assert_eq!(told(&all)["0:999"], "2");
        // It is the last in turn then.
        (0..DEVICES_MAX - 2).for_each(|number| drop(all.of(&format!("1:{number}"))));
        assert_eq!(told(&all)["0:999"], "2");
    }

    #[test]
    fn a_device_that_is_used_twice_keeps_its_place_until_the_last_use_ends() {
        let all = AllTimes::default();
        let first = all.of("8:1");
        drop(all.of("8:1"));
        (0..DEVICES_MAX).for_each(|number| drop(all.of(&format!("0:{number}"))));
        sync(&first);
        assert_eq!(told(&all)["8:1"], "1");
    }
}
