//! The patch window: the newest bytes of the file, where a muxer's small writes and seek-backs
//! happen in memory. Pure: no I/O, no threads; slots are given to it and leave it.
//!
//! ```text
//!        run          start                                end
//!  ------[===]--------[.........|.........|.........|......)--------> file offset
//!   far patch, one slot    slots of 1 MiB, first to last     next append
//! ```
//!
//! 1. `[start, end)` is contiguous and every byte of it is in a slot, as the muxer wrote it last.
//!    Bytes of a slot outside that range are stale and never leave.
//! 2. A slot's dirty range is what was written since it was last handed over. It lies in
//!    `[start, end)`, so a range that covers two patches carries only bytes of rule 1 between them.
//! 3. Slots leave together, as many as the outlet takes at once, when `end` is a capacity beyond the
//!    last of them; then `start` moves behind it. So the window is never longer than the capacity
//!    and those.
//! 4. A write below `start` is a far patch. It is gathered in the run: one contiguous range, in one
//!    slot, that ends at or below `start`. A far patch that does not touch the run, or leaves its
//!    slot, sends the run away first.
//! 5. The window moves elsewhere (a write beyond `end`) only after everything in it and the run have
//!    left.
//!
//! Why the file comes out byte for byte as if every write had gone to it at once: of two writes to
//! the same byte the later must leave later, or overwrite the earlier in memory. Both inside the
//! window: memory (rule 1), and a slot that is in flight is copied before it is changed. Both in
//! the run: memory. First in the window, then in the run: the byte is below `start` now, so its slot
//! has left, before the run. First in one run, then in another: rule 4. First in the run, then in
//! the window: impossible while the run is here, because `start` never goes down but by rule 5. The
//! run and the window have no byte in common, so their order among themselves does not matter.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use crate::slot::{SLOT_BYTES, Slot};

const SLOT: u64 = SLOT_BYTES as u64;

/// What a write came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Step {
    /// So many bytes were taken, at least one.
    Took(usize),
    /// None were: the window has to be given a slot first.
    NeedSlot,
}

/// What leaves the window.
#[derive(Debug)]
pub(crate) enum Leaving {
    /// `slot[range]` belongs at `offset`.
    Write { offset: u64, slot: Arc<Slot>, range: Range<usize> },
    /// Nothing in it is new; its memory is free for others.
    Release(Arc<Slot>),
}

#[derive(Debug)]
struct Held {
    slot: Arc<Slot>,
    dirty: Range<usize>,
}

#[derive(Debug)]
struct Run {
    slot: Arc<Slot>,
    range: Range<u64>,
}

/// The patch window of one stream.
#[derive(Debug)]
pub(crate) struct Window {
    capacity: u64,
    /// How many slots leave at once.
    together: u64,
    start: u64,
    end: u64,
    /// Number of the first slot.
    first: u64,
    slots: VecDeque<Held>,
    run: Option<Run>,
    spare: Option<Arc<Slot>>,
    leaving: VecDeque<Leaving>,
}

impl Window {
    /// An empty window of `capacity` bytes, from which `together` slots leave at once.
    pub(crate) fn new(capacity: u64, together: u64) -> Self {
        Self {
            capacity,
            together,
            start: 0,
            end: 0,
            first: 0,
            slots: VecDeque::new(),
            run: None,
            spare: None,
            leaving: VecDeque::new(),
        }
    }

    /// Most slots that a window of `capacity` bytes holds at once: its own (rule 3; both ends may be
    /// in the middle of one), the run's, and one to copy into what is in flight.
    pub(crate) fn slots_max(capacity: u64, together: u64) -> usize {
        let others = slot_index(together) + 2;
        usize::try_from(capacity.div_ceil(SLOT)).unwrap_or(usize::MAX - others) + others
    }

    /// Gives the slot that [`Step::NeedSlot`] asked for.
    pub(crate) fn give(&mut self, slot: Arc<Slot>) {
        debug_assert!(self.spare.is_none(), "a slot was given that nobody needs");
        self.spare = Some(slot);
    }

    /// What has to be handed over, oldest first. To be emptied after every call.
    pub(crate) fn leaving(&mut self) -> &mut VecDeque<Leaving> {
        &mut self.leaving
    }

    /// True when a write at `offset` happens in the window or at its end.
    pub(crate) fn touches(&self, offset: u64) -> bool {
        self.start < self.end && (self.start..=self.end).contains(&offset)
    }

    /// Takes the first of `bytes` to `offset`; as many as are in one slot.
    #[inline]
    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) -> Step {
        if self.touches(offset) {
            return self.write_inside(offset, bytes);
        }
        if self.start == self.end || offset > self.end {
            self.move_to(offset);
            return self.write_inside(offset, bytes);
        }
        let below = usize::try_from(self.start - offset).unwrap_or(usize::MAX);
        self.write_run(offset, &bytes[..bytes.len().min(below)])
    }

    #[inline]
    fn write_inside(&mut self, offset: u64, bytes: &[u8]) -> Step {
        let (number, from) = place(offset);
        let index = slot_index(number - self.first);
        let len = bytes.len().min(SLOT_BYTES - from);
        if index == self.slots.len() {
            let Some(slot) = self.spare.take() else {
                return Step::NeedSlot;
            };
            self.slots.push_back(Held { slot, dirty: 0..0 });
        }
        let Some(memory) = Arc::get_mut(&mut self.slots[index].slot) else {
            return match self.copy_on_write(index) {
                true => self.write_inside(offset, bytes),
                false => Step::NeedSlot,
            };
        };
        memory[from..from + len].copy_from_slice(&bytes[..len]);
        let dirty = &mut self.slots[index].dirty;
        *dirty = hull(dirty, from..from + len);
        let end = offset + len as u64;
        if end > self.end {
            self.end = end;
            self.trim();
        }
        Step::Took(len)
    }

    /// The slot is in flight: the window goes on with a copy of it. False when there is none to
    /// copy to.
    #[cold]
    fn copy_on_write(&mut self, index: usize) -> bool {
        let Some(mut copy) = self.spare.take() else {
            return false;
        };
        let held = &mut self.slots[index];
        let begin = (self.first + index as u64) * SLOT;
        let valid = within(begin, self.start.max(begin))..within(begin, self.end.min(begin + SLOT));
        if let Some(memory) = Arc::get_mut(&mut copy) {
            memory[valid.clone()].copy_from_slice(&held.slot[valid]);
        }
        let old = std::mem::replace(&mut held.slot, copy);
        self.leaving.push_back(Leaving::Release(old));
        true
    }

    /// Rule 3.
    #[inline]
    fn trim(&mut self) {
        while (self.first + self.together) * SLOT + self.capacity <= self.end {
            for _ in 0..self.together {
                let Some(held) = self.slots.pop_front() else {
                    break;
                };
                self.leave(self.first, held);
                self.first += 1;
            }
            self.start = self.first * SLOT;
        }
    }

    fn leave(&mut self, number: u64, held: Held) {
        let Held { slot, dirty } = held;
        self.leaving.push_back(if dirty.is_empty() {
            Leaving::Release(slot)
        } else {
            Leaving::Write { offset: number * SLOT + dirty.start as u64, slot, range: dirty }
        });
    }

    /// Rule 4.
    fn write_run(&mut self, offset: u64, bytes: &[u8]) -> Step {
        let (number, from) = place(offset);
        let len = bytes.len().min(SLOT_BYTES - from);
        let touching = self.run.as_ref().is_some_and(|run| {
            (run.range.start..=run.range.end).contains(&offset)
                && place(run.range.start).0 == number
        });
        if !touching {
            self.leave_run();
            let Some(slot) = self.spare.take() else {
                return Step::NeedSlot;
            };
            self.run = Some(Run { slot, range: offset..offset });
        }
        let Some(run) = &mut self.run else {
            return Step::NeedSlot;
        };
        let Some(memory) = Arc::get_mut(&mut run.slot) else {
            unreachable!("a run is shared only when it leaves");
        };
        memory[from..from + len].copy_from_slice(&bytes[..len]);
        run.range.end = run.range.end.max(offset + len as u64);
        Step::Took(len)
    }

    fn leave_run(&mut self) {
        if let Some(Run { slot, range }) = self.run.take() {
            let (number, from) = place(range.start);
            let to = within(number * SLOT, range.end);
            self.leaving.push_back(Leaving::Write { offset: range.start, slot, range: from..to });
        }
    }

    /// Everything that is new leaves; what is in the window stays here too, for patches.
    pub(crate) fn hand_over(&mut self) {
        for (number, held) in (self.first..).zip(&mut self.slots) {
            let range = std::mem::replace(&mut held.dirty, 0..0);
            if !range.is_empty() {
                self.leaving.push_back(Leaving::Write {
                    offset: number * SLOT + range.start as u64,
                    slot: Arc::clone(&held.slot),
                    range,
                });
            }
        }
        self.leave_run();
    }

    /// Rule 5: everything leaves, and the window goes on, empty, at `offset`.
    pub(crate) fn move_to(&mut self, offset: u64) {
        for number in self.first.. {
            let Some(held) = self.slots.pop_front() else {
                break;
            };
            self.leave(number, held);
        }
        self.leave_run();
        self.start = offset;
        self.end = offset;
        self.first = place(offset).0;
    }

    /// The file is now `len` bytes long. Everything new must have left before.
    pub(crate) fn cut(&mut self, len: u64) {
        debug_assert!(self.run.is_none() && self.slots.iter().all(|held| held.dirty.is_empty()));
        if len <= self.start {
            self.move_to(len);
        } else if len < self.end {
            self.end = len;
            let keep = slot_index(len.div_ceil(SLOT) - self.first);
            for held in self.slots.drain(keep..) {
                self.leaving.push_back(Leaving::Release(held.slot));
            }
        }
    }
}

/// The slot that `offset` is in, and where in it.
#[inline]
fn place(offset: u64) -> (u64, usize) {
    (offset / SLOT, within(offset / SLOT * SLOT, offset))
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "at most SLOT_BYTES")]
fn within(begin: u64, offset: u64) -> usize {
    (offset - begin) as usize
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "at most the slots of one window")]
fn slot_index(number: u64) -> usize {
    number as usize
}

#[inline]
fn hull(dirty: &Range<usize>, more: Range<usize>) -> Range<usize> {
    if dirty.is_empty() {
        return more;
    }
    dirty.start.min(more.start)..dirty.end.max(more.end)
}

#[cfg(test)]
mod tests;
