//! What a stream does, as its connection and its thread say, and what its time goes to by that.

use std::time::Duration;

use freemkvd_proto::limits::SLOT_BYTES;
use freemkvd_proto::status::Held;
use freemkvd_proto::waits::{Cause, Waits};

use super::{Activity, Inner, Record};
use crate::budget::Hold;
use crate::storage::CALLS;
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
        self.queue.pause(pause);
        if !pause {
            self.changes(|activity| activity == Activity::Paused, Activity::Idle);
        }
    }

    /// Its thread stands still because somebody has paused it; returns when it is to go on.
    pub fn stand_still(&self) {
        // Who is coming to an end, or waits for its muxer after a restart, is shown to do that.
        let others =
            [Activity::Suspended, Activity::Failed, Activity::Aborted, Activity::Abandoned];
        let is_at_work = |activity| !others.contains(&activity);
        self.changes(is_at_work, Activity::Paused);
        self.queue.wait_while_paused();
        self.changes(|activity| activity == Activity::Paused, Activity::Idle);
    }

    fn changes(&self, from: impl FnOnce(Activity) -> bool, to: Activity) {
        let mut inner = self.lock();
        if from(inner.activity) {
            self.becomes(&mut inner, to);
            self.recount(&mut inner);
        }
    }

    /// Its muxer waits from here on for a sync or the finish that it has sent.
    pub fn owes(&self) {
        self.lock().owed += 1;
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
        let (cause, is_held) = (cause(inner), is_held(inner));
        // Most of what is done changes neither, and the clock is not read for nothing.
        if inner.clocked.goes_elsewhere(cause, is_held) {
            inner.clocked.goes_to(cause, is_held, self.clock.now());
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
        match inner.activity {
            Activity::Failed | Activity::Aborted | Activity::Abandoned | Activity::Suspended => {
                None
            }
            _ if inner.ended.is_some() => None,
            _ => inner.clocked.held_lately(now),
        }
    }

    /// For how long it has lived in this daemon, and how much of that its muxer was held up.
    #[must_use]
    pub fn took(&self) -> (Duration, Duration) {
        let spent = self.lock().clocked.spent(self.clock.now());
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
        let is_called = is_full(inner) || inner.owed > 0;
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
fn is_held(inner: &Inner) -> bool {
    match inner.activity {
        Activity::Opening | Activity::Syncing | Activity::Finishing | Activity::Suspended => true,
        Activity::Failed | Activity::Aborted | Activity::Abandoned => false,
        _ => inner.owed > 0 || is_full(inner),
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
