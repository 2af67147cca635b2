//! The backing stores in use: their names, and how their pages are written back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::metrics::{AllTimes, Times};
use crate::space::Space;
use crate::storage;
use crate::stream::ladder::{Rung, StepDown};

/// One backing store.
#[derive(Debug)]
pub struct Device {
    /// Its name and place.
    pub info: storage::Device,
    /// What its streams are going to need.
    pub space: Arc<Space>,
    /// How long what is done to it takes.
    pub times: Arc<Times>,
    drain: Mutex<Drain>,
}

#[derive(Debug, Default)]
struct Drain {
    /// What its streams use, by how many do.
    used: BTreeMap<Rung, usize>,
    /// Steps that were logged.
    said: BTreeSet<(Rung, Rung)>,
}

impl Device {
    /// A stream here now uses `rung`, and before that another.
    pub fn use_rung(&self, before: Option<Rung>, rung: Option<Rung>) {
        let mut drain = self.lock();
        if let Some(count) = before.and_then(|before| drain.used.get_mut(&before)) {
            *count -= 1;
        }
        if let Some(rung) = rung {
            *drain.used.entry(rung).or_default() += 1;
        }
    }

    /// The rungs in use, the highest first.
    #[must_use]
    pub fn rungs(&self) -> Vec<Rung> {
        let drain = self.lock();
        drain.used.iter().filter(|(_, count)| **count > 0).map(|(rung, _)| *rung).collect()
    }

    /// True when this step is the first of its kind here, and worth a line in the log.
    #[must_use]
    pub fn is_news(&self, step: StepDown) -> bool {
        self.lock().said.insert((step.from, step.to))
    }

    fn lock(&self) -> MutexGuard<'_, Drain> {
        self.drain.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The devices that somebody writes to; one is forgotten with its last stream.
#[derive(Debug, Default)]
pub struct Devices {
    by_id: Mutex<BTreeMap<String, Weak<Device>>>,
    times: AllTimes,
}

impl Devices {
    /// The device of this name, known or new.
    #[must_use]
    pub fn of(&self, info: storage::Device) -> Arc<Device> {
        let mut by_id = self.by_id.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = by_id.get(&info.id).and_then(Weak::upgrade) {
            return known;
        }
        let times = self.times.of(&info.id);
        let (space, drain) = Default::default();
        let device = Arc::new(Device { info, space, times, drain });
        by_id.insert(device.info.id.clone(), Arc::downgrade(&device));
        device
    }

    /// How long what was done to any of them took, those that are forgotten among them.
    #[must_use]
    pub fn times(&self) -> &AllTimes {
        &self.times
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
        storage::Device {
            id: id.to_owned(),
            mount: String::new(),
            source: String::new(),
            filesystem: String::new(),
            medium: storage::Medium::Unknown,
            is_a_users: false,
        }
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

    #[test]
    fn a_device_names_the_rungs_in_use_and_each_step_once() {
        let devices = Devices::default();
        let device = devices.of(info("8:1"));
        device.use_rung(None, Some(Rung::SyncFileRange));
        device.use_rung(None, Some(Rung::Dontcache));
        assert_eq!(device.rungs(), [Rung::Dontcache, Rung::SyncFileRange]);
        device.use_rung(Some(Rung::SyncFileRange), None);
        assert_eq!(device.rungs(), [Rung::Dontcache]);
        let step =
            StepDown { from: Rung::Dontcache, to: Rung::Fdatasync, because: "it does nothing" };
        assert!(device.is_news(step) && !device.is_news(step));
    }
}
