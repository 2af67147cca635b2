//! Memory that a client shares, and that its content is written from.
//!
//! 1. The client may change every byte of it at any time. So nothing here, and nothing anywhere in
//!    the daemon, makes a reference to it or reads it: only the kernel does, in `pwritev2`.
//! 2. It can't become smaller under our hands: the seals are checked before it is mapped.
//! 3. It is mapped for as long as the value lives, also when the client is dead.

use std::ops::Range;
use std::os::fd::OwnedFd;

use freemkvd_proto::limits::{SLOT_BYTES, SLOTS_MAX};
use rustix::fs::{SealFlags, fcntl_get_seals, fstat};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::access::Place;
use crate::storage::BadSlots;

/// What comes with an `Open`.
pub type Descriptor = OwnedFd;

/// See the module's documentation.
#[derive(Debug)]
pub struct Slots {
    /// Where it is mapped. A number and not a pointer: nobody may follow it (rule 1).
    address: usize,
    len: usize,
    /// Given back after it was unmapped.
    place: Option<Place>,
}

impl Slots {
    /// Takes the memory that came with an `Open` for so many slots. `None` when this process can't
    /// map it, which is not the client's fault: then content goes inline.
    ///
    /// # Errors
    /// [`BadSlots`].
    pub fn offered(memory: Option<&Descriptor>, slots: u32) -> Result<Option<Self>, BadSlots> {
        Self::adopt(memory.ok_or(BadSlots::Descriptors(0))?, slots)
    }

    /// As [`Slots::offered`], for memory that did come.
    ///
    /// # Errors
    /// [`BadSlots`].
    pub fn adopt(memory: &Descriptor, slots: u32) -> Result<Option<Self>, BadSlots> {
        if !(1..=SLOTS_MAX).contains(&slots) {
            return Err(BadSlots::Count(slots));
        }
        // First the seals: a size that can still change says nothing.
        let seals = fcntl_get_seals(memory).map_err(|_| BadSlots::NotMemory)?;
        if !seals.contains(SealFlags::SHRINK | SealFlags::GROW) {
            return Err(BadSlots::NotSealed);
        }
        let found_bytes = fstat(memory).map_err(|_| BadSlots::NotMemory)?.st_size.unsigned_abs();
        let len = slots as usize * SLOT_BYTES as usize;
        if found_bytes != len as u64 {
            return Err(BadSlots::Size { found_bytes, slots });
        }
        match map(memory, len) {
            Ok(address) => Ok(Some(Self { address, len, place: None })),
            Err(Errno::NOMEM | Errno::PERM) => Ok(None),
            Err(errno) => Err(BadSlots::Map(errno.into())),
        }
    }

    /// The same, with the place that it takes among all that is shared, for as long as it is mapped.
    #[must_use]
    pub fn in_place(self, place: Place) -> Self {
        let mut slots = self;
        slots.place = Some(place);
        slots
    }

    /// How many there are.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "at most SLOTS_MAX")]
    pub fn count(&self) -> u32 {
        (self.len / SLOT_BYTES as usize) as u32
    }

    /// Where `range` lies, for the kernel to read: its address and its length.
    ///
    /// # Panics
    /// When it is not within the memory, which the connection has checked.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "within what is in memory")]
    pub fn span(&self, range: &Range<u64>) -> (usize, usize) {
        let fits = range.start <= range.end && range.end <= self.len as u64;
        assert!(fits, "{range:?} is outside of {} bytes of shared slots", self.len);
        (self.address + range.start as usize, (range.end - range.start) as usize)
    }
}

/// True for memory: it can be closed by anybody at any time, since nobody else is asked. Asks the file itself
/// nothing: only memory can be sealed, and the kernel knows that without it.
#[must_use]
pub fn is_memory(descriptor: &Descriptor) -> bool {
    fcntl_get_seals(descriptor).is_ok()
}

impl Drop for Slots {
    #[expect(unsafe_code, reason = "what was mapped by hand is unmapped by hand")]
    fn drop(&mut self) {
        // SAFETY: exactly what `map` has returned, unmapped once; nobody has a reference into it
        // (rule 1), and the calls that were given its address have returned.
        let result = unsafe { munmap(std::ptr::without_provenance_mut(self.address), self.len) };
        debug_assert!(result.is_ok(), "cannot unmap shared slots: {result:?}");
    }
}

#[expect(unsafe_code, reason = "no binding maps memory without making a slice of it")]
fn map(memory: &OwnedFd, len: usize) -> Result<usize, Errno> {
    // SAFETY: a new mapping, at an address that the kernel chooses, which replaces no other. Nothing
    // but the kernel reads it (rule 1).
    let address =
        unsafe { mmap(std::ptr::null_mut(), len, ProtFlags::READ, MapFlags::SHARED, memory, 0) };
    address.map(|address| address.addr())
}

#[cfg(test)]
mod tests {
    use rustix::fs::{MemfdFlags, fcntl_add_seals, ftruncate, memfd_create};
    use rustix::io::pwrite;

    use super::*;

    const SLOT: u64 = SLOT_BYTES as u64;
    const BOTH: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);

    fn memory(bytes: u64, seals: SealFlags) -> OwnedFd {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let memory = memfd_create("test", flags).unwrap();
        ftruncate(&memory, bytes).unwrap();
        fcntl_add_seals(&memory, seals).unwrap();
        memory
    }

    fn adopt(memory: &OwnedFd, slots: u32) -> Slots {
        Slots::adopt(memory, slots).unwrap().expect("there is memory for it")
    }

    #[test]
    fn what_can_still_change_its_size_is_refused() {
        for seals in
            [SealFlags::empty(), SealFlags::SHRINK, SealFlags::GROW, SealFlags::FUTURE_WRITE]
        {
            let refused = Slots::adopt(&memory(SLOT, seals), 1);
            assert!(matches!(refused, Err(BadSlots::NotSealed)), "{seals:?}: {refused:?}");
        }
        for more in [SealFlags::empty(), SealFlags::SEAL, SealFlags::WRITE] {
            assert_eq!(adopt(&memory(SLOT, BOTH | more), 1).count(), 1);
        }
    }

    #[test]
    fn another_size_than_was_said_is_refused() {
        for bytes in [0, SLOT - 1, SLOT + 1, 2 * SLOT, 1 << 40] {
            let refused = Slots::adopt(&memory(bytes, BOTH), 1);
            let expected = matches!(
                refused,
                Err(BadSlots::Size { found_bytes, slots: 1 }) if found_bytes == bytes
            );
            assert!(expected, "{bytes}: {refused:?}");
        }
    }

    #[test]
    fn none_and_too_many_are_refused_and_the_most_are_not() {
        for slots in [0, SLOTS_MAX + 1, u32::MAX] {
            let bytes = u64::from(slots) * SLOT;
            let refused = Slots::adopt(&memory(bytes, BOTH), slots);
            assert!(matches!(refused, Err(BadSlots::Count(count)) if count == slots));
        }
        let most = memory(u64::from(SLOTS_MAX) * SLOT, BOTH);
        assert_eq!(adopt(&most, SLOTS_MAX).count(), SLOTS_MAX);
    }

    #[test]
    fn what_is_no_memfd_is_refused() {
        let file: OwnedFd = tempfile::tempfile_in(".").unwrap().into();
        ftruncate(&file, SLOT).unwrap();
        let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        // Without MFD_ALLOW_SEALING there is one seal, against all others.
        let unsealable = memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&unsealable, SLOT).unwrap();
        for (what, descriptor) in [("file", file), ("socket", socket.into())] {
            let refused = Slots::adopt(&descriptor, 1);
            assert!(matches!(refused, Err(BadSlots::NotMemory)), "{what}: {refused:?}");
        }
        assert!(matches!(Slots::adopt(&unsealable, 1), Err(BadSlots::NotSealed)));
    }

    #[test]
    fn memory_is_told_from_what_may_hang() {
        let file: OwnedFd = tempfile::tempfile_in(".").unwrap().into();
        let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(is_memory(&memory(SLOT, BOTH)));
        assert!(!is_memory(&file) && !is_memory(&socket.into()));
    }

    #[test]
    fn content_goes_from_the_memory_to_the_file() {
        let memory = memory(2 * SLOT, BOTH);
        pwrite(&memory, b"content", SLOT - 3).unwrap();
        let slots = adopt(&memory, 2);
        let file: OwnedFd = tempfile::tempfile_in(".").unwrap().into();
        let range = SLOT - 3..SLOT + 4;
        let flags = rustix::io::ReadWriteFlags::empty();
        let count = super::super::call::write_slots(&file, &slots, range, 5, flags).unwrap();
        assert_eq!(count, 7);
        let written = std::io::read_to_string(std::fs::File::from(file)).unwrap();
        assert_eq!(written, "\0\0\0\0\0content");
    }

    #[test]
    #[should_panic(expected = "outside of 1048576 bytes")]
    fn nothing_beyond_the_end_is_handed_out() {
        let _ = adopt(&memory(SLOT, BOTH), 1).span(&(1..SLOT + 1));
    }
}
