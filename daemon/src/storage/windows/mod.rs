//! Storage on Windows: NTFS, ReFS and what else a drive letter may be.
//!
//! * A file is opened by what its directory really is (`open`), and held so that nobody else writes it: players
//!   may read, and whoever deletes it takes its name away, as on Unix (`file`).
//! * The drain is `NtFlushBuffersFileEx` with the flag that leaves metadata and the device's cache alone;
//!   `FlushFileBuffers` is durable, and stands in for the drain where there is no such call (`flush`).
//! * Names are given and taken by handle, and only from the file itself (`naming`).
//! * All system calls by hand are in `call`.

mod call;
mod device;
mod file;
mod flush;
mod names;
mod naming;
mod open;
#[cfg(test)]
mod tests;

pub use self::open::Disk;
pub use super::none::{Descriptor, Descriptors, Lent, Slots, is_memory};

/// See [`Calls`](super::Calls).
pub const CALLS: super::Calls =
    super::Calls { write: "WriteFile", drain: "NtFlushBuffersFileEx", sync: "FlushFileBuffers" };

/// The page size that charges are rounded to, in bytes: that of every processor that Windows runs on.
#[must_use]
pub fn page_bytes() -> u64 {
    4096
}
