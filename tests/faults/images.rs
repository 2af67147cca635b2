//! Power cuts: at any moment of a run, what would be left is held against what its muxer was told.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use freemkvd_tests::faults::FaultDisk;

use crate::model::Model;

/// Takes images of a disk and keeps what is wrong with them.
#[derive(Clone)]
pub(crate) struct Images {
    disk: FaultDisk,
    seed: u64,
    taken: Arc<AtomicU64>,
    wrong: Arc<Mutex<Vec<String>>>,
}

impl Images {
    pub(crate) fn new(disk: &FaultDisk, seed: u64) -> Self {
        Self { disk: disk.clone(), seed, taken: Arc::default(), wrong: Arc::default() }
    }

    /// Cuts the power now, `times` times, and looks.
    pub(crate) fn look(&self, model: &Mutex<Model>, times: u64) {
        for _ in 0..times {
            let nth = self.taken.fetch_add(1, Ordering::Relaxed);
            // First what was acknowledged: the disk may get ahead of it meanwhile, but not fall behind.
            let model = model.lock().unwrap();
            let image = self.disk.crash(self.seed ^ nth << 32);
            let fired = self.disk.script().fired();
            let may_have_failed = fired.iter().any(|fired| fired.errno.is_some());
            if let Err(wrong) = model.check(&image, may_have_failed) {
                let mut all = self.wrong.lock().unwrap();
                all.push(format!("power cut {nth} of seed {}: {wrong}", self.seed));
            }
        }
    }

    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// What was wrong.
    pub(crate) fn wrong(&self) -> Vec<String> {
        self.wrong.lock().unwrap().clone()
    }
}
