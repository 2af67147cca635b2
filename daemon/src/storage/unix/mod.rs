//! Storage on macOS, the BSDs and other Unixes: the kernel offers no control over writeback by range, so a file is
//! synced extent by extent, which bounds what is dirty at the price of a whole-file wait.
//!
//! * Names are walked from the root on, step by step, and no link below it is followed (`walk`).
//! * What drains, what is durable and how space is reserved differs by system (`verbs`): on macOS `fsync` writes back
//!   and leaves the device's cache alone, and `F_FULLFSYNC` does not; elsewhere they are `fdatasync` and `fsync`.
//! * Who tells of mounts differs, too (`mount`).
//!
//! All but the siblings behind `verbs` and `mount` is run by tests on Linux as well.

mod file;
#[cfg_attr(
    any(
        target_vendor = "apple",
        target_os = "freebsd",
        target_os = "openbsd",
        target_os = "dragonfly"
    ),
    path = "mount/statfs.rs"
)]
#[cfg_attr(
    not(any(
        target_vendor = "apple",
        target_os = "freebsd",
        target_os = "openbsd",
        target_os = "dragonfly"
    )),
    path = "mount/none.rs"
)]
mod mount;
mod open;
#[cfg(test)]
mod tests;
#[cfg_attr(target_vendor = "apple", path = "verbs/apple.rs")]
#[cfg_attr(not(target_vendor = "apple"), path = "verbs/posix.rs")]
mod verbs;
mod walk;

pub use self::open::Disk;
#[cfg(not(target_os = "linux"))]
pub use super::none::{Descriptor, Descriptors, Lent, Slots, is_memory};

#[cfg(not(target_os = "linux"))]
pub use self::verbs::CALLS;

/// The page size that charges are rounded to, in bytes.
#[cfg(not(target_os = "linux"))]
#[must_use]
pub fn page_bytes() -> u64 {
    rustix::param::page_size() as u64
}
