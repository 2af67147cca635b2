//! One open file under the budget: executes what the ladder and the drain decide about its pages, and
//! keeps the account in step with them.
//!
//! Invariants:
//! 1. What the account has charged is what it has spare plus `extents.charged_bytes()`.
//! 2. Every blocking call is shown in the record while it lasts.

use std::ffi::OsStr;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use super::gate::Account;
use super::record::Record;
use crate::budget::Completion;
use crate::clock::Clock;
use crate::device::Device;
use crate::log::event;
use crate::metrics::note;
use crate::space::{Announcement, Space};
use crate::storage::{self, CALLS, Content, Manner, Storage};
use crate::stream::drain::{self, Next, Pressure};
use crate::stream::extent::Extents;
use crate::stream::ladder::{Ground, Ladder, REFUSED, Rung, StepDown, Way};

/// How often the kernel is asked what it holds, for status.
const KERNEL_SAMPLE: Duration = Duration::from_millis(100);

/// A wait that took longer has really waited: its end is the extent's end.
const WAITED: Duration = Duration::from_micros(200);

/// After how long a call that returns is news about its device.
const LONG_CALL: Duration = Duration::from_secs(1);

/// What failed, where, and why.
pub(super) type StepError = (&'static str, Option<u64>, io::Error);

/// See the module's documentation.
pub(super) struct File<'a> {
    record: &'a Arc<Record>,
    device: Arc<Device>,
    storage: Box<dyn Storage>,
    pub(super) account: Account,
    ladder: Ladder,
    extents: Extents,
    /// How much space it has announced to need.
    announcement: Option<Announcement>,
    clock: Clock,
    /// What the device was told.
    rung: Option<Rung>,
    /// When the kernel was last asked for status, and whether the oldest extent is clean.
    sampled: Duration,
    looked: Duration,
}

impl<'a> File<'a> {
    pub(super) fn new(
        record: &'a Arc<Record>,
        device: Arc<Device>,
        storage: Box<dyn Storage>,
        account: Account,
        clock: Clock,
        (pinned, window_bytes): (Option<Rung>, u64),
        announcement: Option<Announcement>,
    ) -> Self {
        let able = storage.abilities();
        let ground = Ground {
            uncached: able.uncached,
            direct_align_bytes: able.direct_align_bytes,
            by_range: able.by_range,
            trusted_by_range: able.trusted_by_range,
            in_memory: able.in_memory,
            page_bytes: storage::page_bytes(),
        };
        let ladder = Ladder::new(ground, pinned, window_bytes);
        let extents = Extents::new(storage::page_bytes(), ladder.resident_bytes());
        let mut file = Self {
            record,
            device,
            storage,
            account,
            ladder,
            extents,
            announcement,
            clock,
            rung: None,
            sampled: Duration::ZERO,
            looked: Duration::ZERO,
        };
        file.show_rung();
        let from = pinned.filter(|pinned| *pinned != file.ladder.rung());
        file.stepped(from.map(|from| StepDown { from, to: file.ladder.rung(), because: REFUSED }));
        file
    }

    /// Bytes that are dirty or in writeback.
    pub(super) fn charged_bytes(&self) -> u64 {
        self.extents.charged_bytes()
    }

    /// A piece has waited so long for its charge.
    pub(super) fn waited(&self, time: Duration) {
        note(&self.device.times.write_wait, time);
    }

    /// Bytes in the pages that `range` touches.
    pub(super) fn page_bytes_of(&self, range: &Range<u64>) -> u64 {
        self.extents.page_bytes_of(range)
    }

    /// End of the highest byte written.
    pub(super) fn end(&self) -> u64 {
        self.extents.end()
    }

    /// How to write `range`, in order.
    pub(super) fn ways(&self, range: &Range<u64>) -> Vec<(Range<u64>, Way)> {
        self.ladder.ways(range)
    }

    /// Writes `content` to `range`, for which there is a charge.
    pub(super) fn write(
        &mut self,
        range: &Range<u64>,
        way: Way,
        content: &Content<'_>,
    ) -> io::Result<()> {
        // A direct write would make the kernel write those pages back first, and wait; and content that
        // began at an odd place of the file lies at an odd place in memory. Neither is for ever.
        let unfit =
            self.extents.touches_charged(range) || !content.is_aligned(storage::page_bytes());
        let mut way = if way == Way::Direct && unfit { Way::Cached } else { way };
        let began = self.clock.now();
        let mut result = self.try_write(range, way, content);
        if way != Way::Cached && is_unsupported(&result) {
            let step = self.ladder.refused(way);
            self.stepped(step);
            way = Way::Cached;
            result = self.try_write(range, way, content);
        }
        // Also after an error some pages may be dirty; they are settled with the rest.
        match way {
            Way::Cached => {
                let dirtied_bytes = self.extents.write(range, began);
                self.account.spend(dirtied_bytes);
                self.look_at_written(range);
            }
            Way::Uncached => {
                let extent_bytes = self.account.extent_bytes();
                self.account.spend(self.extents.write_uncached(range, extent_bytes, began));
            }
            // It is on the device, or nowhere.
            Way::Direct if result.is_err() => {}
            Way::Direct => {
                let bytes = self.extents.page_bytes_of(range);
                self.extents.write_direct(range);
                self.account.spend(bytes);
                self.cleaned(Completion { bytes, began, exact: true });
            }
        }
        self.record.charged(self.extents.charged_bytes(), 0);
        result
    }

    fn try_write(&mut self, range: &Range<u64>, way: Way, content: &Content<'_>) -> io::Result<()> {
        let manner = match way {
            Way::Cached => Manner::Cached,
            Way::Uncached => Manner::Uncached,
            Way::Direct => Manner::Direct,
        };
        let begun = self.clock.now();
        let result = self
            .calling(CALLS.write, |storage| storage.write_at(range.start, content.clone(), manner));
        note(&self.device.times.write, self.clock.now().saturating_sub(begun));
        result
    }

    /// Whether the kernel's counts mean something here.
    fn look_at_written(&mut self, range: &Range<u64>) {
        if self.ladder.wants_look() {
            let counted_bytes = self.counted_bytes(range.clone());
            let step = self.ladder.look(counted_bytes);
            self.stepped(step);
        }
    }

    /// All parts of `range` were written, where the file had ended at `end_before`.
    pub(super) fn wrote(&mut self, range: &Range<u64>, end_before: u64) {
        self.ladder.wrote(range, end_before);
        if let Some(announcement) = &self.announcement {
            announcement.taken(self.extents.end());
        }
        self.show_rung();
    }

    /// Does the next thing that the drain asks for; false when that is nothing.
    pub(super) fn step(&mut self, pressure: Pressure) -> Result<bool, StepError> {
        let (rung, now) = (self.ladder.rung(), self.clock.now());
        match drain::next(&self.extents, rung, pressure, self.account.extent_bytes(), now) {
            Next::Rest => return Ok(false),
            Next::Start(bytes_max) => self.start(bytes_max)?,
            Next::Wait => self.wait(false)?,
            Next::Look => return self.look(drain::LOOK),
            Next::Watch(_) if !self.ladder.has_sight() || self.ladder.wants_proof() => {
                self.wait(false)?;
            }
            Next::Watch(patience) => {
                if !self.look(patience)? {
                    self.account.wait(patience);
                }
            }
            Next::SyncFile => {
                let began = self.clock.now();
                self.calling(CALLS.drain, |storage| storage.sync_data())
                    .map_err(|error| ("write back", None, error))?;
                self.all_clean(began);
                self.evict()?;
            }
            Next::Settle => self.all_clean(now),
        }
        self.sample_kernel();
        Ok(true)
    }

    fn start(&mut self, bytes_max: u64) -> Result<(), StepError> {
        let Some(extent) = self.extents.start_writeback(bytes_max, self.clock.now()) else {
            return Ok(());
        };
        let offset = extent.start;
        self.calling("sync_file_range", |storage| storage.start_writeback(extent))
            .map_err(|error| ("start writeback of", Some(offset), error))
    }

    fn wait(&mut self, is_known_clean: bool) -> Result<(), StepError> {
        let Some(extent) = self.extents.oldest_writeback().cloned() else {
            return Ok(());
        };
        let (range, begun) = (extent.range.clone(), self.clock.now());
        self.calling("sync_file_range", |storage| storage.wait_writeback(range))
            .map_err(|error| ("write back", Some(extent.range.start), error))?;
        let waited = self.clock.now().saturating_sub(begun);
        if !self.is_proved(&extent.range) {
            return Ok(());
        }
        self.extents.complete_oldest();
        let exact = is_known_clean || waited >= WAITED;
        self.cleaned(Completion { bytes: extent.bytes(), began: extent.began, exact });
        self.evict()
    }

    /// Asks the kernel whether the oldest extent is clean, but not twice within `pause`.
    fn look(&mut self, pause: Duration) -> Result<bool, StepError> {
        let now = self.clock.now();
        let due = now.saturating_sub(self.looked) >= pause;
        let Some(range) = self.extents.oldest_writeback().map(|oldest| oldest.range.clone()) else {
            return Ok(false);
        };
        if !due || !self.ladder.has_sight() {
            return Ok(false);
        }
        self.looked = now;
        if self.left_bytes(&range) > 0 {
            return Ok(false);
        }
        self.wait(true)?;
        // The next one may be clean as well.
        self.looked = Duration::ZERO;
        Ok(true)
    }

    /// False when pages that were waited for are still dirty; then the rung is another one now.
    fn is_proved(&mut self, range: &Range<u64>) -> bool {
        if !self.ladder.wants_proof() {
            return true;
        }
        let left_bytes = self.left_bytes(range);
        let step = self.ladder.prove(left_bytes);
        self.stepped(step);
        step.is_none_or(|step| step.from == step.to)
    }

    /// What the kernel still holds of the oldest extent, for no other reason than that one.
    fn left_bytes(&mut self, range: &Range<u64>) -> u64 {
        let again_bytes = self.extents.charged_again_bytes(range);
        self.counted_bytes(range.clone()).unwrap_or(0).saturating_sub(again_bytes)
    }

    fn counted_bytes(&mut self, range: Range<u64>) -> Option<u64> {
        let pages = self.calling("cachestat", |storage| storage.pages(range))?;
        Some(pages.dirty_bytes + pages.writeback_bytes)
    }

    fn cleaned(&mut self, completion: Completion) {
        let took = self.clock.now().saturating_sub(completion.began);
        // A settled nothing took no time.
        if completion.bytes > 0 {
            note(&self.device.times.completion, took);
        }
        self.account.complete(completion);
        self.record.charged(self.extents.charged_bytes(), completion.bytes);
    }

    fn all_clean(&mut self, began: Duration) {
        let bytes = self.extents.complete_all();
        self.cleaned(Completion { bytes, began, exact: true });
    }

    fn evict(&mut self) -> Result<(), StepError> {
        for range in self.extents.take_evictable() {
            let offset = range.start;
            self.calling("fadvise", |storage| storage.evict(range))
                .map_err(|error| ("evict", Some(offset), error))?;
        }
        Ok(())
    }

    fn sample_kernel(&mut self) {
        let now = self.clock.now();
        if now.saturating_sub(self.sampled) < KERNEL_SAMPLE {
            return;
        }
        self.sampled = now;
        let mut total = self.ladder.has_sight().then_some(0);
        for range in self.extents.charged_ranges() {
            if total.is_none() {
                break;
            }
            let counted_bytes = self.counted_bytes(range);
            total = total.zip(counted_bytes).map(|(total, bytes): (u64, u64)| total + bytes);
        }
        self.record.kernel_dirty(total);
    }

    /// Makes everything durable.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        let began = self.clock.now();
        let result = self.calling(CALLS.sync, |storage| storage.sync());
        note(&self.device.times.sync, self.clock.now().saturating_sub(began));
        // Also after an error: nothing of it is dirty any more, or ever will be clean.
        self.all_clean(began);
        result?;
        self.evict().map_err(|(.., error)| error)
    }

    pub(super) fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.calling("ftruncate", |storage| storage.set_len(len))?;
        self.extents.cut(len);
        Ok(())
    }

    pub(super) fn len_bytes(&mut self) -> io::Result<u64> {
        self.calling("fstat", |storage| storage.len_bytes())
    }

    pub(super) fn write_zeroes(&mut self, range: Range<u64>) -> io::Result<()> {
        self.calling("fallocate", |storage| storage.write_zeroes(range))
    }

    /// What was announced to come and has not, in bytes.
    pub(super) fn announced_bytes(&self) -> u64 {
        self.announcement.as_ref().map_or(0, Announcement::left_bytes)
    }

    /// Nothing of what was announced will come any more.
    pub(super) fn takes_no_more(&mut self) {
        self.announcement = None;
    }

    /// The space of its device.
    pub(super) fn space(&self) -> &Space {
        &self.device.space
    }

    /// What the file system has free for it.
    pub(super) fn free_bytes(&mut self) -> io::Result<u64> {
        let len_bytes = self.len_bytes()?;
        let available_bytes = self.calling("fstatvfs", |storage| storage.available_bytes())?;
        // What was set aside beyond the end is its own, too.
        Ok(available_bytes.saturating_sub(len_bytes))
    }

    pub(super) fn rename(&mut self, name: &OsStr, replaces: bool) -> io::Result<()> {
        self.calling("rename", |storage| storage.rename(name, replaces))
    }

    pub(super) fn taken_by(&mut self, name: &OsStr) -> io::Result<Option<storage::FileId>> {
        self.calling("stat", |storage| storage.taken_by(name))
    }

    /// Removes the file's name. True when it has none at all any more: somebody may have given it another.
    pub(super) fn unlink(&mut self) -> io::Result<bool> {
        self.calling("unlink", |storage| {
            storage.unlink()?;
            Ok(!storage.is_named()?)
        })
    }

    pub(super) fn closing(&mut self) -> io::Result<()> {
        self.calling("close", |storage| storage.closing())
    }

    /// Makes the length durable, and nothing else: no page of it is dirty any more.
    pub(super) fn sync_len(&mut self) -> io::Result<()> {
        self.calling(CALLS.drain, |storage| storage.sync_data())
    }

    pub(super) fn release_surplus(&mut self) -> io::Result<()> {
        self.calling("ftruncate", |storage| storage.release_surplus())
    }

    fn calling<T>(&mut self, name: &'static str, call: impl FnOnce(&mut dyn Storage) -> T) -> T {
        let begun = self.clock.now();
        let storage = &mut *self.storage;
        let result = self.record.calling(name, begun, || call(storage));
        if self.clock.now().saturating_sub(begun) >= LONG_CALL {
            self.account.answers();
        }
        result
    }

    fn stepped(&mut self, step: Option<StepDown>) {
        let Some(step) = step else { return };
        let StepDown { from, to, because } = step;
        let info = &self.device.info;
        if self.device.is_news(step) {
            let (id, filesystem, stream) = (&info.id, &info.filesystem, self.record.id);
            let mount = &info.mount;
            let (from, to, works) = (from.name(), to.name(), from != to);
            if works {
                warn!(
                    event = event::DRAIN_CHANGED,
                    stream,
                    device = id,
                    filesystem,
                    "the drain of {mount} is {to} instead of {from}: {because}"
                );
            } else {
                warn!(
                    event = event::DRAIN_CHANGED,
                    stream,
                    device = id,
                    filesystem,
                    "the drain of {mount} is pinned to {from} and cannot be seen to work: {because}; \
                     take away the drain of its root in the configuration"
                );
            }
        }
        self.show_rung();
    }

    fn show_rung(&mut self) {
        let rung = Some(self.ladder.rung());
        if rung == self.rung {
            return;
        }
        self.device.use_rung(self.rung, rung);
        self.rung = rung;
        self.extents.set_window(self.ladder.resident_bytes());
        self.record.drains_by(self.ladder.rung(), self.ladder.resident_bytes());
    }
}

impl Drop for File<'_> {
    fn drop(&mut self) {
        self.device.use_rung(self.rung, None);
    }
}

fn is_unsupported(result: &io::Result<()>) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::Unsupported)
}

#[cfg(test)]
mod tests;
