//! Memory for shared slots, made by hand, for everything that the client library would never share.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use freemkvd_proto::Transfer;
use freemkvd_proto::limits::SLOT_BYTES;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};

/// A memfd. Without `F_SEAL_FUTURE_WRITE` its bytes can be changed at any time, by [`Slots::put`].
#[derive(Debug)]
pub struct Slots {
    memory: OwnedFd,
    count: u32,
}

impl Slots {
    /// So many slots, as a daemon wants them.
    ///
    /// # Panics
    /// When there is no memory.
    #[must_use]
    pub fn new(count: u32) -> Self {
        let bytes = u64::from(count) * u64::from(SLOT_BYTES);
        Self::with(count, bytes, SealFlags::SHRINK | SealFlags::GROW)
    }

    /// Memory of any size and with any seals, said to be so many slots.
    ///
    /// # Panics
    /// When there is no memory.
    #[must_use]
    pub fn with(count: u32, bytes: u64, seals: SealFlags) -> Self {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let memory = memfd_create("slots-of-a-test", flags).expect("there is memory");
        ftruncate(&memory, bytes).expect("it can have any size");
        fcntl_add_seals(&memory, seals).expect("it can be sealed");
        Self { memory, count }
    }

    /// What an `Open` says about it.
    #[must_use]
    pub fn transfer(&self) -> Transfer {
        Transfer::Shared { slots: self.count }
    }

    /// What goes with the `Open`.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.memory.as_fd()
    }

    /// Changes bytes of a slot, whoever is reading them.
    ///
    /// # Panics
    /// When they are outside of it.
    pub fn put(&self, slot: u32, start: u32, bytes: &[u8]) {
        let at = u64::from(slot) * u64::from(SLOT_BYTES) + u64::from(start);
        let written = rustix::io::pwrite(&self.memory, bytes, at);
        assert_eq!(written, Ok(bytes.len()), "within the memory");
    }
}
