//! The writer thread's loop.
//!
//! Invariants:
//! 1. Bytes are charged before they are written, for whole pages, and released only after a wait has
//!    shown them clean, its result checked.
//! 2. After the first error nothing more is written.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use freemkvd_proto::{ErrorCode, Failure, Finished, Reply};

use super::gate::Account;
use super::queue::{End, Job, Next, SEGMENT_BYTES};
use super::record::{Activity, Record};
use crate::budget::Reserve;
use crate::clock::Clock;
use crate::device::Device;
use crate::storage::{self, Content, Manner, Storage};
use crate::stream::drain::{self, Pressure};
use crate::stream::extent::Extents;

/// After how long without a job a stream writes back what it has, so that it stops holding budget.
/// A sweep at 14 MB/s hands over a MiB every 70 ms; that is not idle.
const IDLE: Duration = Duration::from_millis(500);

/// How often a throttled stream looks whether its muxer has given up.
const ABORT_POLL: Duration = Duration::from_millis(100);

/// How often the kernel is asked what it holds: a call costs microseconds, but per extent.
const KERNEL_SAMPLE: Duration = Duration::from_millis(100);

/// Zeros to write where the file system has no better way.
static ZEROES: [u8; SEGMENT_BYTES] = [0; SEGMENT_BYTES];

/// How a stream came to its end.
pub(super) enum Outcome {
    /// With the number of the `Finish`, and its answer.
    Finished(u64, Finished),
    Ended(End),
}

/// Why the loop stopped early.
pub(super) enum Stop {
    Failed(Failure),
    Aborted,
}

/// The thread's own: the file, and what is known of its pages.
pub(super) struct Writer<'a> {
    record: &'a Arc<Record>,
    device: Arc<Device>,
    storage: Box<dyn Storage>,
    extents: Extents,
    account: Account,
    clock: Clock,
    /// How long the start of writeback took, of each extent in writeback.
    starts: VecDeque<Duration>,
    /// When the kernel was last asked.
    sampled: Duration,
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        record: &'a Arc<Record>,
        device: Arc<Device>,
        storage: Box<dyn Storage>,
        account: Account,
        clock: Clock,
        window_bytes: u64,
    ) -> Self {
        Self {
            record,
            device,
            storage,
            extents: Extents::new(storage::page_bytes(), window_bytes),
            account,
            clock,
            starts: VecDeque::new(),
            sampled: Duration::ZERO,
        }
    }

    /// Serves the queue until its end, or the first error.
    pub(super) fn serve(&mut self) -> Result<Outcome, Stop> {
        let mut patience = None;
        loop {
            match self.record.queue.pop(patience) {
                Next::Job(job) => {
                    self.record.set_activity(Activity::Writing);
                    let finished = self.execute(&job)?;
                    self.record.queue.done(job);
                    self.record.made_room();
                    if let Some(outcome) = finished {
                        return Ok(outcome);
                    }
                    patience = Some(IDLE);
                }
                Next::Idle => {
                    self.record.set_activity(Activity::Idle);
                    patience = self.step(Pressure::Idle)?.then_some(Duration::ZERO);
                }
                Next::End(end) => return self.end(end),
            }
        }
    }

    /// Does a job; an outcome when it was the last.
    fn execute(&mut self, job: &Job) -> Result<Option<Outcome>, Stop> {
        match job {
            Job::WriteSlots(write) => {
                let slots = self.record.slots();
                let mut offset = write.offset;
                for part in &write.parts {
                    if let Some(slots) = &slots {
                        self.write(offset, Content::Shared(slots, part.clone()))?;
                    }
                    offset += part.end - part.start;
                    while self.step(Pressure::Flowing)? {}
                }
                self.record.written(write.sequence, write.content_bytes);
            }
            Job::Write(segment) => {
                self.write(segment.offset, Content::Bytes(segment.content()))?;
                self.record.written(segment.sequence, segment.content_bytes);
                while self.step(Pressure::Flowing)? {}
            }
            Job::WriteZeroes { range, sequence } => {
                self.write_zeroes(range.clone())?;
                self.record.written(*sequence, range.end - range.start);
            }
            Job::SetLen { len, sequence } => {
                let storage = &mut self.storage;
                let result = self.record.calling("ftruncate", || storage.set_len(*len));
                self.check("set the length of", None, result)?;
                self.extents.cut(*len);
                self.record.written(*sequence, 0);
            }
            Job::Flush { sequence } => self.record.written(*sequence, 0),
            Job::Sync { sequence } => {
                self.record.written(*sequence, 0);
                self.record.set_activity(Activity::Syncing);
                self.sync()?;
                self.record.answer(*sequence, Reply::Synced);
                self.record.set_activity(Activity::Idle);
            }
            Job::Finish { sequence } => {
                self.record.written(*sequence, 0);
                self.record.set_activity(Activity::Finishing);
                self.complete()?;
                let len = self.storage.len_bytes();
                let len_bytes = self.check("measure", None, len)?;
                let progress = self.record.progress();
                let finished = Finished { len_bytes, progress };
                return Ok(Some(Outcome::Finished(*sequence, finished)));
            }
        }
        Ok(None)
    }

    fn end(&mut self, end: End) -> Result<Outcome, Stop> {
        match end {
            End::Aborted(_) => return Err(Stop::Aborted),
            End::ClientGone => self.record.set_activity(Activity::Abandoned),
            End::GoingAway => self.record.set_activity(Activity::Finishing),
        }
        self.complete()?;
        Ok(Outcome::Ended(end))
    }

    fn write(&mut self, offset: u64, content: Content<'_>) -> Result<(), Stop> {
        let range = offset..offset + content.len_bytes();
        let reserved_bytes = self.extents.page_bytes_of(&range);
        self.reserve(reserved_bytes)?;
        // Already shown while it may hang.
        let charged_bytes = self.extents.charged_bytes() + reserved_bytes;
        self.record.charged(charged_bytes, 0);
        let storage = &mut self.storage;
        let result =
            self.record.calling("pwrite", || storage.write_at(offset, content, Manner::Cached));
        // Also after an error some pages may be dirty; they are settled with the rest.
        let dirtied_bytes = self.extents.write(&range);
        self.account.release(reserved_bytes - dirtied_bytes);
        self.record.charged(self.extents.charged_bytes(), 0);
        self.check("write", offset, result)
    }

    /// Beyond the file's length there are zeros already, once it is longer.
    fn write_zeroes(&mut self, range: Range<u64>) -> Result<(), Stop> {
        let len = self.storage.len_bytes();
        let len = self.check("measure", None, len)?;
        let inside = range.start..range.end.min(len);
        if !inside.is_empty() {
            let (storage, whole) = (&mut self.storage, inside.clone());
            let result = self.record.calling("fallocate", || storage.write_zeroes(whole));
            match result {
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                    self.write_zeroes_by_hand(inside)?;
                }
                result => self.check("write zeroes to", range.start, result)?,
            }
        }
        if range.end > len {
            let storage = &mut self.storage;
            let result = self.record.calling("ftruncate", || storage.set_len(range.end));
            self.check("write zeroes to", range.start, result)?;
        }
        Ok(())
    }

    fn write_zeroes_by_hand(&mut self, range: Range<u64>) -> Result<(), Stop> {
        let mut at = range.start;
        while at < range.end {
            if self.record.queue.aborted_by().is_some() {
                return Err(Stop::Aborted);
            }
            let len = usize::try_from(range.end - at).unwrap_or(usize::MAX);
            let piece = &ZEROES[..len.min(ZEROES.len())];
            self.write(at, Content::Bytes(piece))?;
            at += piece.len() as u64;
            while self.step(Pressure::Flowing)? {}
        }
        Ok(())
    }

    /// Waits for the budget; meanwhile gives it what this stream has to give.
    fn reserve(&mut self, bytes: u64) -> Result<(), Stop> {
        while self.account.reserve(bytes) == Reserve::Throttled {
            if self.record.queue.aborted_by().is_some() {
                return Err(Stop::Aborted);
            }
            if !self.step(Pressure::Throttled)? {
                self.record.set_activity(Activity::Throttled);
                self.account.wait(ABORT_POLL);
            }
        }
        self.record.set_activity(Activity::Writing);
        Ok(())
    }

    /// Does the next thing that `drain` asks for; false when that is nothing.
    fn step(&mut self, pressure: Pressure) -> Result<bool, Stop> {
        let extent_bytes = drain::extent_bytes(self.account.share_bytes());
        let (storage, name) = (&mut self.storage, "drain");
        match drain::next(&self.extents, pressure, extent_bytes) {
            drain::Next::Rest => return Ok(false),
            drain::Next::Start(bytes_max) => {
                let Some(extent) = self.extents.start_writeback(bytes_max) else {
                    return Ok(false);
                };
                let offset = extent.start;
                let begun = self.clock.now();
                let result = self.record.calling(name, || match storage.abilities().by_range {
                    true => storage.start_writeback(extent),
                    false => Ok(()),
                });
                self.starts.push_back(self.clock.now().saturating_sub(begun));
                self.check("start writeback of", offset, result)?;
            }
            drain::Next::Wait => {
                let Some(extent) = self.extents.oldest_writeback() else {
                    return Ok(false);
                };
                let offset = extent.start;
                let begun = self.clock.now();
                let by_range = storage.abilities().by_range;
                let result = self.record.calling(name, || match by_range {
                    true => storage.wait_writeback(extent),
                    false => storage.sync_data(),
                });
                let waited = self.clock.now().saturating_sub(begun);
                self.check("write back", offset, result)?;
                if by_range {
                    let start = self.starts.pop_front().unwrap_or_default();
                    let bytes = self.extents.complete_oldest();
                    self.cleaned(bytes, start + waited);
                } else {
                    self.all_clean(waited);
                }
                self.evict()?;
                self.sample_kernel();
            }
        }
        Ok(true)
    }

    /// `bytes` are known to be clean; the thread was held up by it for so long. Not from start to
    /// end: the wait comes when the next extents are full, which says nothing about the device.
    fn cleaned(&mut self, bytes: u64, held_up: Duration) {
        if bytes > 0 {
            self.device.complete(bytes, held_up);
        }
        self.account.release(bytes);
        self.record.charged(self.extents.charged_bytes(), bytes);
    }

    fn all_clean(&mut self, held_up: Duration) {
        self.starts.clear();
        let bytes = self.extents.complete_all();
        self.cleaned(bytes, held_up);
    }

    fn evict(&mut self) -> Result<(), Stop> {
        for range in self.extents.take_evictable() {
            let offset = range.start;
            let storage = &mut self.storage;
            let result = self.record.calling("fadvise", || storage.evict(range));
            self.check("evict", offset, result)?;
        }
        Ok(())
    }

    fn sample_kernel(&mut self) {
        let now = self.clock.now();
        if now.saturating_sub(self.sampled) < KERNEL_SAMPLE {
            return;
        }
        self.sampled = now;
        let mut total = Some(0);
        for range in self.extents.charged_ranges() {
            let storage = &mut self.storage;
            let pages = self.record.calling("cachestat", || storage.pages(range));
            let bytes = pages.map(|pages| pages.dirty_bytes + pages.writeback_bytes);
            total = total.zip(bytes).map(|(total, bytes): (u64, u64)| total + bytes);
        }
        self.record.kernel_dirty(total);
    }

    fn sync(&mut self) -> Result<(), Stop> {
        let covered = self.record.written_mark();
        let storage = &mut self.storage;
        let begun = self.clock.now();
        let result = self.record.calling("fsync", || storage.sync());
        self.check("sync", None, result)?;
        self.all_clean(self.clock.now().saturating_sub(begun));
        self.record.durable(covered);
        self.evict()
    }

    /// Gives back what was reserved too much, and makes the file durable.
    fn complete(&mut self) -> Result<(), Stop> {
        let storage = &mut self.storage;
        let result = self.record.calling("ftruncate", || storage.release_surplus());
        self.check("give back space of", None, result)?;
        self.sync()
    }

    /// Tells the client of a failure, then settles what is still dirty: its charge may only be given
    /// back when the pages are clean. A result that nobody asked for can't make anything better.
    /// Returns the answer to the command that ended the stream.
    pub(super) fn conclude(mut self, result: Result<Outcome, Stop>) -> Option<(u64, Reply)> {
        let last = match result {
            Ok(Outcome::Finished(sequence, finished)) => {
                return Some((sequence, Reply::Finished(finished)));
            }
            Ok(Outcome::Ended(End::ClientGone | End::GoingAway)) => return None,
            Ok(Outcome::Ended(End::Aborted(_))) | Err(Stop::Aborted) => {
                self.record.set_activity(Activity::Aborted);
                let command = self.record.queue.aborted_by();
                command.map(|sequence| (sequence, Reply::Aborted))
            }
            Err(Stop::Failed(failure)) => {
                self.record.fail(failure);
                None
            }
        };
        let storage = &mut self.storage;
        let _ = self.record.calling("ftruncate", || storage.release_surplus());
        let storage = &mut self.storage;
        let begun = self.clock.now();
        let _ = self.record.calling("fsync", || storage.sync());
        self.all_clean(self.clock.now().saturating_sub(begun));
        last
    }

    fn check<T>(
        &self,
        operation: &str,
        offset: impl Into<Option<u64>>,
        result: io::Result<T>,
    ) -> Result<T, Stop> {
        let path = &self.record.path;
        result.map_err(|error| Stop::Failed(failure(path, operation, offset.into(), &error)))
    }
}

fn failure(path: &Path, operation: &str, offset: Option<u64>, error: &io::Error) -> Failure {
    let (code, advice) = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            (ErrorCode::NO_SPACE, "free some space and write it again")
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            (ErrorCode::READ_ONLY, "see the kernel's log for why it is read-only")
        }
        _ => (ErrorCode::IO, "see the kernel's log for the device"),
    };
    let place = offset.map(|offset| format!(" at byte {offset}")).unwrap_or_default();
    let message = format!("cannot {operation} {}{place}: {error}; {advice}", path.display());
    Failure { code, errno: error.raw_os_error(), offset, message }
}
