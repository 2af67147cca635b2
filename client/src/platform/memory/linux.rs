//! Memory that a stream shares with the daemon, and the only `unsafe` of the client: mapping it.
//!
//! 1. Nobody but these mappings can change it: `F_SEAL_FUTURE_WRITE` is set before anybody else gets
//!    the descriptor, which forbids every new writable mapping and every `write`, also ours.
//! 2. No two pieces overlap, and none is mapped twice for writing.
//!
//! So a piece is as good as a box of bytes, and what Rust says about references to it is true.
//! Pages come into being when they are first written: a piece that is never used costs nothing.

use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use memmap2::{Advice, MmapMut, MmapOptions};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io::Errno;

/// What the daemon is given.
#[derive(Debug)]
pub(crate) struct Memory(OwnedFd);

impl AsFd for Memory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A part of it, for its only owner.
#[derive(Debug)]
pub(crate) struct Piece(MmapMut);

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Piece {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// So many pieces of `len` bytes, in the order in which they lie in the memory; `None` where the
/// system has none to give, or no such calls.
pub(crate) fn allocate(pieces: usize, len: usize) -> Option<(Memory, Vec<Piece>)> {
    let memory = create().ok()?;
    ftruncate(&memory, (pieces * len) as u64).ok()?;
    // From the end: the kernel hands out addresses downward, and neighbours become one mapping.
    let mut mapped = Vec::with_capacity(pieces);
    for number in (0..pieces).rev() {
        mapped.push(map(&memory, (number * len) as u64, len).ok()?);
    }
    mapped.reverse();
    let size = SealFlags::SHRINK | SealFlags::GROW;
    // FUTURE_WRITE is as old as Linux 5.1; without it rule 1 does not hold, and nothing is shared.
    fcntl_add_seals(&memory, size | SealFlags::FUTURE_WRITE | SealFlags::SEAL).ok()?;
    Some((Memory(memory), mapped))
}

fn create() -> Result<OwnedFd, Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    match memfd_create("freemkvd-slots", flags | MemfdFlags::NOEXEC_SEAL) {
        // Before Linux 6.3.
        Err(Errno::INVAL) => memfd_create("freemkvd-slots", flags),
        result => result,
    }
}

#[expect(unsafe_code, reason = "memory that can be shared comes from mmap alone")]
fn map(memory: &OwnedFd, offset: u64, len: usize) -> io::Result<Piece> {
    // SAFETY: the file is a memfd that nobody else has, and is sealed before anybody gets it: it does
    // not shrink (no SIGBUS), and nobody changes it but through this mapping (rule 1), of which there
    // is one for each byte (rule 2). A child of this process has none (DontFork).
    let piece = unsafe { MmapOptions::new().offset(offset).len(len).map_mut(memory)? };
    piece.advise(Advice::DontFork)?;
    Ok(Piece(piece))
}

#[cfg(test)]
impl Memory {
    /// What the daemon would read.
    pub(crate) fn read(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let count = rustix::io::pread(&self.0, &mut bytes[..], at).expect("a memfd can be read");
        assert_eq!(count, len);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{FallocateFlags, fallocate, fcntl_get_seals, fstat};
    use rustix::io::{pread, pwrite};

    use super::*;

    const LEN: usize = 1 << 20;

    #[test]
    fn pieces_lie_in_the_memory_one_after_the_other() {
        let (memory, mut pieces) = allocate(3, LEN).unwrap();
        assert_eq!(fstat(&memory.0).unwrap().st_size, 3 << 20);
        assert_eq!(fstat(&memory.0).unwrap().st_blocks, 0, "nothing is used yet");
        for (number, piece) in (1_u8..).zip(&mut pieces) {
            assert_eq!(piece.len(), LEN);
            assert_eq!(piece.as_ptr().align_offset(4096), 0);
            piece[5] = number;
        }
        for number in 0..3 {
            let mut byte = [0];
            pread(&memory.0, &mut byte, (number * LEN + 5) as u64).unwrap();
            assert_eq!(usize::from(byte[0]), number + 1);
        }
    }

    #[test]
    fn nobody_else_can_change_it() {
        let (memory, pieces) = allocate(1, LEN).unwrap();
        let seals = fcntl_get_seals(&memory.0).unwrap();
        assert!(seals.contains(SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL));
        assert_eq!(pwrite(&memory.0, b"x", 0), Err(Errno::PERM));
        assert_eq!(ftruncate(&memory.0, 0), Err(Errno::PERM));
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        assert_eq!(fallocate(&memory.0, punch, 0, 4096), Err(Errno::PERM));
        assert!(map(&memory.0, 0, LEN).is_err(), "a second mapping");
        drop(pieces);
    }
}
