//! Standard error alone, which the service manager writes to wherever it was told.

use super::queue::Sink;

pub(super) fn sink() -> Option<Box<dyn Sink>> {
    None
}
