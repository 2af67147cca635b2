//! Where nobody tells of memory.

/// The memory of the host that nobody needs: not told.
#[must_use]
pub fn available_bytes() -> Option<u64> {
    None
}

/// Where the system begins to write back by itself: not told.
#[must_use]
pub fn background_bytes() -> Option<u64> {
    None
}

/// The most that may be dirty before the system makes writers wait: not told, so as much as is configured.
#[must_use]
pub fn throttle_bytes() -> u64 {
    u64::MAX
}

/// How many descriptors this process has open: what a process has from its parent, standard streams.
#[must_use]
pub fn open_descriptors() -> u64 {
    3
}
