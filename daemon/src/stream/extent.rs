//! Which byte ranges of one file are dirty, in writeback, or clean and still resident. Pure.
//!
//! Ranges are whole pages: the kernel dirties, writes and evicts nothing smaller, and the budget is
//! charged for what the kernel holds.
//!
//! Invariants:
//! 1. The charge of a stream is `charged_bytes`: dirty plus writeback.
//! 2. A page that is written while in writeback is dirty again and counts twice until both are done:
//!    the kernel, too, will write it twice.
//! 3. A page that is dirty or in writeback is never evicted.
//! 4. The newest `window_bytes` and the head of the file are never evicted.

use std::collections::VecDeque;
use std::ops::Range;

use rangemap::RangeSet;

/// The head of a file that stays resident: Matroska patches its Segment size, SeekHead and duration
/// within the first few KiB, mostly at the very end of a rip, and a patch into an evicted page is a
/// read that may hang on a sick device.
pub const HEAD_BYTES: u64 = 64 << 10;

/// See the module's documentation.
#[derive(Debug)]
pub struct Extents {
    page_bytes: u64,
    window_bytes: u64,
    /// End of the highest byte written.
    end: u64,
    dirty: RangeSet<u64>,
    dirty_bytes: u64,
    /// In the order in which writeback was started.
    writeback: VecDeque<Range<u64>>,
    writeback_bytes: u64,
    /// Clean, and possibly in the page cache.
    resident: RangeSet<u64>,
}

impl Extents {
    /// No extents yet. `page_bytes` is the kernel's page size, a power of two.
    #[must_use]
    pub fn new(page_bytes: u64, window_bytes: u64) -> Self {
        assert!(page_bytes.is_power_of_two());
        Self {
            page_bytes,
            window_bytes,
            end: 0,
            dirty: RangeSet::new(),
            dirty_bytes: 0,
            writeback: VecDeque::new(),
            writeback_bytes: 0,
            resident: RangeSet::new(),
        }
    }

    /// Bytes in pages that wait for writeback.
    #[must_use]
    pub fn dirty_bytes(&self) -> u64 {
        self.dirty_bytes
    }

    /// Bytes in pages whose writeback was started and is not known to be complete.
    #[must_use]
    pub fn writeback_bytes(&self) -> u64 {
        self.writeback_bytes
    }

    /// What the budget has charged for this file (invariant 1).
    #[must_use]
    pub fn charged_bytes(&self) -> u64 {
        self.dirty_bytes + self.writeback_bytes
    }

    /// The ranges that are charged, for asking the kernel about them.
    #[must_use]
    pub fn charged_ranges(&self) -> RangeSet<u64> {
        let mut ranges = self.dirty.clone();
        ranges.extend(self.writeback.iter().cloned());
        ranges
    }

    /// Bytes in the pages that `range` touches: the most that writing it can make dirty.
    #[must_use]
    pub fn page_bytes_of(&self, range: &Range<u64>) -> u64 {
        let pages = self.pages(range);
        pages.end - pages.start
    }

    /// `range` was written. Returns the bytes that became dirty by it.
    pub fn write(&mut self, range: &Range<u64>) -> u64 {
        let pages = self.pages(range);
        let bytes = self.dirty.gaps(&pages).map(|gap| gap.end - gap.start).sum();
        self.end = self.end.max(range.end);
        self.resident.remove(pages.clone());
        self.dirty.insert(pages);
        self.dirty_bytes += bytes;
        bytes
    }

    /// The file is no longer than `len` bytes: the window's end goes back with it. What was charged
    /// stays so until a wait has shown it clean, which is quick for pages that are gone.
    pub fn cut(&mut self, len: u64) {
        self.end = self.end.min(len);
    }

    /// The extent to write back next, at most `bytes_max` long: the lowest dirty one, since file
    /// order is what a disk wants. It counts as in writeback from here on.
    pub fn start_writeback(&mut self, bytes_max: u64) -> Option<Range<u64>> {
        let lowest = self.dirty.first()?.clone();
        let len = (lowest.end - lowest.start).min(bytes_max.max(self.page_bytes));
        let extent = lowest.start..lowest.start + len / self.page_bytes * self.page_bytes;
        self.dirty.remove(extent.clone());
        let bytes = extent.end - extent.start;
        self.dirty_bytes -= bytes;
        self.writeback_bytes += bytes;
        self.writeback.push_back(extent.clone());
        Some(extent)
    }

    /// The extent whose writeback was started first.
    #[must_use]
    pub fn oldest_writeback(&self) -> Option<Range<u64>> {
        self.writeback.front().cloned()
    }

    /// The oldest extent in writeback is clean. Returns its length in bytes: what to release.
    pub fn complete_oldest(&mut self) -> u64 {
        let Some(extent) = self.writeback.pop_front() else {
            return 0;
        };
        let bytes = extent.end - extent.start;
        self.writeback_bytes -= bytes;
        self.resident.insert(extent.clone());
        for dirty in self.dirty.overlapping(&extent) {
            self.resident.remove(dirty.clone());
        }
        bytes
    }

    /// Everything is clean: the file as a whole was synced. Returns what to release.
    pub fn complete_all(&mut self) -> u64 {
        let bytes = self.charged_bytes();
        for extent in self.writeback.drain(..).chain(std::mem::take(&mut self.dirty)) {
            self.resident.insert(extent);
        }
        (self.dirty_bytes, self.writeback_bytes) = (0, 0);
        bytes
    }

    /// Clean ranges behind the window, to evict now (invariants 3 and 4). They are forgotten.
    pub fn take_evictable(&mut self) -> Vec<Range<u64>> {
        let head_end = HEAD_BYTES.next_multiple_of(self.page_bytes);
        let window_start = self.end.saturating_sub(self.window_bytes) / self.page_bytes;
        let behind = head_end..(window_start * self.page_bytes).max(head_end);
        if behind.is_empty() {
            return Vec::new();
        }
        let evict: Vec<_> = self
            .resident
            .overlapping(&behind)
            .map(|range| range.start.max(behind.start)..range.end.min(behind.end))
            .filter(|range| !self.writeback.iter().any(|busy| overlap(busy, range)))
            .collect();
        evict.iter().for_each(|range| self.resident.remove(range.clone()));
        evict
    }

    fn pages(&self, range: &Range<u64>) -> Range<u64> {
        let start = range.start / self.page_bytes * self.page_bytes;
        start..range.end.next_multiple_of(self.page_bytes).max(start + self.page_bytes)
    }
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: u64 = 4096;
    const MIB: u64 = 1 << 20;

    fn extents() -> Extents {
        Extents::new(PAGE, 4 * MIB)
    }

    #[test]
    fn whole_pages_are_charged_once() {
        let mut extents = extents();
        assert_eq!(extents.write(&(0..1)), PAGE);
        assert_eq!(extents.write(&(1..PAGE)), 0);
        assert_eq!(extents.write(&(PAGE - 1..PAGE + 1)), PAGE);
        assert_eq!(extents.charged_bytes(), 2 * PAGE);
    }

    #[test]
    fn extents_leave_lowest_first_and_complete_in_order() {
        let mut extents = extents();
        extents.write(&(0..3 * MIB));
        assert_eq!(extents.start_writeback(2 * MIB), Some(0..2 * MIB));
        assert_eq!(extents.start_writeback(2 * MIB), Some(2 * MIB..3 * MIB));
        assert_eq!(extents.start_writeback(2 * MIB), None);
        assert_eq!((extents.dirty_bytes(), extents.writeback_bytes()), (0, 3 * MIB));
        assert_eq!(extents.complete_oldest(), 2 * MIB);
        assert_eq!(extents.oldest_writeback(), Some(2 * MIB..3 * MIB));
        assert_eq!(extents.complete_oldest(), MIB);
        assert_eq!(extents.charged_bytes(), 0);
    }

    #[test]
    fn a_patch_into_writeback_is_charged_again_and_not_evicted() {
        let mut extents = extents();
        extents.write(&(0..8 * MIB));
        extents.start_writeback(8 * MIB);
        assert_eq!(extents.write(&(MIB..MIB + 8)), PAGE);
        assert_eq!(extents.complete_oldest(), 8 * MIB);
        assert_eq!(extents.charged_bytes(), PAGE);
        assert_eq!(extents.take_evictable(), [HEAD_BYTES..MIB, MIB + PAGE..4 * MIB]);
        assert_eq!(extents.start_writeback(MIB), Some(MIB..MIB + PAGE));
        assert!(extents.take_evictable().is_empty());
        extents.complete_oldest();
        assert_eq!(extents.take_evictable(), [MIB..MIB + PAGE]);
    }

    #[test]
    fn head_and_window_stay_resident() {
        let mut extents = extents();
        extents.write(&(0..16 * MIB));
        assert_eq!(extents.complete_all(), 16 * MIB);
        assert_eq!(extents.take_evictable(), [HEAD_BYTES..12 * MIB]);
        assert!(extents.take_evictable().is_empty(), "evicted once");
        // The window moves on with the file.
        extents.write(&(16 * MIB..18 * MIB));
        extents.complete_all();
        assert_eq!(extents.take_evictable(), [12 * MIB..14 * MIB]);
    }

    #[test]
    fn the_window_goes_back_with_a_file_that_is_cut() {
        let mut extents = extents();
        extents.write(&(0..16 * MIB));
        extents.cut(0);
        extents.write(&(0..MIB));
        extents.complete_all();
        assert!(extents.take_evictable().is_empty(), "all of it is newest again");
    }

    #[test]
    fn the_charged_ranges_are_dirty_and_writeback_together() {
        let mut extents = extents();
        assert!(extents.charged_ranges().is_empty());
        extents.write(&(0..MIB));
        extents.start_writeback(MIB);
        extents.write(&(5 * MIB..5 * MIB + 1));
        let ranges: Vec<_> = extents.charged_ranges().into_iter().collect();
        assert_eq!(ranges, [0..MIB, 5 * MIB..5 * MIB + PAGE]);
    }
}
