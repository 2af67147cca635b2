//! The content of a file as it should be, at any length: pages that were never written are not stored.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use crate::faults::{ImageFile, PAGE_BYTES, Page};

const PAGE: usize = size_of::<Page>();
static ZEROS: Page = [0; PAGE];

/// See the module's documentation.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    pages: BTreeMap<u64, Arc<Page>>,
    len: u64,
}

/// What a command does to it.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Change {
    Write(u64, Vec<u8>),
    Zero(Range<u64>),
    SetLen(u64),
    None,
}

impl std::fmt::Debug for Change {
    /// Where, and not what.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Write(offset, bytes) => write!(f, "{} bytes at {offset}", bytes.len()),
            Self::Zero(range) => write!(f, "zeros {range:?}"),
            Self::SetLen(len) => write!(f, "length {len}"),
            Self::None => f.write_str("nothing"),
        }
    }
}

impl Content {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut content = Self::default();
        content.write(0, bytes);
        content
    }

    pub(super) fn apply(&mut self, change: &Change) {
        match change {
            Change::Write(offset, bytes) => self.write(*offset, bytes),
            Change::Zero(range) => {
                self.zero(range.clone());
                self.len = self.len.max(range.end);
            }
            Change::SetLen(len) => {
                self.zero(*len..u64::MAX);
                self.len = *len;
            }
            Change::None => {}
        }
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let (mut at, mut left) = (offset, bytes);
        while !left.is_empty() {
            let from = within(at);
            let count = left.len().min(PAGE - from);
            let page = self.pages.entry(at / PAGE_BYTES).or_insert_with(|| Arc::new(ZEROS));
            Arc::make_mut(page)[from..from + count].copy_from_slice(&left[..count]);
            (at, left) = (at + count as u64, &left[count..]);
        }
        self.len = self.len.max(at);
    }

    fn zero(&mut self, range: Range<u64>) {
        let pages =
            range.start / PAGE_BYTES..range.end.div_ceil(PAGE_BYTES).max(range.start / PAGE_BYTES);
        for (number, page) in self.pages.range_mut(pages) {
            let start = number * PAGE_BYTES;
            let from = range.start.clamp(start, start + PAGE_BYTES) - start;
            let end = range.end.clamp(start, start + PAGE_BYTES) - start;
            Arc::make_mut(page)[index(from)..index(end)].fill(0);
        }
    }

    fn page(&self, number: u64) -> &Page {
        self.pages.get(&number).map_or(&ZEROS, Arc::as_ref)
    }

    pub(super) fn is(&self, found: &ImageFile) -> bool {
        self.is_on_the_way_to(self, found)
    }

    /// True when `found` may be what a change of this content to `next` has come to so far.
    pub(super) fn is_on_the_way_to(&self, next: &Self, found: &ImageFile) -> bool {
        let lens = self.len.min(next.len)..=self.len.max(next.len);
        if !lens.contains(&found.len_bytes()) {
            return false;
        }
        let stored = found.stored();
        let numbers: BTreeSet<u64> = [&self.pages, &next.pages]
            .into_iter()
            .flat_map(|pages| pages.keys().copied())
            .chain(stored)
            .collect();
        let within = numbers.into_iter().filter(|page| page * PAGE_BYTES < found.len_bytes());
        within.into_iter().all(|number| {
            let end = (found.len_bytes() - number * PAGE_BYTES).min(PAGE_BYTES);
            let end = index(end);
            let here = &found.page(number)[..end];
            let (before, after) = (&self.page(number)[..end], &next.page(number)[..end]);
            let mut bytes = here.iter().zip(before.iter().zip(after));
            here == before
                || here == after
                || bytes.all(|(byte, (one, other))| byte == one || byte == other)
        })
    }
}

fn within(offset: u64) -> usize {
    index(offset % PAGE_BYTES)
}

fn index(bytes: u64) -> usize {
    usize::try_from(bytes).expect("within a page")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::{FaultDisk, Ground};
    use std::path::Path;

    fn on_disk(bytes: &[u8]) -> ImageFile {
        let disk = FaultDisk::new("/rips", Ground::default());
        disk.put(Path::new("/rips/a"), bytes);
        disk.file(Path::new("/rips/a")).unwrap()
    }

    #[test]
    fn content_is_told_from_other_content() {
        let bytes = crate::pattern::bytes(1, 0, 10_000);
        let mut content = Content::of(&bytes);
        assert!(content.is(&on_disk(&bytes)));
        assert!(!content.is(&on_disk(&bytes[..9_999])));
        let mut other = bytes.clone();
        other[9_999] ^= 1;
        assert!(!content.is(&on_disk(&other)));
        content.apply(&Change::Zero(5_000..9_000));
        content.apply(&Change::SetLen(9_500));
        content.apply(&Change::SetLen(20_000));
        other[5_000..9_000].fill(0);
        other.truncate(9_500);
        other.resize(20_000, 0);
        assert!(content.is(&on_disk(&other)));
    }

    #[test]
    fn half_of_a_change_lies_between_its_beginning_and_its_end() {
        let before = Content::of(&[1; 6_000]);
        let mut after = before.clone();
        after.apply(&Change::Write(4_000, vec![2; 4_000]));
        let mut half = vec![1; 4_000];
        half.resize(7_000, 2);
        assert!(before.is_on_the_way_to(&after, &on_disk(&half)));
        half[3_999] = 2;
        assert!(!before.is_on_the_way_to(&after, &on_disk(&half)));
    }
}
