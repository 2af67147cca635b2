//! The page cache of one file, and the system calls that writers make on it. Each takes virtual time:
//! what the processor needs, and what the device makes it wait.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use freemkvd::storage::Manner;
use rangemap::RangeSet;

use crate::device::{self, Request, Sight};
use crate::world::Task;

/// The kernel's page size.
pub const PAGE_BYTES: u64 = 4096;

/// The kernel splits what it submits.
const REQUEST_BYTES_MAX: u64 = 8 << 20;

/// Processor time of a MiB: copied into the page cache, and submitted.
const COPY_MICROS: u64 = 300;
const SUBMIT_MICROS: u64 = 40;

/// State of the pages of one file.
#[derive(Default)]
pub struct Cache {
    dirty: RangeSet<u64>,
    dirty_bytes: u64,
    /// In writeback, in the order of the device's queue.
    busy: Vec<Busy>,
    busy_bytes: u64,
    resident: RangeSet<u64>,
    /// Pages with content, in the cache or on the device.
    content: RangeSet<u64>,
}

struct Busy {
    number: u64,
    range: Range<u64>,
    /// Dropped when it is done.
    is_uncached: bool,
}

fn len(range: &Range<u64>) -> u64 {
    range.end - range.start
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> u64 {
    a.end.min(b.end).saturating_sub(a.start.max(b.start))
}

fn pages(range: &Range<u64>) -> Range<u64> {
    range.start / PAGE_BYTES * PAGE_BYTES..range.end.next_multiple_of(PAGE_BYTES)
}

impl Cache {
    /// What `cachestat` counts.
    pub fn counted_bytes(&self, range: &Range<u64>) -> u64 {
        let dirty: u64 = self.dirty.overlapping(range).map(|part| overlap(part, range)).sum();
        dirty + self.busy.iter().map(|busy| overlap(&busy.range, range)).sum::<u64>()
    }

    /// Dirty and in writeback.
    pub fn held_bytes(&self) -> u64 {
        self.dirty_bytes + self.busy_bytes
    }

    /// True when writing `range` has to read a page first.
    fn has_to_read(&self, range: &Range<u64>) -> bool {
        let partial = [range.start, range.end].into_iter().filter(|at| at % PAGE_BYTES != 0);
        partial
            .map(|at| at / PAGE_BYTES * PAGE_BYTES)
            .any(|page| self.content.contains(&page) && !self.resident.contains(&page))
    }

    fn write(&mut self, range: &Range<u64>) {
        let pages = pages(range);
        self.dirty_bytes += self.dirty.gaps(&pages).map(|gap| len(&gap)).sum::<u64>();
        self.dirty.insert(pages.clone());
        self.resident.insert(pages.clone());
        self.content.insert(pages);
    }

    /// A dirty piece of `range` to submit, past pages that are in writeback already unless `again`.
    fn next_dirty(&self, range: &Range<u64>, again: bool) -> Option<Range<u64>> {
        let clip = |part: &Range<u64>| part.start.max(range.start)..part.end.min(range.end);
        for part in self.dirty.overlapping(range).map(clip) {
            let (mut start, mut end) = (part.start, part.end);
            if !again {
                // The first stretch of it that is not in writeback.
                while let Some(busy) = self.busy.iter().find(|busy| busy.range.contains(&start)) {
                    start = busy.range.end;
                }
                let next = self.busy.iter().map(|busy| busy.range.start);
                end = next.filter(|next| *next > start).fold(end, u64::min);
            }
            if start < end {
                return Some(start..end.min(start + REQUEST_BYTES_MAX));
            }
        }
        None
    }

    fn submit(&mut self, number: u64, range: Range<u64>, is_uncached: bool) {
        self.dirty.remove(range.clone());
        self.dirty_bytes -= len(&range);
        self.busy_bytes += len(&range);
        self.busy.push(Busy { number, range, is_uncached });
    }

    /// A request is done.
    pub fn complete(&mut self, number: u64) {
        let at = self.busy.iter().position(|busy| busy.number == number);
        let busy = self.busy.remove(at.expect("a request completes once"));
        self.busy_bytes -= len(&busy.range);
        if busy.is_uncached {
            self.drop_clean(&busy.range);
        }
    }

    fn drop_clean(&mut self, range: &Range<u64>) {
        let mut clean = RangeSet::new();
        clean.insert(range.clone());
        self.dirty.overlapping(range).for_each(|dirty| clean.remove(dirty.clone()));
        self.busy.iter().for_each(|busy| clean.remove(busy.range.clone()));
        clean.iter().for_each(|clean| self.resident.remove(clean.clone()));
    }

    fn is_busy(&self, range: &Range<u64>) -> bool {
        self.busy.iter().any(|busy| overlap(&busy.range, range) > 0)
    }
}

/// A file that a writer has open.
pub struct File {
    pub task: Task,
    pub device: usize,
    pub number: u64,
    pub cache: Rc<RefCell<Cache>>,
}

impl File {
    pub fn new(task: Task, device: usize, number: u64) -> Self {
        Self { task, device, number, cache: Rc::default() }
    }

    /// Writes into, through or past the page cache; false when there is no such manner here.
    pub async fn write(&self, range: &Range<u64>, manner: Manner) -> bool {
        self.compute(range, COPY_MICROS).await;
        self.not_frozen().await;
        let refuses = self.task.world().devices[self.device].file_system.refuses_uncached;
        match manner {
            Manner::Uncached if refuses => return false,
            Manner::Direct => {
                assert!(!self.cache.borrow().is_busy(range), "direct writes avoid busy pages");
                self.cache.borrow_mut().write(range);
                self.submit(range, true, true).await;
                self.wait_not_busy(range).await;
                return true;
            }
            _ => {}
        }
        if self.cache.borrow().has_to_read(range) {
            device::healthy(&self.task, self.device).await;
            self.commit().await;
        }
        self.cache.borrow_mut().write(range);
        if manner == Manner::Uncached {
            self.submit(range, true, false).await;
        }
        true
    }

    pub async fn start_writeback(&self, range: &Range<u64>) {
        self.compute(range, SUBMIT_MICROS).await;
        if !self.ignores_ranges() {
            self.submit(range, false, false).await;
        }
    }

    pub async fn wait_writeback(&self, range: &Range<u64>) {
        self.compute(&(0..1), 1).await;
        if !self.ignores_ranges() {
            self.wait_not_busy(range).await;
            self.submit(range, false, true).await;
            self.wait_not_busy(range).await;
        }
    }

    /// `fdatasync`, and `fsync` as well.
    pub async fn sync(&self) {
        let all = 0..u64::MAX;
        self.submit(&all, false, true).await;
        self.wait_not_busy(&all).await;
        device::healthy(&self.task, self.device).await;
        self.commit().await;
        device::healthy(&self.task, self.device).await;
    }

    pub async fn evict(&self, range: &Range<u64>) {
        self.compute(range, SUBMIT_MICROS).await;
        let held_bytes = self.cache.borrow().counted_bytes(range);
        if !self.ignores_ranges() {
            assert_eq!(held_bytes, 0, "evicted {range:?}, of which pages are not clean");
        }
        self.cache.borrow_mut().drop_clean(range);
    }

    /// Cuts the file; pages in writeback stay so until they are done.
    pub fn set_len(&self, len: u64) {
        let mut cache = self.cache.borrow_mut();
        let beyond = len.next_multiple_of(PAGE_BYTES)..u64::MAX;
        let gone = RangeSet::from_iter([beyond]);
        let dropped: u64 =
            cache.dirty.intersection(&gone).map(|range| range.end - range.start).sum();
        cache.dirty_bytes -= dropped;
        for range in gone {
            cache.dirty.remove(range.clone());
            cache.content.remove(range.clone());
        }
    }

    /// What the kernel says is dirty or in writeback.
    pub fn counted_bytes(&self, range: &Range<u64>) -> Option<u64> {
        match self.task.world().devices[self.device].file_system.sight {
            Sight::Exact => Some(self.cache.borrow().counted_bytes(range)),
            Sight::Blind => Some(0),
            Sight::Missing => None,
        }
    }

    fn ignores_ranges(&self) -> bool {
        self.task.world().devices[self.device].file_system.ignores_ranges
    }

    /// A call begins.
    pub fn begin(&self) {
        let mut world = self.task.world();
        let now = world.now;
        world.devices[self.device].begin(now);
    }

    /// It has returned.
    pub fn end(&self) {
        let mut world = self.task.world();
        let now = world.now;
        world.devices[self.device].end(now);
    }

    async fn compute(&self, range: &Range<u64>, micros_per_mib: u64) {
        let micros = 2 + ((len(range) * micros_per_mib) >> 20);
        self.task.sleep(Duration::from_micros(micros)).await;
    }

    async fn commit(&self) {
        let time = {
            let mut world = self.task.world();
            let now = world.now;
            world.devices[self.device].model.commit(now)
        };
        self.task.sleep(time).await;
    }

    async fn not_frozen(&self) {
        let sick = {
            let world = self.task.world();
            world.devices[self.device].sick_until(world.now)
        };
        if let Some(sick) = sick.filter(|sick| sick.is_frozen) {
            self.task.sleep_until(sick.until).await;
        }
    }

    /// Submits what is dirty in `range`; waits while the device's queue is full.
    async fn submit(&self, range: &Range<u64>, is_uncached: bool, again: bool) {
        loop {
            let piece = self.cache.borrow().next_dirty(range, again);
            let Some(piece) = piece else { return };
            let fits = {
                let mut world = self.task.world();
                let now = world.now;
                let device = &mut world.devices[self.device];
                let fits = device.take_room(self.task.id, len(&piece));
                if fits {
                    let number = device.next_number();
                    self.cache.borrow_mut().submit(number, piece.clone(), is_uncached);
                    let cache = Rc::clone(&self.cache);
                    let request = Request { file: self.number, range: piece, number, cache };
                    let serving = device.push(request, now);
                    world.ring(serving);
                    let next = world.devices[self.device].next_for_room();
                    world.ring(next);
                }
                fits
            };
            if !fits {
                self.task.wait(None).await;
            }
        }
    }

    async fn wait_not_busy(&self, range: &Range<u64>) {
        while self.cache.borrow().is_busy(range) {
            self.task.world().devices[self.device].tell(self.task.id);
            self.task.wait(None).await;
        }
    }
}
