//! What several of the tests need.

use std::time::{SystemTime, UNIX_EPOCH};

use rand_core::{RngCore, SeedableRng};
use rand_pcg::Pcg64Mcg;
use tempfile::TempDir;

/// A directory to write into. Beside the build, because `/tmp` may be memory and then nothing is ever
/// drained; in `/tmp` when somebody else built.
pub(crate) fn scratch() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .or_else(|_| tempfile::tempdir())
        .expect("a directory to write into")
}

/// A number from the environment.
pub(crate) fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Chance, from `FREEMKVD_SEED` or from the clock; says which, so that a run can be had again. What the
/// threads and the disk make of it is not in it.
pub(crate) fn chance(test: &str) -> (u64, Chance) {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = setting("FREEMKVD_SEED").unwrap_or(clock.as_secs());
    eprintln!("{test}: FREEMKVD_SEED={seed}");
    (seed, Chance(Pcg64Mcg::seed_from_u64(seed)))
}

pub(crate) struct Chance(Pcg64Mcg);

impl Chance {
    /// A number of `low..=high`.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.0.next_u64() % (high - low + 1)
    }

    /// Sleeps that many milliseconds: a moment that nobody chose is what is tested.
    pub(crate) fn sleep_ms(&mut self, low: u64, high: u64) {
        let us = self.between(low * 1000, high * 1000);
        std::thread::sleep(std::time::Duration::from_micros(us));
    }
}
