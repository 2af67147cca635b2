//! The queue of one stream: what its connection has accepted and its writer thread has not written.
//!
//! Invariants:
//! 1. The memory of the queued segments, with one in the writer's hands, never exceeds the limit: it
//!    is charged by what a segment has room for, before a byte is read from the socket. Content in
//!    shared slots is the client's memory, and its own limit: no more of it is taken than there is.
//! 2. Content is stored once. The connection reads it from the socket into the last segment while
//!    there is room, so that small writes leave as large ones, and nothing is copied to get there.
//! 3. After `close` the queue is empty and stays so.
//! 4. While it is paused no job leaves it, unless no more will come.
//! 5. Where the system has no memory, a queue goes on with the segment that it got at its beginning.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::user::UserId;

mod job;
mod memory;
mod segment;

pub use job::{Job, SlotsWrite};
pub use memory::{Lacking, Queues};
use memory::{Own, User};
pub use segment::{SEGMENT_BYTES, Segment};
use segment::{SEGMENT_BYTES_MIN, allocation_bytes};

/// What a command without content is charged, so that millions of them are bounded as well.
const COMMAND_BYTES: u64 = 256;

/// The same for one with content in shared slots: the places of its parts may take as much again.
const SLOTS_COMMAND_BYTES: u64 = 512;

/// Why no more jobs will come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The muxer gave the stream up with this command; what was queued is dropped.
    Aborted(u64),
    /// The connection ended without `Finish`.
    ClientGone,
    /// The daemon is stopping.
    GoingAway,
}

/// What the writer finds.
#[derive(Debug)]
pub enum Next {
    /// A job.
    Job(Job),
    /// Nothing for as long as it wanted to wait.
    Idle,
    /// Nothing until somebody has it go on.
    Paused,
    /// Nothing, and nothing will come.
    End(End),
}

/// What the connection finds when it asks for room.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Charged.
    Granted,
    /// Wait for the writer.
    Full,
    /// Nobody will ever take it.
    Closed,
}

/// Queue of one stream; see the module's documentation.
#[derive(Debug)]
pub struct Queue {
    queues: Arc<Queues>,
    user: Arc<User>,
    state: Mutex<State>,
    filled: Condvar,
}

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<Queued>,
    /// Memory of the queue's own, with that in the writer's hands.
    held_bytes: u64,
    /// Content in shared slots, with that in the writer's hands.
    shared_bytes: u64,
    /// Content of both kinds that is queued.
    queued_bytes: u64,
    /// Queued jobs that are not content.
    others: usize,
    /// The connection waits for room.
    refused: bool,
    own: Own,
    end: Option<End>,
    closed: bool,
    paused: bool,
}

#[derive(Debug)]
struct Queued {
    job: Job,
    since: Instant,
}

impl State {
    /// Whoever is to end does not wait for that.
    fn stands_still(&self) -> bool {
        self.paused && self.end.is_none()
    }

    fn push(&mut self, job: Job) {
        let since = match &job {
            Job::Write(segment) => segment.since,
            _ => Instant::now(),
        };
        match job.content_bytes() {
            Some(bytes) => self.queued_bytes += bytes,
            None => self.others += 1,
        }
        self.jobs.push_back(Queued { job, since });
    }

    /// Counts a job that was just taken out.
    fn taken(&mut self, queued: Queued) -> Job {
        match queued.job.content_bytes() {
            Some(bytes) => self.queued_bytes -= bytes,
            None => self.others -= 1,
        }
        queued.job
    }
}

impl Queue {
    /// An empty queue of `user`; `None` where the platform has no number for who it is.
    #[must_use]
    pub fn new(queues: Arc<Queues>, user: Option<UserId>) -> Self {
        let user = queues.joined(user);
        Self { queues, user, state: Mutex::default(), filled: Condvar::new() }
    }

    /// Takes the memory with which it goes on when the system has no more.
    ///
    /// # Errors
    /// [`Lacking`].
    pub fn reserve(&self) -> Result<(), Lacking> {
        if !self.queues.is_enough_for(&self.user) {
            return Err(Lacking::PartOfUser);
        }
        let is_there = self.queues.is_enough() && lock(&self.state).own.allocate();
        if is_there { Ok(()) } else { Err(Lacking::Memory) }
    }

    /// Most bytes that it may hold now.
    #[must_use]
    pub fn limit_bytes(&self) -> u64 {
        self.queues.limit_bytes(&self.user)
    }

    /// Content that is queued, in bytes; that in the writer's hands is not.
    #[must_use]
    pub fn queued_bytes(&self) -> u64 {
        lock(&self.state).queued_bytes
    }

    /// The last segment, taken out, if `len` bytes of content for `offset` continue it and fit.
    /// Push it back when they are in it.
    #[must_use]
    pub fn take_tail(&self, offset: u64, len: usize) -> Option<Segment> {
        let mut state = lock(&self.state);
        match state.jobs.back().map(|queued| &queued.job) {
            Some(Job::Write(tail))
                if tail.range().end == offset && tail.room_bytes - tail.content().len() >= len => {}
            _ => return None,
        }
        let tail = state.jobs.pop_back()?;
        match state.taken(tail) {
            Job::Write(tail) => Some(tail),
            _ => None,
        }
    }

    /// Charges for a new segment with room for `len` bytes, at most [`SEGMENT_BYTES`], and hands it
    /// out. A segment that continues the last one is larger than that one was, so that a run of small
    /// writes soon fills whole segments.
    ///
    /// # Errors
    /// [`Room::Full`] or [`Room::Closed`].
    pub fn new_segment(&self, offset: u64, len: usize) -> Result<Segment, Room> {
        let mut state = lock(&self.state);
        let continued = match state.jobs.back().map(|queued| &queued.job) {
            Some(Job::Write(tail)) if tail.range().end == offset => tail.room_bytes * 4,
            _ => 0,
        };
        let room_bytes = len.next_power_of_two().max(continued);
        let room_bytes = room_bytes.clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES).max(len);
        match self.charge(&mut state, room_bytes as u64) {
            Room::Granted => {}
            refused => return Err(refused),
        }
        // What was not reserved has to be there, or the stream would stand still for good.
        let is_sure = matches!(state.own, Own::None);
        match self.queues.take_memory(room_bytes, &mut state.own) {
            Some(memory) => Ok(Segment::new(offset, memory, room_bytes)),
            None if is_sure => Ok(Segment::new(
                offset,
                Vec::with_capacity(allocation_bytes(room_bytes)),
                room_bytes,
            )),
            None => {
                state.held_bytes -= room_bytes as u64;
                Err(self.refuse(&mut state))
            }
        }
    }

    /// Queues a segment that came from this queue.
    pub fn push_segment(&self, segment: Segment) {
        self.push_charged(Job::Write(segment));
    }

    /// Charges for a job without content. [`Queue::push_command`] follows.
    pub fn charge_command(&self) -> Room {
        self.charge(&mut lock(&self.state), COMMAND_BYTES)
    }

    /// Charges for content in shared slots, of which the client has so many bytes in all. An honest
    /// client never has more than that on its way, and one that names its slots again and again can't
    /// have a queue that takes for ever to write. [`Queue::push_command`] follows.
    pub fn charge_slots(&self, content_bytes: u64, slots_bytes: u64) -> Room {
        let mut state = lock(&self.state);
        if state.shared_bytes > 0 && state.shared_bytes + content_bytes > slots_bytes {
            return self.refuse(&mut state);
        }
        let room = self.charge(&mut state, SLOTS_COMMAND_BYTES);
        if room == Room::Granted {
            state.shared_bytes += content_bytes;
        }
        room
    }

    /// Queues a job without content of its own.
    pub fn push_command(&self, job: Job) {
        self.push_charged(job);
    }

    /// No more jobs will come. What is queued is written all the same, but for an abort.
    pub fn end(&self, end: End) {
        let mut state = lock(&self.state);
        if let End::Aborted(_) = end {
            self.drop_jobs(&mut state);
            // Whatever else was to become of it.
            state.end = Some(end);
        }
        state.end.get_or_insert(end);
        self.filled.notify_one();
    }

    /// True when it was said that no more jobs will come.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        lock(&self.state).end.is_some()
    }

    /// True when its muxer is gone, or somebody has given the stream up.
    #[must_use]
    pub fn is_given_up(&self) -> bool {
        matches!(lock(&self.state).end, Some(End::Aborted(_) | End::ClientGone))
    }

    /// True when the daemon is stopping.
    #[must_use]
    pub fn is_going_away(&self) -> bool {
        lock(&self.state).end == Some(End::GoingAway)
    }

    /// The number of the command by which the muxer has given the stream up.
    #[must_use]
    pub fn aborted_by(&self) -> Option<u64> {
        match lock(&self.state).end {
            Some(End::Aborted(sequence)) => Some(sequence),
            _ => None,
        }
    }

    /// Drops what is queued, and refuses whatever comes.
    pub fn close(&self) {
        let mut state = lock(&self.state);
        self.drop_jobs(&mut state);
        (state.held_bytes, state.shared_bytes) = (0, 0);
        state.own = Own::None;
        // From here on the others share what was this one's part, however long it is remembered.
        if !std::mem::replace(&mut state.closed, true) {
            self.queues.left(&self.user);
        }
    }

    fn drop_jobs(&self, state: &mut State) {
        while let Some(queued) = state.jobs.pop_front() {
            if let Job::Write(segment) = state.taken(queued) {
                self.queues.give_memory(segment, &mut state.own);
            }
        }
    }

    /// From now on nothing leaves it, or all does again.
    pub fn pause(&self, pause: bool) {
        lock(&self.state).paused = pause;
        self.filled.notify_one();
    }

    /// True while somebody has paused it.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        lock(&self.state).paused
    }

    /// True while nothing leaves it for that.
    #[must_use]
    pub fn stands_still(&self) -> bool {
        lock(&self.state).stands_still()
    }

    /// Returns once it is not paused any more, or no more will come.
    pub fn wait_while_paused(&self) {
        let state = lock(&self.state);
        drop(self.filled.wait_while(state, |state| state.stands_still()));
    }

    /// The next job; waits for it at most `patience`, or for ever.
    #[must_use]
    pub fn pop(&self, patience: Option<Duration>) -> Next {
        let state = lock(&self.state);
        let empty = |state: &mut State| {
            state.jobs.is_empty() && state.end.is_none() && !state.stands_still()
        };
        let mut state = match patience {
            None => self.filled.wait_while(state, empty).unwrap_or_else(PoisonError::into_inner),
            Some(patience) => {
                let waited = self.filled.wait_timeout_while(state, patience, empty);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        if state.stands_still() {
            return Next::Paused;
        }
        match (state.jobs.pop_front(), state.end) {
            (Some(queued), _) => Next::Job(state.taken(queued)),
            (None, Some(end)) => Next::End(end),
            (None, None) => Next::Idle,
        }
    }

    /// Waits until `bytes` of content are queued, so that a disk that seeks is asked for them at once.
    /// Not any longer than until somebody waits for the writer: a job that is not content is queued,
    /// the connection has no room, no more will come or leave it, or the oldest job has waited for `patience`. While
    /// nothing is queued it waits for that.
    pub fn gather(&self, bytes: u64, patience: Duration) {
        let mut state = lock(&self.state);
        loop {
            let over = state.end.is_some() || state.closed || state.stands_still();
            let urgent = state.others > 0 || state.refused || over;
            // The only job may be in the connection's hands, who adds to it.
            let waits_since = state.jobs.front().map(|oldest| oldest.since);
            let left = waits_since.map(|since| patience.saturating_sub(since.elapsed()));
            if urgent || state.queued_bytes >= bytes || left.is_some_and(|left| left.is_zero()) {
                return;
            }
            state = match left {
                Some(left) => {
                    let waited = self.filled.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.filled.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// The job was executed: its memory is free.
    pub fn done(&self, job: Job) {
        let mut state = lock(&self.state);
        let (mut held_bytes, mut shared_bytes) = (COMMAND_BYTES, 0);
        match job {
            Job::Write(segment) => {
                held_bytes = segment.room_bytes as u64;
                self.queues.give_memory(segment, &mut state.own);
            }
            Job::WriteSlots(write) => {
                (held_bytes, shared_bytes) = (SLOTS_COMMAND_BYTES, write.content_bytes);
            }
            _ => {}
        }
        state.held_bytes = state.held_bytes.saturating_sub(held_bytes);
        state.shared_bytes = state.shared_bytes.saturating_sub(shared_bytes);
        state.refused = false;
    }

    fn charge(&self, state: &mut State, bytes: u64) -> Room {
        if state.closed || state.end.is_some() {
            return Room::Closed;
        }
        // One job always fits, or a limit lowered below it would stop the stream for good.
        if state.held_bytes > 0 && state.held_bytes + bytes > self.limit_bytes() {
            return self.refuse(state);
        }
        state.held_bytes += bytes;
        Room::Granted
    }

    fn refuse(&self, state: &mut State) -> Room {
        if state.closed || state.end.is_some() {
            return Room::Closed;
        }
        state.refused = true;
        self.filled.notify_one();
        Room::Full
    }

    fn push_charged(&self, job: Job) {
        let mut state = lock(&self.state);
        if !state.closed {
            state.push(job);
            self.filled.notify_one();
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.close();
    }
}

/// A panic while the lock was held leaves the data as it was: every update here is complete before
/// anything can panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
