//! The system calls that no binding offers, and all `unsafe` of the daemon.
//!
//! Invariants:
//! 1. One call per block, its result checked.
//! 2. Memory that a client shares is never behind a reference: its other owner may write to it at any
//!    time, and of what a `&[u8]` shows the compiler believes that it does not change. The kernel
//!    gets a pointer.
//! 3. No range of zero bytes reaches a call to which that means "up to the end of the file":
//!    `sync_file_range(2)` and `cachestat(2)` both read it so.
#![expect(unsafe_code, reason = "this is the place for it")]

use std::ffi::c_ulong;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};

use rustix::io::{Errno, ReadWriteFlags};

use super::Slots;

/// Groups of a peer that are asked for at first: more than almost anybody has.
const PEER_GROUPS: usize = 64;

/// Writes once from memory that a client shares, and says how many bytes.
pub(super) fn write_slots(
    file: &OwnedFd,
    slots: &Slots,
    range: Range<u64>,
    offset: u64,
    flags: ReadWriteFlags,
) -> rustix::io::Result<usize> {
    let (address, len) = slots.span(&range);
    // SAFETY: the slots checked that the range is their own, and stay mapped while they are borrowed.
    unsafe { write_raw(file, std::ptr::without_provenance(address), len, offset, flags) }
}

/// `pwritev2(2)` from a bare pointer; `pwrite(2)` where it is missing, as in an emulator of the calls, and no flag is
/// wanted.
///
/// The kernel checks the address: what is not mapped is EFAULT. That the memory changes meanwhile does
/// not matter.
///
/// # Safety
/// `len` bytes from `start` are the caller's to disclose: the file gets whatever is there.
unsafe fn write_raw(
    file: &OwnedFd,
    start: *const u8,
    len: usize,
    offset: u64,
    flags: ReadWriteFlags,
) -> rustix::io::Result<usize> {
    let vector = libc::iovec { iov_base: start.cast_mut().cast(), iov_len: len };
    // The kernel wants the offset in two words, and on 64 bits shifts the second one out. By its number,
    // since older C libraries have no function for it.
    let (low, high) = (offset as c_ulong, (offset >> 32) as c_ulong);
    // SAFETY: the vector lives until the call returns, and so does the memory it names, by this
    // function's contract; the kernel only reads it.
    let written = unsafe {
        libc::syscall(
            libc::SYS_pwritev2,
            file.as_raw_fd(),
            &raw const vector,
            1 as c_ulong,
            low,
            high,
            flags.bits(),
        )
    };
    match usize::try_from(written).map_err(|_| last_errno()) {
        Err(Errno::NOSYS) if flags.is_empty() => {
            let offset = offset.try_into().map_err(|_| Errno::FBIG)?;
            // SAFETY: as above; the kernel only reads the memory.
            let written = unsafe { libc::pwrite(file.as_raw_fd(), start.cast(), len, offset) };
            usize::try_from(written).map_err(|_| last_errno())
        }
        result => result,
    }
}

/// `sync_file_range(2)`. With `SYNC_FILE_RANGE_WAIT_AFTER` it consumes the descriptor's record of a
/// writeback error; nobody will be told again on this descriptor.
pub(super) fn sync_file_range(
    file: &OwnedFd,
    range: &Range<u64>,
    flags: libc::c_uint,
) -> rustix::io::Result<()> {
    if range.is_empty() {
        return Ok(());
    }
    // The wire allows no offset that would not fit.
    let off_t = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let (offset, len) = (off_t(range.start), off_t(range.end - range.start));
    rustix::io::retry_on_intr(|| {
        // SAFETY: takes no pointers, and the descriptor is open for as long as it is borrowed.
        let result = unsafe { libc::sync_file_range(file.as_raw_fd(), offset, len, flags) };
        if result == 0 { Ok(()) } else { Err(last_errno()) }
    })
}

/// `close(2)`, with what it says: dropping a descriptor does not tell. It is closed in any case, after an
/// interruption too.
pub(super) fn close(file: OwnedFd) -> rustix::io::Result<()> {
    // SAFETY: the descriptor was owned, and from here on nobody has it.
    match unsafe { libc::close(file.into_raw_fd()) } {
        0 => Ok(()),
        _ => match last_errno() {
            Errno::INTR => Ok(()),
            errno => Err(errno),
        },
    }
}

/// `struct cachestat_range` of linux/mman.h.
#[repr(C)]
struct CachestatRange {
    off: u64,
    len: u64,
}

/// `struct cachestat` of linux/mman.h: pages of a range by state.
#[repr(C)]
#[derive(Default)]
pub(super) struct Cachestat {
    pub(super) nr_cache: u64,
    pub(super) nr_dirty: u64,
    pub(super) nr_writeback: u64,
    nr_evicted: u64,
    nr_recently_evicted: u64,
}

/// Number of `cachestat(2)`, Linux 6.5: the same on every architecture but Alpha, as all numbers from 424 on.
const SYS_CACHESTAT: libc::c_long = 451;

/// `cachestat(2)`: costs by what is cached of the range, so ask for no more than needed.
pub(super) fn cachestat(file: &OwnedFd, range: &Range<u64>) -> rustix::io::Result<Cachestat> {
    let mut pages = Cachestat::default();
    // Also of an empty range, to hear whether there is an answer at all.
    let asked = CachestatRange { off: range.start, len: (range.end - range.start).max(1) };
    // SAFETY: both pointers are to structs of the layout that the kernel's header gives, alive for
    // the call; the kernel reads the first and writes the second.
    let result = unsafe {
        libc::syscall(SYS_CACHESTAT, file.as_raw_fd(), &raw const asked, &raw mut pages, 0)
    };
    match result {
        0 if range.is_empty() => Ok(Cachestat::default()),
        0 => Ok(pages),
        _ => Err(last_errno()),
    }
}

/// `SO_PEERGROUPS`: the supplementary groups that the peer of a connected Unix socket had when it connected.
pub fn peer_groups(socket: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut groups: Vec<libc::gid_t> = vec![0; PEER_GROUPS];
    loop {
        let room = size_of_val(groups.as_slice());
        let mut bytes = libc::socklen_t::try_from(room).map_err(|_| io::ErrorKind::OutOfMemory)?;
        // SAFETY: the kernel writes at most `bytes` bytes, all of which are the vector's, and then how many
        // it needs to `bytes`; any bytes are valid numbers.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        let count = bytes as usize / size_of::<libc::gid_t>();
        match result {
            0 => {
                groups.truncate(count);
                return Ok(groups);
            }
            // There are more, and the kernel has said how many.
            _ if last_errno() == Errno::RANGE && count > groups.len() => groups.resize(count, 0),
            _ => return Err(last_errno().into()),
        }
    }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn a_pointer_is_written_at_its_offset_beyond_4_gib_too() {
        let file = tempfile::tempfile_in(".").unwrap();
        let descriptor: OwnedFd = file.try_clone().unwrap().into();
        let memory = *b"film";
        for offset in [0, (5 << 32) + 7] {
            let flags = ReadWriteFlags::empty();
            // SAFETY: the array is ours, and outlives the call.
            let written =
                unsafe { write_raw(&descriptor, memory.as_ptr(), memory.len(), offset, flags) };
            assert_eq!(written, Ok(4));
            let mut read = [0; 4];
            file.read_exact_at(&mut read, offset).unwrap();
            assert_eq!(read, memory);
        }
        assert_eq!(file.metadata().unwrap().len(), (5 << 32) + 11);
    }

    #[test]
    fn memory_that_is_not_there_is_an_error_and_no_crash() {
        let descriptor: OwnedFd = tempfile::tempfile_in(".").unwrap().into();
        let flags = ReadWriteFlags::empty();
        // SAFETY: nothing is there to be disclosed; the first page is never mapped.
        let written =
            unsafe { write_raw(&descriptor, std::ptr::without_provenance(8), 4, 0, flags) };
        assert_eq!(written, Err(Errno::FAULT));
    }

    #[test]
    fn the_groups_of_a_peer_are_those_that_it_has() {
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut found = peer_groups(ours.as_fd()).unwrap();
        let own = rustix::process::getgroups().unwrap();
        let mut own: Vec<_> = own.into_iter().map(|group| group.as_raw()).collect();
        found.sort_unstable();
        own.sort_unstable();
        assert_eq!(found, own);
        assert!(peer_groups(tempfile::tempfile().unwrap().as_fd()).is_err(), "no socket");
    }

    #[test]
    fn an_empty_range_is_not_the_rest_of_the_file() {
        let file = tempfile::tempfile_in(".").unwrap();
        file.write_all_at(&[7; 8192], 0).unwrap();
        let descriptor: OwnedFd = file.into();
        if let Ok(pages) = cachestat(&descriptor, &(0..0)) {
            assert_eq!(pages.nr_cache, 0);
        }
        let start = libc::SYNC_FILE_RANGE_WRITE;
        assert_eq!(sync_file_range(&descriptor, &(0..0), start), Ok(()));
    }
}
