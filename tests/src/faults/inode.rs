//! One file as the kernel has it: what its pages are, where they have got to, and what went wrong.
//!
//! Injects nothing by itself. It models:
//! * a page is dirty, then in writeback, then in the device's cache, then on the medium; only a flush, which
//!   belongs to a sync, gets it there;
//! * a page whose writeback failed counts as clean all the same. What was in it is gone from the file as soon
//!   as it is evicted, and no sync writes it again;
//! * the error of that is kept with the inode. Each open description has a cursor of its own into it: one that
//!   waits or syncs is told once, and of an error that nobody has been told of a later opener is told too;
//! * a page that is written again while in writeback is dirty again; what is under way is the old content.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// Length of a page in bytes.
pub const PAGE_BYTES: u64 = LEN as u64;

const LEN: usize = 4096;

/// The content of one.
pub type Page = [u8; LEN];

/// Content of a page, and which change of metadata was the last before it.
#[derive(Clone, Debug)]
pub(super) struct Version {
    pub(super) bytes: Arc<Page>,
    pub(super) stamp: u64,
}

#[derive(Debug, Default)]
pub(super) struct PageState {
    /// What a reader would see; `None` for a hole.
    pub(super) live: Option<Version>,
    pub(super) is_cached: bool,
    pub(super) is_dirty: bool,
    /// Its writeback has failed, and it was not written since.
    pub(super) is_lost: bool,
    pub(super) writeback: Option<Version>,
    /// In the device's cache.
    pub(super) device: Option<Version>,
    pub(super) medium: Option<Version>,
}

/// The kernel's record of writeback errors (`errseq_t`).
#[derive(Debug, Default)]
pub(super) struct Errors {
    count: u64,
    errno: i32,
    is_seen: bool,
}

impl Errors {
    pub(super) fn record(&mut self, errno: i32) {
        self.count += 1;
        (self.errno, self.is_seen) = (errno, false);
    }

    /// Where a new description begins.
    pub(super) fn sample(&self) -> u64 {
        if self.is_seen { self.count } else { self.count.saturating_sub(1) }
    }

    /// Tells a description once of whatever came since it was last told.
    pub(super) fn tell(&mut self, since: &mut u64) -> io::Result<()> {
        if std::mem::replace(since, self.count) == self.count {
            return Ok(());
        }
        self.is_seen = true;
        Err(io::Error::from_raw_os_error(self.errno))
    }
}

#[derive(Debug, Default)]
pub(super) struct Inode {
    pub(super) len: u64,
    pub(super) durable_len: u64,
    pub(super) pages: BTreeMap<u64, PageState>,
    /// Pages that take space, reserved ones included.
    pub(super) blocks: BTreeSet<u64>,
    pub(super) errors: Errors,
    pub(super) openers: usize,
    pub(super) links: usize,
}

/// The pages that `range` touches.
pub(super) fn touched(range: &Range<u64>) -> Range<u64> {
    range.start / PAGE_BYTES..range.end.div_ceil(PAGE_BYTES)
}

impl Inode {
    /// Content goes into the page cache.
    pub(super) fn write(&mut self, offset: u64, content: &[u8], stamp: u64) {
        let mut left = content;
        let mut at = offset;
        while !left.is_empty() {
            let from = index(at % PAGE_BYTES);
            let count = left.len().min(LEN - from);
            self.change(at / PAGE_BYTES, stamp, |page| {
                page[from..from + count].copy_from_slice(&left[..count]);
            });
            at += count as u64;
            left = &left[count..];
        }
        self.len = self.len.max(at);
    }

    fn change(&mut self, page: u64, stamp: u64, change: impl FnOnce(&mut Page)) {
        let state = self.pages.entry(page).or_default();
        let live = state.live.get_or_insert_with(|| Version { bytes: Arc::new([0; LEN]), stamp });
        change(Arc::make_mut(&mut live.bytes));
        live.stamp = stamp;
        (state.is_cached, state.is_dirty, state.is_lost) = (true, true, false);
    }

    /// `range` reads as zeros from here on; whole pages become holes.
    pub(super) fn zero(&mut self, range: Range<u64>, stamp: u64) {
        let within: Vec<u64> =
            self.pages.range(touched(&range)).map(|(number, _)| *number).collect();
        for number in within {
            let start = number * PAGE_BYTES;
            if range.start <= start && start + PAGE_BYTES <= range.end {
                if let Some(page) = self.pages.get_mut(&number) {
                    (page.live, page.writeback) = (None, None);
                    (page.is_cached, page.is_dirty, page.is_lost) = (false, false, false);
                }
                self.blocks.remove(&number);
                continue;
            }
            let from = index(range.start.max(start) - start);
            let to = index(range.end.min(start + PAGE_BYTES) - start);
            if self.pages.get(&number).is_some_and(|page| page.live.is_some()) {
                self.change(number, stamp, |page| page[from..to].fill(0));
            }
        }
    }

    pub(super) fn set_len(&mut self, len: u64, stamp: u64) {
        if len < self.len {
            self.zero(len..u64::MAX - PAGE_BYTES, stamp);
        }
        self.len = len;
        // Also what was reserved beyond.
        let _ = self.blocks.split_off(&len.div_ceil(PAGE_BYTES));
    }

    /// Starts writeback of at most `pages_max` pages of `range`.
    pub(super) fn start(&mut self, range: &Range<u64>, pages_max: usize) {
        let dirty = self.pages.range_mut(touched(range)).filter(|(_, page)| page.is_dirty);
        for (_, page) in dirty.take(pages_max) {
            page.is_dirty = false;
            page.writeback = page.live.clone();
        }
    }

    /// Ends writeback in `range`. `meets` is asked once for each run of neighbouring pages, by its offset,
    /// whether it is lost, and by which error.
    pub(super) fn finish(&mut self, range: &Range<u64>, mut meets: impl FnMut(u64) -> Option<i32>) {
        let mut run: Option<(u64, Option<i32>)> = None;
        for (number, page) in self.pages.range_mut(touched(range)) {
            let Some(version) = page.writeback.take() else { continue };
            let error = match run {
                Some((last, error)) if last + 1 == *number => error,
                _ => {
                    let error = meets(number * PAGE_BYTES);
                    if let Some(errno) = error {
                        self.errors.record(errno);
                    }
                    error
                }
            };
            run = Some((*number, error));
            match error {
                // Written again meanwhile, it will be tried again.
                Some(_) => page.is_lost = !page.is_dirty,
                None => page.device = Some(version),
            }
        }
    }

    /// What was in the device's cache is on the medium.
    pub(super) fn flush(&mut self) {
        for page in self.pages.values_mut() {
            if let Some(version) = page.device.take() {
                page.medium = Some(version);
            }
        }
    }

    /// Drops the clean pages of `range`. Of one that was lost there is only what is on the device.
    pub(super) fn evict(&mut self, range: &Range<u64>) {
        for (_, page) in self.pages.range_mut(touched(range)) {
            if page.is_dirty || page.writeback.is_some() {
                continue;
            }
            page.is_cached = false;
            if std::mem::take(&mut page.is_lost) {
                page.live = page.device.clone().or_else(|| page.medium.clone());
            }
        }
    }
}

/// An offset within a page or a write.
#[expect(clippy::cast_possible_truncation, reason = "the tests run on 64 bits")]
pub(super) fn index(offset: u64) -> usize {
    offset as usize
}
