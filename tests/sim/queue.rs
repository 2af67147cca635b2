//! The queue of one stream, as its writer sees it: what the muxer's client has handed over and the
//! writer has not written. Bounded by the client's slots.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use crate::world::{Task, TaskId};

/// What a client has on its way at most: 56 slots of 1 MiB, of which 24 are its patch window.
pub const QUEUE_BYTES_MAX: u64 = 32 << 20;

/// One thing for the writer to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    Write(Range<u64>),
    SetLen(u64),
    Sync,
    Finish,
}

/// Why no more jobs will come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Aborted,
    ClientGone,
}

/// What the writer finds.
#[derive(Debug)]
pub enum Next {
    Job(Job),
    Idle,
    End(End),
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Queue {
    jobs: VecDeque<(Job, Duration)>,
    /// Of the jobs that are queued.
    pub queued_bytes: u64,
    /// The same, and of the job in the writer's hands.
    held_bytes: u64,
    /// Queued jobs that are not content.
    others: usize,
    /// The muxer waits for room.
    refused: bool,
    pub end: Option<End>,
    /// Jobs done.
    pub done: u64,
    /// Content of jobs done.
    pub written_bytes: u64,
    pushed: u64,
    writer: Option<TaskId>,
    muxer: Option<TaskId>,
    /// Longest time that the muxer has waited for room.
    pub waited_max: Duration,
}

fn len(job: &Job) -> u64 {
    match job {
        Job::Write(range) => range.end - range.start,
        _ => 0,
    }
}

/// The muxer's end of it.
pub struct Sender {
    pub task: Task,
    pub queue: usize,
}

impl Sender {
    /// Hands over a job; waits while there is no room for it.
    pub async fn push(&self, job: Job) {
        let begun = self.task.now();
        while !self.try_push(&job, begun) {
            self.task.wait(None).await;
        }
    }

    /// False while there is no room.
    fn try_push(&self, job: &Job, begun: Duration) -> bool {
        let mut world = self.task.world();
        let now = world.now;
        let queue = &mut world.queues[self.queue];
        queue.muxer = Some(self.task.id);
        if queue.end.is_some() {
            return true;
        }
        let fits = queue.held_bytes == 0 || queue.held_bytes + len(job) <= QUEUE_BYTES_MAX;
        if fits {
            queue.held_bytes += len(job);
            queue.queued_bytes += len(job);
            queue.others += usize::from(!matches!(job, Job::Write(_)));
            queue.pushed += 1;
            queue.waited_max = queue.waited_max.max(now - begun);
            queue.jobs.push_back((job.clone(), now));
        }
        queue.refused = !fits;
        let writer = queue.writer;
        world.ring(writer);
        fits
    }

    /// Waits until everything that was handed over is done.
    pub async fn settle(&self) {
        loop {
            {
                let mut world = self.task.world();
                let queue = &mut world.queues[self.queue];
                queue.muxer = Some(self.task.id);
                if queue.done == queue.pushed || queue.end.is_some() {
                    return;
                }
            }
            self.task.wait(None).await;
        }
    }

    /// No more will come.
    pub fn end(&self, end: End) {
        let mut world = self.task.world();
        let queue = &mut world.queues[self.queue];
        if end == End::Aborted {
            queue.jobs.clear();
            (queue.queued_bytes, queue.others) = (0, 0);
        }
        queue.end.get_or_insert(end);
        let writer = queue.writer;
        world.ring(writer);
    }
}

/// The writer's end of it.
pub struct Receiver {
    pub task: Task,
    pub queue: usize,
}

impl Receiver {
    pub fn new(task: Task, queue: usize) -> Self {
        task.world().queues[queue].writer = Some(task.id);
        Self { task, queue }
    }

    pub fn queued_bytes(&self) -> u64 {
        self.task.world().queues[self.queue].queued_bytes
    }

    pub fn is_aborted(&self) -> bool {
        self.task.world().queues[self.queue].end == Some(End::Aborted)
    }

    /// `Queue::pop` of the daemon.
    pub async fn pop(&self, patience: Option<Duration>) -> Next {
        let until = patience.map(|patience| self.task.now() + patience);
        loop {
            let left = {
                let mut world = self.task.world();
                let now = world.now;
                let queue = &mut world.queues[self.queue];
                if let Some((job, _)) = queue.jobs.pop_front() {
                    queue.queued_bytes -= len(&job);
                    queue.others -= usize::from(!matches!(job, Job::Write(_)));
                    return Next::Job(job);
                }
                if let Some(end) = queue.end {
                    return Next::End(end);
                }
                until.map(|until| until.saturating_sub(now))
            };
            if left == Some(Duration::ZERO) {
                return Next::Idle;
            }
            self.task.wait(left).await;
        }
    }

    /// `Queue::gather` of the daemon.
    pub async fn gather(&self, bytes: u64, patience: Duration) {
        loop {
            let left = {
                let world = self.task.world();
                let queue = &world.queues[self.queue];
                let urgent = queue.others > 0 || queue.refused || queue.end.is_some();
                let since = queue.jobs.front().map(|(_, since)| *since);
                let left = since.map(|since| patience.saturating_sub(world.now - since));
                if urgent || queue.queued_bytes >= bytes || left == Some(Duration::ZERO) {
                    return;
                }
                left
            };
            self.task.wait(left).await;
        }
    }

    /// `Queue::done` of the daemon.
    pub fn done(&self, job: &Job) {
        let mut world = self.task.world();
        let queue = &mut world.queues[self.queue];
        queue.held_bytes -= len(job);
        queue.refused = false;
        queue.done += 1;
        queue.written_bytes += len(job);
        let muxer = queue.muxer;
        world.ring(muxer);
    }

    /// The writer has ended: whoever waits need not.
    pub fn close(&self) {
        let mut world = self.task.world();
        let queue = &mut world.queues[self.queue];
        queue.end.get_or_insert(End::ClientGone);
        let muxer = queue.muxer;
        world.ring(muxer);
    }
}
