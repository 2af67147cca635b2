//! The memory of a stream: slots of 1 MiB, and the pool that they come from and go back to.
//!
//! 1. A stream never has more slots than its limit, and no other memory that grows.
//!    Shared slots are no others: the same memory, that the daemon can read as well.
//! 2. Whoever holds the only reference to a slot may change it; a slot that is shared is immutable.
//!    The window shares a slot when it hands it over, so what is in flight never changes.
//! 3. References are given back through [`Pool::put`] only, under the lock that the pool is behind:
//!    the last one to come back frees the slot, and none is lost between two that are not the last.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use crate::memory::Piece;

/// Length of a slot, and of the part of the file that it covers: slot k is `[k MiB, (k + 1) MiB)`.
/// Below 256 KiB the frames begin to cost more than their content; beyond 4 MiB a `Write` is full.
pub(crate) const SLOT_BYTES: usize = 1 << 20;

const _: () = assert!(SLOT_BYTES == freemkvd_proto::limits::SLOT_BYTES as usize);

/// The smallest page of the platforms served; what sits on it copies and pins best.
const ALIGNMENT: usize = 4096;

/// One mebibyte, page-aligned. What it held before it was reused is still in it.
pub(crate) struct Slot {
    memory: Memory,
}

enum Memory {
    /// This process' alone.
    Own {
        memory: Box<[u8]>,
        /// Bytes to the first page boundary: an aligned allocation would take `unsafe`.
        skip: usize,
    },
    /// The daemon's too, under this number.
    Shared { piece: Piece, number: u32 },
}

impl Slot {
    pub(crate) fn new() -> Self {
        let memory = vec![0; SLOT_BYTES + ALIGNMENT].into_boxed_slice();
        // `align_offset` may decline, then the slot is merely not aligned.
        let skip = memory.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        Self { memory: Memory::Own { memory, skip } }
    }

    /// The number under which the daemon knows it.
    pub(crate) fn number(&self) -> Option<u32> {
        match self.memory {
            Memory::Own { .. } => None,
            Memory::Shared { number, .. } => Some(number),
        }
    }
}

impl Deref for Slot {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.memory {
            Memory::Own { memory, skip } => &memory[*skip..*skip + SLOT_BYTES],
            Memory::Shared { piece, .. } => piece,
        }
    }
}

impl DerefMut for Slot {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.memory {
            Memory::Own { memory, skip } => &mut memory[*skip..*skip + SLOT_BYTES],
            Memory::Shared { piece, .. } => piece,
        }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Slot")
    }
}

/// The slots of one stream that nobody uses, and the count of all.
#[derive(Debug)]
pub(crate) struct Pool {
    free: Vec<Arc<Slot>>,
    /// Shared ones that were never used, the first to be used last in it.
    fresh: Vec<Slot>,
    allocated: usize,
    limit: usize,
    is_shared: bool,
}

impl Pool {
    /// An empty pool that will allocate up to `limit` slots, each when it is first needed.
    pub(crate) fn new(limit: usize) -> Self {
        Self { free: Vec::new(), fresh: Vec::new(), allocated: 0, limit, is_shared: false }
    }

    /// A pool of slots that the daemon has too, numbered in this order. They take memory when they
    /// are first written to.
    pub(crate) fn shared(pieces: Vec<Piece>) -> Self {
        let limit = pieces.len();
        let numbered = (0..).zip(pieces);
        let slots =
            numbered.map(|(number, piece)| Slot { memory: Memory::Shared { piece, number } });
        let mut fresh: Vec<_> = slots.collect();
        fresh.reverse();
        Self { free: Vec::new(), fresh, allocated: 0, limit, is_shared: true }
    }

    /// True when the daemon knows every slot of it by a number.
    pub(crate) fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// A slot that nobody else holds, or `None` while all are in use.
    pub(crate) fn take(&mut self) -> Option<Arc<Slot>> {
        if let Some(slot) = self.free.pop() {
            return Some(slot);
        }
        if self.allocated == self.limit {
            return None;
        }
        self.allocated += 1;
        Some(Arc::new(self.fresh.pop().unwrap_or_else(Slot::new)))
    }

    /// Takes back a reference. True when it was the last and the slot is free again.
    pub(crate) fn put(&mut self, mut slot: Arc<Slot>) -> bool {
        let is_last = Arc::get_mut(&mut slot).is_some();
        if is_last {
            self.free.push(slot);
        }
        is_last
    }

    /// Slots allocated so far.
    #[cfg(test)]
    pub(crate) fn allocated(&self) -> usize {
        self.allocated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_page_aligned_and_of_their_length() {
        for mut pool in pools() {
            let slot = pool.take().unwrap();
            assert_eq!(slot.len(), SLOT_BYTES);
            assert_eq!(slot.as_ptr().align_offset(ALIGNMENT), 0);
        }
    }

    fn pools() -> Vec<Pool> {
        let shared = crate::memory::allocate(2, SLOT_BYTES);
        [Some(Pool::new(2)), shared.map(|(_, pieces)| Pool::shared(pieces))]
            .into_iter()
            .flatten()
            .collect()
    }

    #[test]
    fn shared_slots_are_used_in_order() {
        let Some((_, pieces)) = crate::memory::allocate(3, SLOT_BYTES) else {
            return;
        };
        let mut pool = Pool::shared(pieces);
        let numbers: Vec<_> =
            std::iter::from_fn(|| pool.take()).map(|slot| slot.number()).collect();
        assert_eq!(numbers, [Some(0), Some(1), Some(2)]);
    }

    #[test]
    fn the_limit_holds_and_the_last_reference_frees() {
        for mut pool in pools() {
            limit_holds(&mut pool);
        }
    }

    fn limit_holds(pool: &mut Pool) {
        let first = pool.take().unwrap();
        let second = pool.take().unwrap();
        assert!(pool.take().is_none());
        let shared = Arc::clone(&first);
        assert!(!pool.put(first));
        assert!(pool.take().is_none());
        assert!(pool.put(shared));
        assert!(pool.take().is_some());
        assert!(pool.put(second));
        assert_eq!(pool.allocated(), 2);
    }
}
