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
use std::time::Duration;

use rangemap::RangeSet;

/// The head of a file that stays resident: Matroska patches its Segment size, SeekHead and duration
/// within the first few KiB, mostly at the very end of a rip, and a patch into an evicted page is a
/// read that may hang on a sick device.
pub const HEAD_BYTES: u64 = 64 << 10;

/// An extent whose writeback was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Which bytes.
    pub range: Range<u64>,
    /// When.
    pub began: Duration,
    /// True when the kernel drops the pages by itself.
    is_uncached: bool,
}

impl Extent {
    /// How long it is.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.range.end - self.range.start
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Extents {
    page_bytes: u64,
    window_bytes: u64,
    /// End of the highest byte written.
    end: u64,
    dirty: RangeSet<u64>,
    dirty_bytes: u64,
    /// Since when something has been dirty.
    dirty_since: Duration,
    /// In the order in which writeback was started.
    writeback: VecDeque<Extent>,
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
            dirty_since: Duration::ZERO,
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

    /// End of the highest byte written.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Changes how many of the newest bytes stay resident.
    pub fn set_window(&mut self, window_bytes: u64) {
        self.window_bytes = window_bytes;
    }

    /// Since when something has been dirty, if anything is.
    #[must_use]
    pub fn dirty_since(&self) -> Option<Duration> {
        (self.dirty_bytes > 0).then_some(self.dirty_since)
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
        ranges.extend(self.writeback.iter().map(|extent| extent.range.clone()));
        ranges
    }

    /// Bytes in the pages that `range` touches: the most that writing it can make dirty.
    #[must_use]
    pub fn page_bytes_of(&self, range: &Range<u64>) -> u64 {
        let pages = self.pages(range);
        pages.end - pages.start
    }

    /// `range` was written. Returns the bytes that became dirty by it.
    pub fn write(&mut self, range: &Range<u64>, now: Duration) -> u64 {
        let pages = self.pages(range);
        let bytes = self.dirty.gaps(&pages).map(|gap| gap.end - gap.start).sum();
        self.end = self.end.max(range.end);
        if self.dirty_bytes == 0 {
            self.dirty_since = now;
        }
        self.resident.remove(pages.clone());
        self.dirty.insert(pages);
        self.dirty_bytes += bytes;
        bytes
    }

    /// `range`, whole pages, was written in a manner that starts its writeback at once. What follows the
    /// newest extent is one with it, up to `extent_bytes_max`. Returns the bytes that are charged for
    /// it beyond what was.
    pub fn write_uncached(
        &mut self,
        range: &Range<u64>,
        extent_bytes_max: u64,
        now: Duration,
    ) -> u64 {
        let pages = self.pages(range);
        let len = pages.end - pages.start;
        let fresh: u64 = self.dirty.gaps(&pages).map(|gap| gap.end - gap.start).sum();
        self.end = self.end.max(range.end);
        self.dirty.remove(pages.clone());
        self.dirty_bytes -= len - fresh;
        self.resident.remove(pages.clone());
        self.writeback_bytes += len;
        match self.writeback.back_mut() {
            Some(newest)
                if newest.is_uncached
                    && newest.range.end == pages.start
                    && newest.bytes() + len <= extent_bytes_max =>
            {
                newest.range.end = pages.end;
            }
            _ => self.writeback.push_back(Extent { range: pages, began: now, is_uncached: true }),
        }
        fresh
    }

    /// `range` was written past the page cache: it is clean, and nothing of it is resident.
    pub fn write_direct(&mut self, range: &Range<u64>) {
        let pages = self.pages(range);
        let fresh: u64 = self.dirty.gaps(&pages).map(|gap| gap.end - gap.start).sum();
        debug_assert_eq!(fresh, pages.end - pages.start, "direct writes avoid dirty pages");
        self.end = self.end.max(range.end);
        self.resident.remove(pages);
    }

    /// True when a page of `range` is dirty or in writeback.
    #[must_use]
    pub fn touches_charged(&self, range: &Range<u64>) -> bool {
        let pages = self.pages(range);
        self.dirty.overlaps(&pages)
            || self.writeback.iter().any(|busy| overlap(&busy.range, &pages))
    }

    /// The file is no longer than `len` bytes: the window's end goes back with it. What was charged
    /// stays so until a wait has shown it clean, which is quick for pages that are gone.
    pub fn cut(&mut self, len: u64) {
        self.end = self.end.min(len);
    }

    /// The extent to write back next, at most `bytes_max` long: the lowest dirty one, since file
    /// order is what a disk wants. It counts as in writeback from here on.
    pub fn start_writeback(&mut self, bytes_max: u64, now: Duration) -> Option<Range<u64>> {
        let lowest = self.dirty.first()?.clone();
        let len = (lowest.end - lowest.start).min(bytes_max.max(self.page_bytes));
        let extent = lowest.start..lowest.start + len / self.page_bytes * self.page_bytes;
        self.dirty.remove(extent.clone());
        let bytes = extent.end - extent.start;
        self.dirty_bytes -= bytes;
        self.writeback_bytes += bytes;
        self.dirty_since = now;
        let started = Extent { range: extent.clone(), began: now, is_uncached: false };
        self.writeback.push_back(started);
        Some(extent)
    }

    /// The extent whose writeback was started first.
    #[must_use]
    pub fn oldest_writeback(&self) -> Option<&Extent> {
        self.writeback.front()
    }

    /// The oldest extent in writeback is clean. Its length is what to release.
    pub fn complete_oldest(&mut self) -> Option<Extent> {
        let extent = self.writeback.pop_front()?;
        self.writeback_bytes -= extent.bytes();
        if !extent.is_uncached {
            self.resident.insert(extent.range.clone());
            for dirty in self.dirty.overlapping(&extent.range) {
                self.resident.remove(dirty.clone());
            }
        }
        Some(extent)
    }

    /// Bytes of `range` that are charged for other reasons than the oldest extent: the kernel may still
    /// count them when that one is clean.
    #[must_use]
    pub fn charged_again_bytes(&self, range: &Range<u64>) -> u64 {
        let within = |other: &Range<u64>| {
            other.end.min(range.end).saturating_sub(other.start.max(range.start))
        };
        let dirty: u64 = self.dirty.overlapping(range).map(within).sum();
        dirty + self.writeback.iter().skip(1).map(|extent| within(&extent.range)).sum::<u64>()
    }

    /// Everything is clean: the file as a whole was synced. Returns what to release.
    pub fn complete_all(&mut self) -> u64 {
        let bytes = self.charged_bytes();
        let started = self.writeback.drain(..).filter(|extent| !extent.is_uncached);
        let started = started.map(|extent| extent.range);
        for extent in started.chain(std::mem::take(&mut self.dirty)) {
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
            .filter(|range| !self.writeback.iter().any(|busy| overlap(&busy.range, range)))
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
    const T0: Duration = Duration::ZERO;

    fn extents() -> Extents {
        Extents::new(PAGE, 4 * MIB)
    }

    fn done(extents: &mut Extents) -> u64 {
        extents.complete_oldest().unwrap().bytes()
    }

    #[test]
    fn whole_pages_are_charged_once() {
        let mut extents = extents();
        assert_eq!(extents.write(&(0..1), T0), PAGE);
        assert_eq!(extents.write(&(1..PAGE), T0), 0);
        assert_eq!(extents.write(&(PAGE - 1..PAGE + 1), T0), PAGE);
        assert_eq!(extents.charged_bytes(), 2 * PAGE);
    }

    #[test]
    fn extents_leave_lowest_first_and_complete_in_order() {
        let mut extents = extents();
        extents.write(&(0..3 * MIB), T0);
        assert_eq!(extents.start_writeback(2 * MIB, T0), Some(0..2 * MIB));
        assert_eq!(extents.start_writeback(2 * MIB, T0), Some(2 * MIB..3 * MIB));
        assert_eq!(extents.start_writeback(2 * MIB, T0), None);
        assert_eq!((extents.dirty_bytes(), extents.writeback_bytes()), (0, 3 * MIB));
        assert_eq!(done(&mut extents), 2 * MIB);
        assert_eq!(extents.oldest_writeback().unwrap().range, 2 * MIB..3 * MIB);
        assert_eq!(done(&mut extents), MIB);
        assert_eq!(extents.charged_bytes(), 0);
    }

    #[test]
    fn a_patch_into_writeback_is_charged_again_and_not_evicted() {
        let mut extents = extents();
        extents.write(&(0..8 * MIB), T0);
        extents.start_writeback(8 * MIB, T0);
        assert_eq!(extents.write(&(MIB..MIB + 8), T0), PAGE);
        assert_eq!(done(&mut extents), 8 * MIB);
        assert_eq!(extents.charged_bytes(), PAGE);
        assert_eq!(extents.take_evictable(), [HEAD_BYTES..MIB, MIB + PAGE..4 * MIB]);
        assert_eq!(extents.start_writeback(MIB, T0), Some(MIB..MIB + PAGE));
        assert!(extents.take_evictable().is_empty());
        extents.complete_oldest();
        assert_eq!(extents.take_evictable(), [MIB..MIB + PAGE]);
    }

    #[test]
    fn head_and_window_stay_resident() {
        let mut extents = extents();
        extents.write(&(0..16 * MIB), T0);
        assert_eq!(extents.complete_all(), 16 * MIB);
        assert_eq!(extents.take_evictable(), [HEAD_BYTES..12 * MIB]);
        assert!(extents.take_evictable().is_empty(), "evicted once");
        // The window moves on with the file.
        extents.write(&(16 * MIB..18 * MIB), T0);
        extents.complete_all();
        assert_eq!(extents.take_evictable(), [12 * MIB..14 * MIB]);
    }

    #[test]
    fn the_window_goes_back_with_a_file_that_is_cut() {
        let mut extents = extents();
        extents.write(&(0..16 * MIB), T0);
        extents.cut(0);
        extents.write(&(0..MIB), T0);
        extents.complete_all();
        assert!(extents.take_evictable().is_empty(), "all of it is newest again");
    }

    #[test]
    fn the_charged_ranges_are_dirty_and_writeback_together() {
        let mut extents = extents();
        assert!(extents.charged_ranges().is_empty());
        extents.write(&(0..MIB), T0);
        extents.start_writeback(MIB, T0);
        extents.write(&(5 * MIB..5 * MIB + 1), T0);
        let ranges: Vec<_> = extents.charged_ranges().into_iter().collect();
        assert_eq!(ranges, [0..MIB, 5 * MIB..5 * MIB + PAGE]);
    }

    #[test]
    fn uncached_writes_gather_into_extents_and_leave_nothing_resident() {
        let mut extents = extents();
        for at in 0..4 {
            let range = at * MIB..(at + 1) * MIB;
            assert_eq!(extents.write_uncached(&range, 3 * MIB, Duration::from_secs(at)), MIB);
        }
        assert_eq!((extents.dirty_bytes(), extents.writeback_bytes()), (0, 4 * MIB));
        let oldest = extents.complete_oldest().unwrap();
        assert_eq!((oldest.range.clone(), oldest.began), (0..3 * MIB, T0));
        assert_eq!(done(&mut extents), MIB);
        extents.set_window(0);
        assert!(extents.take_evictable().is_empty(), "the kernel drops them");
    }

    #[test]
    fn an_uncached_write_takes_dirty_pages_with_it() {
        let mut extents = extents();
        extents.write(&(0..PAGE), T0);
        assert_eq!(extents.write_uncached(&(0..2 * PAGE), MIB, T0), PAGE);
        assert_eq!((extents.dirty_bytes(), extents.writeback_bytes()), (0, 2 * PAGE));
        extents.write(&(PAGE..PAGE + 8), T0);
        assert_eq!(extents.charged_again_bytes(&(0..2 * PAGE)), PAGE);
    }
}
