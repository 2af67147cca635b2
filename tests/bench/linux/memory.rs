//! Memory that was touched lately.
//!
//! A virtual machine gives memory that nobody uses back to its host, and the first touch of it
//! afterwards costs more than writing it to a disk. Who fills the page cache pays that, who does not
//! does not, and on a real machine nobody does. So it is touched before every run.

use std::fs;
use std::time::Instant;

use serde::Serialize;

use super::kernel;

/// What touching costs, in milliseconds for a GiB.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct TouchCost {
    pub(crate) first_ms_per_gib: f64,
    pub(crate) again_ms_per_gib: f64,
}

impl TouchCost {
    /// Above this, unused memory is not there but has to be fetched: then a run that fills more of the
    /// page cache than was touched before it is slower than on a real machine.
    const DEAR: f64 = 2.0;

    pub(crate) fn measure(bytes: u64) -> Self {
        let [first, again] = [(); 2].map(|()| touch(bytes));
        Self { first_ms_per_gib: first, again_ms_per_gib: again }
    }

    pub(crate) fn is_dear(&self) -> bool {
        self.first_ms_per_gib > Self::DEAR * self.again_ms_per_gib
    }
}

/// Touches so many bytes, but no more than a quarter of what is available, and gives them back.
/// Returns milliseconds for a GiB.
pub(crate) fn touch(bytes: u64) -> f64 {
    let table = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = kernel::kib_bytes(&table, "MemAvailable:").unwrap_or(0);
    let bytes = bytes.min(available / 4).max(1);
    let start = Instant::now();
    // Not zeros, which the allocator would not touch.
    let memory = vec![1_u8; usize::try_from(bytes).unwrap_or(1)];
    let took = start.elapsed().as_secs_f64() * 1000.0;
    drop(std::hint::black_box(memory));
    took / (bytes as f64 / super::figures::GIB)
}
