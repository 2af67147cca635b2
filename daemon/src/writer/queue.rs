//! The queue of one stream: what its connection has accepted and its writer thread has not written.
//!
//! Invariants:
//! 1. The memory of the queued segments, with one in the writer's hands, never exceeds the limit: it
//!    is charged by capacity, before a byte is read from the socket.
//! 2. Content is stored once. The connection reads it from the socket into the last segment while
//!    there is room, so that small writes leave as large ones, and nothing is copied to get there.
//! 3. After `close` the queue is empty and stays so.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Largest segment, and so the largest single `pwrite`: beyond 1 MiB no file system gets faster.
pub const SEGMENT_BYTES: usize = 1 << 20;

/// Smallest memory for a segment: a lone patch of 8 bytes should not hold a MiB.
const SEGMENT_BYTES_MIN: usize = 4 << 10;

/// What a command without content is charged, so that millions of them are bounded as well.
const COMMAND_BYTES: u64 = 256;

/// Free segments that are kept for reuse by all streams together. Fresh memory costs a page fault
/// per 4 KiB, which at 1 GiB/s is a noticeable part of a core.
const SPARE_SEGMENTS: usize = 32;

/// A contiguous piece of content.
#[derive(Debug)]
pub struct Segment {
    /// Where in the file it begins.
    pub offset: u64,
    /// The content; its capacity is what the queue is charged.
    pub bytes: Vec<u8>,
    /// Number of the last command whose content is wholly in it or before it.
    pub sequence: u64,
    /// Content bytes of the commands that ended in it.
    pub content_bytes: u64,
}

impl Segment {
    /// The bytes of the file that it covers.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.offset..self.offset + self.bytes.len() as u64
    }
}

/// Content that lies in memory which the client shares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotsWrite {
    /// Where in the file it begins.
    pub offset: u64,
    /// Where it lies in the shared memory, one part after the other; checked.
    pub parts: Vec<Range<u64>>,
    /// The command's number.
    pub sequence: u64,
    /// How many bytes.
    pub content_bytes: u64,
}

/// One thing for the writer to do.
#[derive(Debug)]
pub enum Job {
    /// Write content.
    Write(Segment),
    /// Write content that is in shared slots.
    WriteSlots(SlotsWrite),
    /// Make a range read as zeros.
    WriteZeroes {
        /// The range.
        range: Range<u64>,
        /// The command's number.
        sequence: u64,
    },
    /// Set the file's length.
    SetLen {
        /// The length in bytes.
        len: u64,
        /// The command's number.
        sequence: u64,
    },
    /// Everything before is written once this is reached.
    Flush {
        /// The command's number.
        sequence: u64,
    },
    /// Make everything before durable.
    Sync {
        /// The command's number.
        sequence: u64,
    },
    /// Complete the file.
    Finish {
        /// The command's number.
        sequence: u64,
    },
}

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

/// What all queues share: their total, and memory for reuse.
#[derive(Debug)]
pub struct Queues {
    total_bytes: AtomicU64,
    stream_bytes: AtomicU64,
    open: AtomicUsize,
    spare: Mutex<Vec<Vec<u8>>>,
}

impl Queues {
    /// Queues of at most `stream_bytes` each and `total_bytes` together.
    #[must_use]
    pub fn new(stream_bytes: u64, total_bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            total_bytes: AtomicU64::new(total_bytes),
            stream_bytes: AtomicU64::new(stream_bytes),
            open: AtomicUsize::new(0),
            spare: Mutex::default(),
        })
    }

    /// Changes both limits; fuller queues stay as they are until their writers have caught up.
    pub fn set_limits(&self, stream_bytes: u64, total_bytes: u64) {
        self.stream_bytes.store(stream_bytes, Ordering::Relaxed);
        self.total_bytes.store(total_bytes, Ordering::Relaxed);
    }

    /// Most bytes that all queues may hold together.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes.load(Ordering::Relaxed)
    }

    /// Most bytes that one queue may hold now: an equal part of the total, but at least a segment.
    #[must_use]
    pub fn limit_bytes(&self) -> u64 {
        let open = self.open.load(Ordering::Relaxed).max(1) as u64;
        let part = (self.total_bytes() / open).max(SEGMENT_BYTES as u64);
        self.stream_bytes.load(Ordering::Relaxed).min(part)
    }

    fn take_memory(&self, capacity: usize) -> Vec<u8> {
        let spare = if capacity == SEGMENT_BYTES { lock(&self.spare).pop() } else { None };
        spare.unwrap_or_else(|| Vec::with_capacity(capacity))
    }

    fn give_memory(&self, mut bytes: Vec<u8>) {
        let mut spare = lock(&self.spare);
        if bytes.capacity() == SEGMENT_BYTES && spare.len() < SPARE_SEGMENTS {
            bytes.clear();
            spare.push(bytes);
        }
    }
}

/// Queue of one stream; see the module's documentation.
#[derive(Debug)]
pub struct Queue {
    queues: Arc<Queues>,
    state: Mutex<State>,
    filled: Condvar,
}

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<Job>,
    held_bytes: u64,
    end: Option<End>,
    closed: bool,
}

impl Queue {
    /// An empty queue.
    #[must_use]
    pub fn new(queues: Arc<Queues>) -> Self {
        queues.open.fetch_add(1, Ordering::Relaxed);
        Self { queues, state: Mutex::default(), filled: Condvar::new() }
    }

    /// Most bytes that it may hold now.
    #[must_use]
    pub fn limit_bytes(&self) -> u64 {
        self.queues.limit_bytes()
    }

    /// The last segment, taken out, if `len` bytes of content for `offset` continue it and fit.
    /// Push it back when they are in it.
    #[must_use]
    pub fn take_tail(&self, offset: u64, len: usize) -> Option<Segment> {
        let mut state = lock(&self.state);
        match state.jobs.back() {
            Some(Job::Write(tail))
                if tail.range().end == offset
                    && tail.bytes.capacity() - tail.bytes.len() >= len => {}
            _ => return None,
        }
        match state.jobs.pop_back() {
            Some(Job::Write(tail)) => Some(tail),
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
        let continued = match state.jobs.back() {
            Some(Job::Write(tail)) if tail.range().end == offset => tail.bytes.capacity() * 4,
            _ => 0,
        };
        let capacity = len.next_power_of_two().max(continued);
        let capacity = capacity.clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES).max(len);
        match self.charge(&mut state, capacity as u64) {
            Room::Granted => {}
            refused => return Err(refused),
        }
        drop(state);
        let bytes = self.queues.take_memory(capacity);
        Ok(Segment { offset, bytes, sequence: 0, content_bytes: 0 })
    }

    /// Queues a segment that came from this queue.
    pub fn push_segment(&self, segment: Segment) {
        self.push_charged(Job::Write(segment));
    }

    /// Charges for a job without content. [`Queue::push_command`] follows.
    pub fn charge_command(&self) -> Room {
        self.charge(&mut lock(&self.state), COMMAND_BYTES)
    }

    /// Queues a job without content.
    pub fn push_command(&self, job: Job) {
        self.push_charged(job);
    }

    /// No more jobs will come. What is queued is written all the same, but for an abort.
    pub fn end(&self, end: End) {
        let mut state = lock(&self.state);
        if let End::Aborted(_) = end {
            self.drop_jobs(&mut state);
        }
        state.end.get_or_insert(end);
        self.filled.notify_one();
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
        state.held_bytes = 0;
        // From here on the others share what was this one's part, however long it is remembered.
        if !std::mem::replace(&mut state.closed, true) {
            self.queues.open.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn drop_jobs(&self, state: &mut State) {
        for job in state.jobs.drain(..) {
            if let Job::Write(segment) = job {
                self.queues.give_memory(segment.bytes);
            }
        }
    }

    /// The next job; waits for it at most `patience`, or for ever.
    #[must_use]
    pub fn pop(&self, patience: Option<Duration>) -> Next {
        let state = lock(&self.state);
        let empty = |state: &mut State| state.jobs.is_empty() && state.end.is_none();
        let mut state = match patience {
            None => self.filled.wait_while(state, empty).unwrap_or_else(PoisonError::into_inner),
            Some(patience) => {
                let waited = self.filled.wait_timeout_while(state, patience, empty);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        match (state.jobs.pop_front(), state.end) {
            (Some(job), _) => Next::Job(job),
            (None, Some(end)) => Next::End(end),
            (None, None) => Next::Idle,
        }
    }

    /// Content bytes that are queued.
    #[must_use]
    pub fn queued_bytes(&self) -> u64 {
        let state = lock(&self.state);
        let len = |job: &Job| match job {
            Job::Write(segment) => segment.bytes.len() as u64,
            _ => 0,
        };
        state.jobs.iter().map(len).sum()
    }

    /// Gathers.
    pub fn gather(&self, _bytes: u64, _patience: Duration) {}

    /// The job was executed: its memory is free.
    pub fn done(&self, job: Job) {
        let bytes = match job {
            Job::Write(segment) => {
                let capacity = segment.bytes.capacity() as u64;
                self.queues.give_memory(segment.bytes);
                capacity
            }
            Job::WriteSlots(_) => COMMAND_BYTES,
            _ => COMMAND_BYTES,
        };
        let mut state = lock(&self.state);
        state.held_bytes = state.held_bytes.saturating_sub(bytes);
    }

    fn charge(&self, state: &mut State, bytes: u64) -> Room {
        if state.closed || state.end.is_some() {
            return Room::Closed;
        }
        // One job always fits, or a limit lowered below it would stop the stream for good.
        if state.held_bytes > 0 && state.held_bytes + bytes > self.limit_bytes() {
            return Room::Full;
        }
        state.held_bytes += bytes;
        Room::Granted
    }

    fn push_charged(&self, job: Job) {
        let mut state = lock(&self.state);
        if !state.closed {
            state.jobs.push_back(job);
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
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn queue(limit_bytes: u64) -> Queue {
        Queue::new(Queues::new(limit_bytes, 64 * MIB))
    }

    fn write(queue: &Queue, offset: u64, len: usize) -> Result<(), Room> {
        let mut segment = match queue.take_tail(offset, len) {
            Some(tail) => tail,
            None => queue.new_segment(offset, len)?,
        };
        segment.bytes.resize(segment.bytes.len() + len, 1);
        queue.push_segment(segment);
        Ok(())
    }

    fn pop(queue: &Queue) -> Option<Range<u64>> {
        match queue.pop(Some(Duration::ZERO)) {
            Next::Job(job) => {
                let Job::Write(segment) = &job else {
                    return None;
                };
                let range = segment.range();
                queue.done(job);
                Some(range)
            }
            _ => None,
        }
    }

    #[test]
    fn small_writes_grow_into_whole_segments_and_gaps_do_not() {
        let queue = queue(8 * MIB);
        let mut at = 0;
        while at < 3 * MIB {
            write(&queue, at, 512).unwrap();
            at += 512;
        }
        write(&queue, 100 * MIB, 8).unwrap();
        let sizes: Vec<_> =
            std::iter::from_fn(|| pop(&queue)).map(|range| range.end - range.start).collect();
        assert_eq!(sizes[..4], [4 << 10, 16 << 10, 64 << 10, 256 << 10]);
        assert_eq!(sizes[4..6], [MIB, MIB]);
        assert_eq!(sizes.last(), Some(&8));
        assert_eq!(sizes.iter().sum::<u64>(), 3 * MIB + 8);
    }

    #[test]
    fn a_full_queue_refuses_until_the_writer_is_done() {
        let queue = queue(2 * MIB);
        for at in 0..2 {
            write(&queue, at * MIB, SEGMENT_BYTES).unwrap();
        }
        assert_eq!(write(&queue, 2 * MIB, SEGMENT_BYTES), Err(Room::Full));
        let Next::Job(job) = queue.pop(None) else { panic!("no job") };
        assert_eq!(write(&queue, 2 * MIB, SEGMENT_BYTES), Err(Room::Full), "it is being written");
        queue.done(job);
        assert_eq!(write(&queue, 2 * MIB, SEGMENT_BYTES), Ok(()));
    }

    #[test]
    fn commands_without_content_are_bounded_too() {
        let queue = queue(MIB);
        let mut count = 0;
        while queue.charge_command() == Room::Granted {
            queue.push_command(Job::Flush { sequence: 1 });
            count += 1;
        }
        assert_eq!(count, MIB / COMMAND_BYTES);
    }

    #[test]
    fn many_streams_share_the_total() {
        let queues = Queues::new(32 * MIB, 64 * MIB);
        let open: Vec<_> = (0..4).map(|_| Queue::new(Arc::clone(&queues))).collect();
        assert_eq!(queues.limit_bytes(), 16 * MIB);
        drop(open);
        assert_eq!(queues.limit_bytes(), 32 * MIB);
        let open: Vec<_> = (0..200).map(|_| Queue::new(Arc::clone(&queues))).collect();
        assert_eq!(queues.limit_bytes(), MIB);
        drop(open);
    }

    #[test]
    fn an_abort_drops_what_is_queued_and_an_end_does_not() {
        let queue = queue(8 * MIB);
        write(&queue, 0, 8).unwrap();
        queue.end(End::ClientGone);
        assert_eq!(write(&queue, 0, 8), Err(Room::Closed));
        assert!(matches!(queue.pop(None), Next::Job(_)));
        assert!(matches!(queue.pop(None), Next::End(End::ClientGone)));

        let queue = self::queue(8 * MIB);
        write(&queue, 0, 8).unwrap();
        queue.end(End::Aborted(2));
        assert!(matches!(queue.pop(None), Next::End(End::Aborted(2))));
    }
}
