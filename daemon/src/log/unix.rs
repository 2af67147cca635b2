//! Standard error alone, which the service manager writes to wherever it was told.

use super::queue::Sink;

/// Beside standard error.
pub(super) const DESCRIPTORS: u64 = 0;

pub(super) fn sink() -> Option<Box<dyn Sink>> {
    None
}
