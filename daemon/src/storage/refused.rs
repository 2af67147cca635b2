//! Why the memory that a client wants to share is refused.

use std::io;

use freemkvd_proto::limits::{SLOT_BYTES, SLOTS_MAX};
use freemkvd_proto::{ErrorCode, Failure};

/// Why shared slots are refused.
#[derive(Debug, thiserror::Error)]
pub enum BadSlots {
    /// None at all, or more than there may be.
    #[error("{0} slots are offered; offer 1 to {SLOTS_MAX}")]
    Count(u32),
    /// The memory did not come as one descriptor.
    #[error("the shared slots come as one descriptor with the Open, and {0} came")]
    Descriptors(usize),
    /// A file, a pipe, a memfd that was made without `MFD_ALLOW_SEALING`, ...
    #[error("the descriptor is no memory that can be sealed; pass a memfd")]
    NotMemory,
    /// The client could take memory away under the daemon's hands.
    #[error("the memfd can still shrink or grow; seal it with F_SEAL_SHRINK and F_SEAL_GROW")]
    NotSealed,
    /// Not the size that was said.
    #[error(
        "the memfd has {found_bytes} bytes; {slots} slots take {}",
        u64::from(*slots) * u64::from(SLOT_BYTES)
    )]
    Size {
        /// Its size in bytes.
        found_bytes: u64,
        /// How many slots it was said to have.
        slots: u32,
    },
    /// It can't be mapped for reading.
    #[error("cannot map the memfd: {0}; open it for reading")]
    Map(io::Error),
}

impl BadSlots {
    /// What the client is told.
    #[must_use]
    pub fn failure(&self) -> Failure {
        let errno = match self {
            Self::Map(source) => source.raw_os_error(),
            _ => None,
        };
        Failure { errno, ..Failure::new(ErrorCode::BAD_SLOTS, self.to_string()) }
    }
}
