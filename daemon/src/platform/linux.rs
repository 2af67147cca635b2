//! What `/proc` tells of memory.

use procfs::Current;

/// The memory of the host that nobody needs, in bytes; `None` where the platform does not tell.
#[must_use]
pub fn available_bytes() -> Option<u64> {
    procfs::Meminfo::current().ok().and_then(|info| info.mem_available)
}

/// Where the kernel begins to write back by itself, in bytes; `None` where the platform does not tell.
#[must_use]
pub fn background_bytes() -> Option<u64> {
    dirty_thresholds().map(|(background, _)| background)
}

/// The most that may be dirty before the kernel makes writers wait, in bytes: half way between its two
/// thresholds (`dirty_freerun_ceiling` in mm/page-writeback.c), less a tenth for what others write.
#[must_use]
pub fn throttle_bytes() -> u64 {
    let ceiling = dirty_thresholds().map(|(background, hard)| (background + hard) / 20 * 9);
    ceiling.unwrap_or(u64::MAX).max(crate::budget::LIMIT_BYTES_MIN)
}

/// Where the kernel begins to write back by itself, and where it stops everybody, in bytes.
fn dirty_thresholds() -> Option<(u64, u64)> {
    let stats = procfs::vmstat().ok()?;
    let bytes = |name: &str| {
        let pages = u64::try_from(*stats.get(name)?).ok()?;
        Some(pages * crate::storage::page_bytes())
    };
    Some((bytes("nr_dirty_background_threshold")?, bytes("nr_dirty_threshold")?))
}

/// How many descriptors this process has open, as far as the platform tells.
#[must_use]
pub fn open_descriptors() -> u64 {
    // What a process has from its parent: standard streams.
    std::fs::read_dir("/proc/self/fd").map_or(3, |open| open.count() as u64)
}
