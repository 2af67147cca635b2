//! Standard error alone, which the service manager writes to wherever it was told.

use super::Sink;

pub(super) fn sink() -> Option<Sink> {
    None
}
