//! A hard disk: it seeks, and is slower inside than outside.
//!
//! Blocks are allocated when they are first written back, in that order: a long piece continues the one
//! before it, whichever file that was of; a short one goes to the place of its own file. It is how ext4
//! and XFS behave as far as it matters here: four streams that take turns of 16 MiB cost hardly a seek,
//! and the same in pieces of 1 MiB one each.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use rangemap::RangeMap;

use super::{Model, time_of};

const SEEK: Duration = Duration::from_millis(8);
const OUTSIDE_BYTES_PER_SECOND: u64 = 180_000_000;
const INSIDE_BYTES_PER_SECOND: u64 = 100_000_000;

/// Shorter pieces go to the place of their file.
const OWN_PLACE_BYTES: u64 = 4 << 20;

/// What is set aside for a file that is written in short pieces.
const PLACE_BYTES: u64 = 64 << 20;

/// See the module's documentation.
pub struct Disk {
    size_bytes: u64,
    /// Where the next long piece goes, and where the arm is.
    head: u64,
    arm: u64,
    /// Where the bytes of each file are, less where they are in the file.
    blocks: BTreeMap<u64, RangeMap<u64, u64>>,
    /// What is set aside for each file.
    places: BTreeMap<u64, Range<u64>>,
    pub seeks: u64,
}

impl Disk {
    /// A disk of so many bytes, of which `head` are in use.
    pub fn new(size_bytes: u64, head: u64) -> Self {
        Self {
            size_bytes,
            head,
            arm: 0,
            blocks: BTreeMap::new(),
            places: BTreeMap::new(),
            seeks: 0,
        }
    }

    fn allocate(&mut self, file: u64, range: &Range<u64>) {
        let gaps: Vec<_> = self.blocks.entry(file).or_default().gaps(range).collect();
        for gap in gaps {
            let len = gap.end - gap.start;
            let at = match self.places.get_mut(&file) {
                _ if len >= OWN_PLACE_BYTES => take(&mut self.head, len),
                Some(place) if place.end - place.start >= len => take(&mut place.start, len),
                _ => {
                    let start = take(&mut self.head, PLACE_BYTES);
                    self.places.insert(file, start + len..start + PLACE_BYTES);
                    start
                }
            };
            let blocks = self.blocks.entry(file).or_default();
            blocks.insert(gap.clone(), at.wrapping_sub(gap.start));
        }
    }
}

fn take(from: &mut u64, len: u64) -> u64 {
    let at = *from;
    *from += len;
    at
}

impl Model for Disk {
    fn write(&mut self, file: u64, range: &Range<u64>, _: Duration) -> Duration {
        self.allocate(file, range);
        let mut time = Duration::ZERO;
        for (piece, shift) in self.blocks[&file].overlapping(range) {
            let (start, end) = (piece.start.max(range.start), piece.end.min(range.end));
            let at = start.wrapping_add(*shift);
            if at != self.arm {
                self.seeks += 1;
                time += SEEK;
            }
            self.arm = at + (end - start);
            let inward = (at % self.size_bytes) * 1000 / self.size_bytes;
            let slower = (OUTSIDE_BYTES_PER_SECOND - INSIDE_BYTES_PER_SECOND) / 1000 * inward;
            time += time_of(end - start, OUTSIDE_BYTES_PER_SECOND - slower);
        }
        time
    }

    fn commit(&mut self, _: Duration) -> Duration {
        // The journal, and back.
        self.seeks += 2;
        2 * SEEK
    }
}
