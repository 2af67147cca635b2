//! The writer thread's loop.
//!
//! Invariants:
//! 1. Bytes are charged before they are written, for whole pages, and released only after a wait has
//!    shown them clean, its result checked.
//! 2. After the first error nothing more is written.
//! 3. A stream that has nothing to write soon holds nothing: neither budget nor a turn.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use freemkvd_proto::{ErrorCode, Failure, Finished, Reply};

use super::file::File;
use super::gate::Account;
use super::open::{Claim, Target};
use super::queue::{End, Job, Next, SEGMENT_BYTES};
use super::record::{Activity, Record};
use crate::budget::Reserve;
use crate::clock::Clock;
use crate::storage::{Content, is_no_space};
use crate::stream::drain::{self, Pressure};

/// How often a stream that waits looks whether it was given up.
pub(super) const ABORT_POLL: Duration = Duration::from_millis(100);

/// How long the holder of a turn waits for more before it passes it on: a client whose slots have just
/// been written fills them within a millisecond.
const TURN_PATIENCE: Duration = Duration::from_millis(3);

/// How much a stream gathers before it asks for a turn, and for how long at most: a turn of less is a
/// seek for little.
const GATHER_BYTES: u64 = 16 << 20;
const GATHER_TIME: Duration = Duration::from_millis(500);

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

/// The thread's own.
pub(super) struct Writer<'a> {
    pub(super) record: &'a Arc<Record>,
    pub(super) file: File<'a>,
    pub(super) clock: Clock,
    /// When content was last written. Nothing else needs a turn, or a charge.
    last_write: Duration,
    pub(super) target: &'a Target,
    /// All of it is durable; only its name may still be missing.
    pub(super) is_complete: bool,
    /// Let go of after the file.
    pub(super) claim: Claim,
    /// It waits for space: everything else that it waits for is on the way to that.
    pub(super) is_without_space: bool,
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        record: &'a Arc<Record>,
        file: File<'a>,
        clock: Clock,
        target: &'a Target,
        (claim, is_complete): (Claim, bool),
    ) -> Self {
        Self {
            record,
            file,
            clock,
            last_write: clock.now(),
            target,
            is_complete,
            claim,
            is_without_space: false,
        }
    }

    /// Serves the queue until its end, or the first error.
    pub(super) fn serve(&mut self) -> Result<Outcome, Stop> {
        loop {
            // A turn that it has is to be used; what it gathers is for the next one.
            if self.account().takes_turns() {
                match self.account().is_active() {
                    false => {
                        let bytes = self.gather_bytes();
                        self.record.asking(|queue| queue.gather(bytes, GATHER_TIME));
                    }
                    true if self.is_silent(TURN_PATIENCE) => self.give_up_turn()?,
                    true => {}
                }
            }
            let patience = self.patience();
            match self.record.asking(|queue| queue.pop(patience)) {
                Next::Job(job) => {
                    self.record.set_activity(Activity::Writing);
                    let finished = self.execute(&job)?;
                    let is_write = matches!(job, Job::Write(_) | Job::WriteSlots(_));
                    self.record.queue.done(job);
                    self.record.made_room();
                    while finished.is_none() && self.step(Pressure::Flowing)? {}
                    if is_write {
                        self.last_write = self.clock.now();
                    }
                    if let Some(outcome) = finished {
                        return Ok(outcome);
                    }
                }
                Next::Idle => self.pause()?,
                Next::Paused => self.stand_still()?,
                Next::End(end) => return self.end(end),
            }
        }
    }

    pub(super) fn account(&mut self) -> &mut Account {
        &mut self.file.account
    }

    /// How long to wait for the next job before something else is to be done.
    fn patience(&mut self) -> Option<Duration> {
        if !self.account().is_active() {
            return None;
        }
        // Others may begin to wait for its turn at any moment.
        if self.account().takes_turns() {
            return Some(TURN_PATIENCE);
        }
        // And another stream may come to a device that this one has had for itself.
        Some(drain::LOOK)
    }

    /// Nothing is queued.
    fn pause(&mut self) -> Result<(), Stop> {
        let idle = self.is_silent(drain::AGE);
        if idle {
            self.record.set_activity(Activity::Idle);
        }
        if !idle && !self.account().takes_turns() {
            while self.step(Pressure::Flowing)? {}
            return Ok(());
        }
        self.give_up_turn()
    }

    /// Somebody has paused it: what it holds is of use to others.
    pub(super) fn stand_still(&mut self) -> Result<(), Stop> {
        self.give_up_turn()?;
        self.record.stand_still();
        Ok(())
    }

    fn is_silent(&self, time: Duration) -> bool {
        self.clock.now().saturating_sub(self.last_write) >= time
    }

    /// Gives back all that is charged, and the turn with it.
    pub(super) fn give_up_turn(&mut self) -> Result<(), Stop> {
        while self.step(Pressure::Idle)? {}
        assert_eq!(self.file.charged_bytes(), 0, "an idle stream has drained (invariant 3)");
        self.account().rest();
        Ok(())
    }

    /// How much to gather: no more than a part of what the client can have queued, or it would wait for
    /// its slots while they wait for more.
    fn gather_bytes(&self) -> u64 {
        match self.record.slots_bytes() {
            0 => (self.record.queue.limit_bytes() / 2).min(GATHER_BYTES),
            // Up to a half of them may be in its window.
            bytes => (bytes / 4).min(GATHER_BYTES),
        }
    }

    /// Does a job; an outcome when it was the last.
    fn execute(&mut self, job: &Job) -> Result<Option<Outcome>, Stop> {
        match job {
            Job::WriteSlots(write) => {
                let slots =
                    self.record.slots().expect("slots are there until the stream has ended");
                let mut offset = write.offset;
                for part in &write.parts {
                    // Not after the last one: its client waits to hear that it is written.
                    while offset > write.offset && self.step(Pressure::Flowing)? {}
                    self.write(offset, &Content::Shared(&slots, part.clone()))?;
                    offset += part.end - part.start;
                }
                self.record.written(write.sequence, write.content_bytes);
            }
            Job::Write(segment) => {
                self.write(segment.offset, &Content::Bytes(segment.content()))?;
                self.record.written(segment.sequence, segment.content_bytes);
            }
            Job::WriteZeroes { range, sequence } => {
                self.write_zeroes(range.clone())?;
                self.record.written(*sequence, range.end - range.start);
            }
            Job::SetLen { len, sequence } => {
                self.set_len(*len, "set the length of")?;
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
                // Before it has its name: what is lost here must not be taken for a whole film.
                let closing = self.file.closing();
                self.check("close", None, closing)?;
                if self.record.queue.aborted_by().is_some() {
                    return Err(Stop::Aborted);
                }
                self.is_complete = true;
                self.publish()?;
                let len = self.file.len_bytes();
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
            End::GoingAway => {
                self.record.set_activity(Activity::Finishing);
                if self.record.is_resumable() {
                    self.leave_open()?;
                    return Ok(Outcome::Ended(end));
                }
            }
        }
        self.complete()?;
        Ok(Outcome::Ended(end))
    }

    /// All is written, and the next daemon goes on from here. Synced now, while somebody is there to hear of an
    /// error: whether systemd keeps the file open cannot be known, and a stop and a start empties its store
    /// before version 254. A disk for which that takes long is not waited for.
    fn leave_open(&mut self) -> Result<(), Stop> {
        self.sync()?;
        self.record.leave_open();
        Ok(())
    }

    fn write(&mut self, offset: u64, content: &Content<'_>) -> Result<(), Stop> {
        let range = offset..offset + content.len_bytes();
        let end_before = self.file.end();
        for (part, way) in self.file.ways(&range) {
            let bytes = content.part(part.start - offset..part.end - offset);
            self.with_space("write", Some(part.start), |writer| {
                writer.reserve(writer.file.page_bytes_of(&part), part.start)?;
                Ok(writer.file.write(&part, way, &bytes))
            })?;
        }
        self.file.wrote(&range, end_before);
        Ok(())
    }

    /// Beyond the file's length there are zeros already, once it is longer.
    fn write_zeroes(&mut self, range: Range<u64>) -> Result<(), Stop> {
        let len = self.file.len_bytes();
        let len = self.check("measure", None, len)?;
        let inside = range.start..range.end.min(len);
        let mut by_hand = false;
        if !inside.is_empty() {
            self.with_space("write zeroes to", Some(range.start), |writer| {
                Ok(match writer.file.write_zeroes(inside.clone()) {
                    Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                        by_hand = true;
                        Ok(())
                    }
                    result => result,
                })
            })?;
        }
        if by_hand {
            self.write_zeroes_by_hand(inside)?;
        }
        if range.end > len {
            self.set_len(range.end, "write zeroes to")?;
        }
        Ok(())
    }

    fn set_len(&mut self, len: u64, operation: &'static str) -> Result<(), Stop> {
        self.with_space(operation, None, |writer| Ok(writer.file.set_len(len)))
    }

    fn write_zeroes_by_hand(&mut self, range: Range<u64>) -> Result<(), Stop> {
        let mut at = range.start;
        while at < range.end {
            if self.record.queue.aborted_by().is_some() {
                return Err(Stop::Aborted);
            }
            let len = usize::try_from(range.end - at).unwrap_or(usize::MAX);
            let piece = &ZEROES[..len.min(ZEROES.len())];
            self.write(at, &Content::Bytes(piece))?;
            at += piece.len() as u64;
            while self.step(Pressure::Flowing)? {}
        }
        Ok(())
    }

    /// Waits for the budget; meanwhile gives it what this stream has to give.
    fn reserve(&mut self, need_bytes: u64, offset: u64) -> Result<(), Stop> {
        let want_bytes = need_bytes + self.record.queue.queued_bytes();
        let mut waiting_since = None;
        while let Reserve::Throttled(hold) = self.account().reserve(need_bytes, want_bytes, offset)
        {
            if self.record.queue.aborted_by().is_some() {
                return Err(Stop::Aborted);
            }
            waiting_since.get_or_insert_with(|| self.clock.now());
            if !self.is_without_space {
                self.record.throttled(hold);
            }
            let pressure = match self.account().waits_for_itself(hold) {
                true => Pressure::Held,
                false => Pressure::Throttled,
            };
            if !self.step(pressure)? {
                self.account().wait(ABORT_POLL);
            }
        }
        let waited = waiting_since.map(|since| self.clock.now().saturating_sub(since));
        self.file.waited(waited.unwrap_or_default());
        if waited.is_some() && !self.is_without_space {
            self.record.set_activity(Activity::Writing);
        }
        Ok(())
    }

    fn step(&mut self, pressure: Pressure) -> Result<bool, Stop> {
        let stepped = self.file.step(pressure);
        stepped.map_err(|(operation, offset, error)| self.failed(operation, offset, &error))
    }

    pub(super) fn sync(&mut self) -> Result<(), Stop> {
        let covered = self.record.written_mark();
        let result = self.file.sync();
        self.check("sync", None, result)?;
        self.record.durable(covered);
        Ok(())
    }

    /// Gives back what was reserved too much, and makes the file durable.
    fn complete(&mut self) -> Result<(), Stop> {
        let result = self.file.release_surplus();
        self.check("give back space of", None, result)?;
        self.sync()
    }

    /// Tells the client of a failure, then settles what is still dirty: its charge may only be given
    /// back when the pages are clean. A result that nobody asked for can't make anything better. Then what is
    /// left of the file becomes what its client chose.
    /// Returns the answer to the command that ended the stream.
    pub(super) fn conclude(mut self, result: Result<Outcome, Stop>) -> Option<(u64, Reply)> {
        // It may have stopped while it stood in line, and has no use for what it would be granted.
        self.account().cancel();
        self.file.takes_no_more();
        let last = match result {
            Ok(Outcome::Finished(sequence, finished)) => {
                return Some((sequence, Reply::Finished(finished)));
            }
            Ok(Outcome::Ended(End::GoingAway)) => return None,
            Ok(Outcome::Ended(End::ClientGone)) => None,
            Ok(Outcome::Ended(End::Aborted(_))) | Err(Stop::Aborted) => {
                self.record.set_activity(Activity::Aborted);
                // Who was told that somebody else has aborted it has heard enough.
                let command = self.record.queue.aborted_by();
                let command = command.filter(|_| self.record.failure().is_none());
                command.map(|sequence| (sequence, Reply::Aborted))
            }
            Err(Stop::Failed(failure)) => {
                self.record.fail(failure);
                None
            }
        };
        let _ = self.file.release_surplus();
        self.dispose(last)
    }

    pub(super) fn check<T>(
        &self,
        operation: &str,
        offset: impl Into<Option<u64>>,
        result: io::Result<T>,
    ) -> Result<T, Stop> {
        result.map_err(|error| self.failed(operation, offset.into(), &error))
    }

    fn failed(&self, operation: &str, offset: Option<u64>, error: &io::Error) -> Stop {
        self.failed_as(operation, offset, error, error.raw_os_error())
    }

    /// The same for an error that is the system's, in words of our own.
    pub(super) fn failed_as(
        &self,
        operation: &str,
        offset: Option<u64>,
        error: &io::Error,
        errno: Option<i32>,
    ) -> Stop {
        Stop::Failed(Failure { errno, ..failure(&self.record.path, operation, offset, error) })
    }
}

/// What a client is told of an error of the operating system.
pub(super) fn failure(
    path: &Path,
    operation: &str,
    offset: Option<u64>,
    error: &io::Error,
) -> Failure {
    let (code, advice) = match error.kind() {
        _ if is_no_space(error) => (ErrorCode::NO_SPACE, "free some space and write it again"),
        io::ErrorKind::ReadOnlyFilesystem => {
            (ErrorCode::READ_ONLY, "see the kernel's log for why it is read-only")
        }
        io::ErrorKind::FileTooLarge => (
            ErrorCode::IO,
            "its file system takes no file of that size (FAT: 4 GiB); write elsewhere",
        ),
        io::ErrorKind::StaleNetworkFileHandle => {
            (ErrorCode::IO, "its server does not know the file any more; write it again")
        }
        _ => (ErrorCode::IO, "see the kernel's log for the device"),
    };
    let place = offset.map(|offset| format!(" at byte {offset}")).unwrap_or_default();
    let message = format!("cannot {operation} {}{place}: {error}; {advice}", path.display());
    Failure { code, errno: error.raw_os_error(), offset, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_the_devices_fault_is_not_looked_for_in_the_kernels_log() {
        let told = |kind: io::ErrorKind| {
            failure(Path::new("/rips/a"), "write", Some(7), &kind.into()).message
        };
        let of_device = told(io::ErrorKind::Other);
        assert!(of_device.starts_with("cannot write /rips/a at byte 7: "), "{of_device}");
        assert!(of_device.ends_with("; see the kernel's log for the device"), "{of_device}");
        for (kind, advice) in [
            (io::ErrorKind::StorageFull, "free some space"),
            (io::ErrorKind::FileTooLarge, "write elsewhere"),
            (io::ErrorKind::StaleNetworkFileHandle, "write it again"),
        ] {
            let told = told(kind);
            assert!(told.contains(advice) && !told.contains("log"), "{told}");
        }
    }
}
