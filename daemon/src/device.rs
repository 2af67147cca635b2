//! What is known of each backing store with an open stream: how fast it gets clean, and how long an
//! extent takes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::rate::Rate;
use crate::storage;

/// Completions that the percentile looks back on: a few seconds of a busy device.
const COMPLETIONS: usize = 64;

/// One backing store.
#[derive(Debug)]
pub struct Device {
    /// Its name and place.
    pub info: storage::Device,
    stats: Mutex<Stats>,
}

#[derive(Debug, Default)]
struct Stats {
    completions: VecDeque<Duration>,
    cleaned_bytes: u64,
    rate: Rate,
}

impl Device {
    /// An extent of `bytes` became clean, `took` after its writeback was started.
    pub fn complete(&self, bytes: u64, took: Duration) {
        let mut stats = self.lock();
        if stats.completions.len() == COMPLETIONS {
            stats.completions.pop_front();
        }
        stats.completions.push_back(took);
        stats.cleaned_bytes += bytes;
    }

    /// Updates the rate.
    pub fn sample(&self, now: Duration) {
        let mut stats = self.lock();
        let total = stats.cleaned_bytes;
        stats.rate.sample(now, total);
    }

    /// Bytes per second that became clean, recently.
    #[must_use]
    pub fn bytes_per_second(&self) -> u64 {
        self.lock().rate.bytes_per_second()
    }

    /// 95th percentile of the recent completions; zero before the first.
    #[must_use]
    pub fn completion_p95(&self) -> Duration {
        let mut sorted: Vec<_> = self.lock().completions.iter().copied().collect();
        sorted.sort_unstable();
        let at = (sorted.len() * 95).div_ceil(100).saturating_sub(1);
        sorted.get(at).copied().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Stats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The devices that somebody writes to; one is forgotten with its last stream.
#[derive(Debug, Default)]
pub struct Devices {
    by_id: Mutex<BTreeMap<String, Weak<Device>>>,
}

impl Devices {
    /// The device of this name, known or new.
    #[must_use]
    pub fn of(&self, info: storage::Device) -> Arc<Device> {
        let mut by_id = self.by_id.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = by_id.get(&info.id).and_then(Weak::upgrade) {
            return known;
        }
        let device = Arc::new(Device { info, stats: Mutex::default() });
        by_id.insert(device.info.id.clone(), Arc::downgrade(&device));
        device
    }

    /// All of them, in the order of their names.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Device>> {
        let mut by_id = self.by_id.lock().unwrap_or_else(PoisonError::into_inner);
        by_id.retain(|_, device| device.strong_count() > 0);
        by_id.values().filter_map(Weak::upgrade).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(id: &str) -> storage::Device {
        let text = String::new;
        storage::Device {
            id: id.to_owned(),
            mount: text(),
            filesystem: text(),
            medium: storage::Medium::Unknown,
        }
    }

    #[test]
    fn the_95th_percentile_is_the_19th_of_20() {
        let devices = Devices::default();
        let device = devices.of(info("8:1"));
        assert_eq!(device.completion_p95(), Duration::ZERO);
        (1..=20).for_each(|ms| device.complete(1, Duration::from_millis(ms)));
        assert_eq!(device.completion_p95(), Duration::from_millis(19));
    }

    #[test]
    fn streams_of_one_device_share_it_and_the_last_takes_it_away() {
        let devices = Devices::default();
        let (one, two) = (devices.of(info("8:1")), devices.of(info("8:1")));
        assert!(Arc::ptr_eq(&one, &two));
        drop(one);
        assert_eq!(devices.all().len(), 1);
        drop(two);
        assert!(devices.all().is_empty());
    }
}
