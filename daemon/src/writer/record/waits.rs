//! What a stream does, as its connection and its thread say, and what its time goes to by that.

use std::time::Duration;

use freemkvd_proto::limits::SLOT_BYTES;
use freemkvd_proto::status::Held;
use freemkvd_proto::waits::{Cause, Waits};

use super::{Activity, Inner, Record};
use crate::budget::Hold;
use crate::storage::CALLS;
use crate::stream::waits::HeldUp;
use crate::writer::queue::Queue;

impl Record {
    /// The budget has nothing for it now.
    pub fn throttled(&self, hold: Hold) {
        let mut inner = self.lock();
        self.becomes(&mut inner, Activity::Throttled);
        inner.hold = Some(hold);
        self.recount(&mut inner);
    }

    /// There is no space for what it has to write, at least so many bytes; it gives up then.
    pub fn no_space(&self, missing_bytes: u64, until: Duration) {
        let mut inner = self.lock();
        self.becomes(&mut inner, Activity::NoSpace);
        inner.no_space = Some((missing_bytes, until));
        self.recount(&mut inner);
    }

    /// What the stream is doing from now on.
    pub fn set_activity(&self, activity: Activity) {
        let mut inner = self.lock();
        self.becomes(&mut inner, activity);
        self.recount(&mut inner);
    }

    /// Somebody pauses it, or has it go on. Its thread hears of it when it asks for something to do.
    pub fn pause(&self, pause: bool) {
        let mut inner = self.lock();
        // Under the lock: two who differ are not shown what neither wanted.
        self.queue.pause(pause);
        match (pause, inner.activity) {
            // Told to go on and paused again before its thread has woken up.
            (true, Activity::Idle) if inner.stands => self.becomes(&mut inner, Activity::Paused),
            (false, Activity::Paused) => self.becomes(&mut inner, Activity::Idle),
            _ => return,
        }
        self.recount(&mut inner);
    }

    /// Its thread stands still because somebody has paused it; returns when it is to go on.
    pub fn stand_still(&self) {
        let others =
            [Activity::Suspended, Activity::Failed, Activity::Aborted, Activity::Abandoned];
        let mut inner = self.lock();
        inner.stands = true;
        if self.queue.stands_still() && !others.contains(&inner.activity) {
            self.becomes(&mut inner, Activity::Paused);
            self.recount(&mut inner);
        }
        drop(inner);
        self.queue.wait_while_paused();
        let mut inner = self.lock();
        inner.stands = false;
        if inner.activity == Activity::Paused {
            self.becomes(&mut inner, Activity::Idle);
            self.recount(&mut inner);
        }
    }

    /// Its muxer is about to have sent this sync, or the finish, and may wait for the answer.
    pub fn owes(&self, sequence: u64) {
        let mut inner = self.lock();
        self.goes_on(&mut inner);
        inner.owed = Some(sequence);
    }

    /// Its muxer has sent something else: it does not wait for the sync that it has sent before.
    pub(super) fn goes_on(&self, inner: &mut Inner) {
        if inner.owed.take().is_some() {
            self.recount(inner);
            inner.clocked.has_gone_on(self.clock.now());
        }
    }

    /// The answer is there: if its muxer has sent nothing else meanwhile, it has waited.
    pub(super) fn has_waited(&self, inner: &mut Inner, sequence: u64) {
        if inner.owed == Some(sequence) {
            inner.owed = None;
            self.recount(inner);
            inner.clocked.has_waited(self.clock.now());
        }
    }

    pub(super) fn becomes(&self, inner: &mut Inner, activity: Activity) {
        if inner.activity != activity {
            inner.activity = activity;
            inner.since = self.clock.now();
            inner.hold = None;
            inner.no_space = None;
        }
    }

    /// Runs one blocking call, which begins at `begun`, under its name, so that status can tell who hangs where.
    pub fn calling<T>(&self, name: &'static str, begun: Duration, call: impl FnOnce() -> T) -> T {
        self.in_call(Some((name, begun)));
        let result = call();
        self.in_call(None);
        result
    }

    /// Has its thread look into the queue for something to do, which may take a while.
    pub fn asking<T>(&self, look: impl FnOnce(&Queue) -> T) -> T {
        self.set_asking(true);
        let found = look(&self.queue);
        self.set_asking(false);
        found
    }

    fn set_asking(&self, is_asking: bool) {
        let mut inner = self.lock();
        inner.is_asking = is_asking;
        self.recount(&mut inner);
    }

    /// Whether its connection has something for the queue, which has no room.
    pub fn refused(&self, is_refused: bool) {
        let mut inner = self.lock();
        inner.is_refused = is_refused;
        self.recount(&mut inner);
    }

    pub(super) fn in_call(&self, call: Option<(&'static str, Duration)>) {
        let mut inner = self.lock();
        inner.call = call;
        self.recount(&mut inner);
    }

    /// What it does may have changed. Its connection may come to say so when it has ended.
    pub(super) fn recount(&self, inner: &mut Inner) {
        if inner.ended.is_some() {
            return;
        }
        let (cause, held_up) = (cause(inner), held_up(inner));
        // Most of what is done changes neither, and the clock is not read for nothing.
        if inner.clocked.goes_elsewhere(cause, held_up) {
            inner.clocked.goes_to(cause, held_up, self.clock.now());
        }
    }

    /// Where its time went.
    #[must_use]
    pub fn waits(&self) -> Waits {
        let now = self.clock.now();
        let inner = self.lock();
        let report = inner.clocked.report(inner.ended.unwrap_or(now));
        Waits {
            stream: self.id,
            path: self.path.display().to_string(),
            client_pid: self.client.pid,
            ended_seconds_ago: inner.ended.map(|ended| now.saturating_sub(ended).as_secs()),
            error: inner.failure.as_ref().map(|failure| failure.message.clone()),
            ..report
        }
    }

    /// How much its muxer was held up lately; `None` when it was not, or is gone.
    pub(super) fn held(inner: &Inner, now: Duration) -> Option<Held> {
        let is_there = inner.wake.is_some() && inner.failure.is_none() && inner.ended.is_none();
        if is_there { inner.clocked.held_lately(now) } else { None }
    }

    /// For how long it has lived in this daemon, and how much of that its muxer was held up.
    #[must_use]
    pub fn took(&self) -> (Duration, Duration) {
        let now = self.clock.now();
        let mut clocked = self.lock().clocked.clone();
        clocked.has_waited(now);
        let spent = clocked.spent(now);
        let took = spent.iter().map(|(time, _)| *time).sum();
        let held = spent.iter().map(|(_, held)| *held).sum();
        (took, held)
    }
}

fn cause(inner: &Inner) -> Cause {
    match inner.activity {
        Activity::Suspended => return Cause::Restart,
        Activity::Failed | Activity::Aborted | Activity::Abandoned => return Cause::Ending,
        // For those the calls in between are on the way to what it waits for.
        Activity::NoSpace => return Cause::Space,
        Activity::Opening => return Cause::Opening,
        Activity::Paused => return Cause::Paused,
        _ => {}
    }
    if inner.is_asking {
        // Where there is more than enough, or somebody waits, its thread is about to wake up.
        let is_called = is_full(inner) || inner.owed.is_some();
        return if is_called { Cause::Daemon } else { Cause::Muxer };
    }
    match inner.call.map(|(name, _)| name) {
        Some(name) if name == CALLS.write => return Cause::Write,
        _ if matches!(inner.activity, Activity::Syncing | Activity::Finishing) => {
            return Cause::Sync;
        }
        Some(name) if name == "sync_file_range" || name == CALLS.drain || name == CALLS.sync => {
            return Cause::Writeback;
        }
        _ => {}
    }
    match (inner.activity, inner.hold, inner.call) {
        (Activity::Throttled, Some(Hold::Turn), _) => Cause::Turn,
        (Activity::Throttled, Some(Hold::Sick), _) => Cause::SickDevice,
        (Activity::Throttled, Some(Hold::Total), _) => Cause::TotalBudget,
        (Activity::Throttled, ..) => Cause::DeviceBudget,
        (.., Some(_)) => Cause::Call,
        (.., None) => Cause::Daemon,
    }
}

/// As [`freemkvd_proto::waits::Part::held_ns`] says.
fn held_up(inner: &Inner) -> HeldUp {
    match inner.activity {
        Activity::Opening | Activity::Suspended => HeldUp::Yes,
        Activity::Failed | Activity::Aborted | Activity::Abandoned => HeldUp::No,
        // Its muxer is gone.
        _ if inner.wake.is_none() => HeldUp::No,
        _ if is_full(inner) => HeldUp::Yes,
        _ if inner.owed.is_some() => HeldUp::Owed,
        _ => HeldUp::No,
    }
}

/// Its muxer can't hand over more. Of shared slots a half may be in the muxer's window, so that this is when the
/// other half is on its way.
fn is_full(inner: &Inner) -> bool {
    let progress = inner.marks.progress();
    let to_write_bytes = progress.accepted.bytes - progress.written.bytes;
    let is_shared_full = inner.slots.as_ref().is_some_and(|slots| {
        let slots_bytes = u64::from(slots.count()) * u64::from(SLOT_BYTES);
        to_write_bytes > 0 && to_write_bytes >= slots_bytes / 2
    });
    inner.is_refused || is_shared_full
}
