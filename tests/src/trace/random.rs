//! Seeded chance, and payload that costs next to nothing.
//!
//! Owns every random decision of a trace: the same seed gives the same calls and the same bytes on
//! every machine, so all of it is integer arithmetic.

use rand_core::{RngCore, SeedableRng};
use rand_pcg::Pcg64Mcg;

/// Length of the pool that payload is cut from, in bytes. It has to exceed the largest frame (2.4 MB)
/// and stay small enough for the caches of a NAS processor.
pub(crate) const POOL_LEN: usize = 4 << 20;

/// A seeded source of decisions.
#[derive(Debug)]
pub struct Random(Pcg64Mcg);

impl Random {
    /// What `seed` gives.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Pcg64Mcg::seed_from_u64(seed))
    }

    /// A number in `0..bound`; 0 when `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.0.next_u64()) * u128::from(bound);
        u64::try_from(wide >> 64).expect("the high half of a product of two u64 is a u64")
    }

    /// A number in `low..=high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// `mean`, moved by up to `percent` either way.
    pub fn around(&mut self, mean: u64, percent: u64) -> u64 {
        mean * self.between(1000 - 10 * percent, 1000 + 10 * percent) / 1000
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// A number in `0..bound` as an index; 0 when `bound` is 0.
    pub fn index(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(bound as u64)).expect("below a usize")
    }
}

/// Bytes that do not compress, at the price of a `memcpy`: slices at random places of a random pool.
#[derive(Debug)]
pub(crate) struct Payload {
    pool: Vec<u8>,
    random: Random,
}

impl Payload {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x7061_796c_6f61_6400);
        let mut pool = vec![0; POOL_LEN];
        random.0.fill_bytes(&mut pool);
        Self { pool, random }
    }

    /// Begins again as `seed` says, with the same pool.
    pub(crate) fn restart(&mut self, seed: u64) {
        self.random = Random::new(seed);
    }

    /// The next `len` bytes; `len` is at most `POOL_LEN`.
    pub(crate) fn bytes(&mut self, len: usize) -> &[u8] {
        let start = self.random.index(self.pool.len() - len + 1);
        &self.pool[start..start + len]
    }

    /// `len` bytes of any length, in one piece.
    pub(crate) fn long(&mut self, len: usize) -> Vec<u8> {
        let mut all = Vec::with_capacity(len);
        while all.len() < len {
            let part = (len - all.len()).min(POOL_LEN / 2);
            all.extend_from_slice(self.bytes(part));
        }
        all
    }
}
