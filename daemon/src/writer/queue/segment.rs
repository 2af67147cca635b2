//! A piece of content, and the memory that it is in.
//!
//! Content of a larger segment begins at a page boundary, so that it can be written past the page
//! cache. An allocation of that kind would take `unsafe`; skipping to the boundary does not.

use std::ops::Range;
use std::time::Instant;

/// Largest segment, and so the largest single `pwrite`: beyond 1 MiB no file system gets faster.
pub const SEGMENT_BYTES: usize = 1 << 20;

/// Smallest memory for a segment: a lone patch of 8 bytes should not hold a MiB.
pub(super) const SEGMENT_BYTES_MIN: usize = 4 << 10;

/// From here on a segment is aligned (invariant 4). The memory that is skipped for it is not charged:
/// at most a sixteenth, and for small segments it would be as much as they are.
pub(super) const ALIGNED_BYTES_MIN: usize = 64 << 10;

/// How much of it is made ready at once: as much as stays in the processor's nearest cache, so that the zeros
/// which the content then replaces cost little.
const STEP_BYTES: usize = 64 << 10;

/// The smallest page of the platforms served, and what every disk takes.
pub(super) const ALIGNMENT: usize = 4096;

/// A contiguous piece of content.
#[derive(Debug)]
pub struct Segment {
    /// Where in the file it begins.
    pub offset: u64,
    /// Number of the last command whose content is wholly in it or before it.
    pub sequence: u64,
    /// Content bytes of the commands that ended in it.
    pub content_bytes: u64,
    /// The content, behind `skip` bytes that nobody needs.
    pub(super) memory: Vec<u8>,
    pub(super) skip: usize,
    /// How much content it may hold, which is what the queue is charged.
    pub(super) room_bytes: usize,
    /// When it was begun.
    pub(super) since: Instant,
}

impl Segment {
    /// A segment without content, in memory of [`allocation_bytes`].
    pub(super) fn new(offset: u64, mut memory: Vec<u8>, room_bytes: usize) -> Self {
        memory.clear();
        // `align_offset` may decline, then the content is merely not aligned.
        let skip = match room_bytes {
            ALIGNED_BYTES_MIN.. => memory.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT),
            _ => 0,
        };
        memory.resize(skip, 0);
        let since = Instant::now();
        Self { offset, sequence: 0, content_bytes: 0, memory, skip, room_bytes, since }
    }

    /// A segment that holds nothing and never will.
    #[must_use]
    pub fn empty() -> Self {
        Self::new(0, Vec::new(), 0)
    }

    /// What is in it.
    #[must_use]
    pub fn content(&self) -> &[u8] {
        &self.memory[self.skip..]
    }

    /// The bytes of the file that it covers.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.offset..self.offset + self.content().len() as u64
    }

    /// How much content it has, in bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> usize {
        self.content().len()
    }

    /// Where the next of `len` bytes of content go; it was asked for with room for them. They count as content
    /// at once: what does not come is to be dropped by [`Segment::truncate`].
    pub fn space(&mut self, len: usize) -> &mut [u8] {
        debug_assert!(self.len() + len <= self.room_bytes, "more than was charged");
        let begin = self.memory.len();
        self.memory.resize(begin + len.min(STEP_BYTES), 0);
        &mut self.memory[begin..]
    }

    /// Drops the content behind its first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.memory.truncate(self.skip + len);
    }
}

/// How much memory a segment with so much room takes.
pub(super) fn allocation_bytes(room_bytes: usize) -> usize {
    if room_bytes < ALIGNED_BYTES_MIN { room_bytes } else { room_bytes + ALIGNMENT }
}
