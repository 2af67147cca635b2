//! A backing store: a queue of requests, served one after the other by a [`Model`], and what its file
//! system does with the verbs of writeback.
//!
//! Faults: while it is `sick` nothing completes, and a queue that is full blocks who submits; when it is
//! `frozen` too, writes into the page cache block as well, as on a frozen file system or a dead mount.
//! It heals, and goes on where it was. It never loses or refuses a byte: errors are not simulated.

mod constant;
mod disk;
mod flash;
mod nfs;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

pub use constant::Constant;
pub use disk::Disk;
pub use flash::Flash;
pub use nfs::Nfs;

use freemkvd::stream::ladder::{Ground, Rung};

use crate::kernel::Cache;
use crate::world::{Task, TaskId};

/// How long a device takes.
pub trait Model {
    /// To write `range` of file number `file`, which begins now.
    fn write(&mut self, file: u64, range: &Range<u64>, now: Duration) -> Duration;

    /// To make what was written durable, or to read a page.
    fn commit(&mut self, now: Duration) -> Duration;
}

/// What its file system does.
#[derive(Clone, Copy, Debug)]
pub struct FileSystem {
    pub ground: Ground,
    pub pinned: Option<Rung>,
    /// `RWF_DONTCACHE` is refused, whatever the ground says.
    pub refuses_uncached: bool,
    /// Starting and waiting by range return at once and do nothing.
    pub ignores_ranges: bool,
    pub sight: Sight,
}

/// What the kernel counts here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    Exact,
    /// Always nothing.
    Blind,
    /// It has no such call.
    Missing,
}

/// A time in which nothing completes.
#[derive(Clone, Copy, Debug)]
pub struct Sickness {
    pub from: Duration,
    pub until: Duration,
    pub is_frozen: bool,
}

/// A piece of a file in writeback.
pub struct Request {
    pub file: u64,
    pub range: Range<u64>,
    pub number: u64,
    pub cache: Rc<RefCell<Cache>>,
}

/// See the module's documentation.
pub struct Device {
    pub model: Box<dyn Model>,
    pub file_system: FileSystem,
    /// What the budget is told.
    pub seeks: bool,
    pub sickness: Vec<Sickness>,
    queue: VecDeque<Request>,
    pub queued_bytes: u64,
    /// More than this is not submitted.
    pub queue_bytes_max: u64,
    /// Who waits for room in it.
    room: VecDeque<TaskId>,
    requests: u64,
    waiting: Vec<TaskId>,
    pub written_bytes: u64,
    pub busy: Duration,
    /// Calls and requests that are under way, and for how long there were none.
    active: usize,
    idle: Duration,
    idle_since: Duration,
    task: Option<TaskId>,
}

impl Device {
    pub fn new(model: Box<dyn Model>, file_system: FileSystem, seeks: bool) -> Self {
        Self {
            model,
            file_system,
            seeks,
            sickness: Vec::new(),
            queue: VecDeque::new(),
            queued_bytes: 0,
            queue_bytes_max: 64 << 20,
            room: VecDeque::new(),
            requests: 0,
            waiting: Vec::new(),
            written_bytes: 0,
            busy: Duration::ZERO,
            active: 0,
            idle: Duration::ZERO,
            idle_since: Duration::ZERO,
            task: None,
        }
    }

    /// Until when it does not answer, if it does not now.
    pub fn sick_until(&self, now: Duration) -> Option<Sickness> {
        self.sickness.iter().find(|sick| sick.from <= now && now < sick.until).copied()
    }

    /// True when it did not answer at some time between these.
    pub fn was_sick(&self, from: Duration, until: Duration) -> bool {
        self.sickness.iter().any(|sick| sick.from < until && from <= sick.until)
    }

    /// Room for a request, first come, first served; false puts `task` in line.
    pub fn take_room(&mut self, task: TaskId, bytes: u64) -> bool {
        let is_next = self.room.front().is_none_or(|first| *first == task);
        let fits = self.queued_bytes == 0 || self.queued_bytes + bytes <= self.queue_bytes_max;
        if is_next && fits {
            self.room.pop_front();
        } else if !self.room.contains(&task) {
            self.room.push_back(task);
        }
        is_next && fits
    }

    /// Who is to look for room.
    pub fn next_for_room(&self) -> Option<TaskId> {
        self.room.front().copied()
    }

    pub fn next_number(&mut self) -> u64 {
        self.requests += 1;
        self.requests
    }

    /// A call or a request begins.
    pub fn begin(&mut self, now: Duration) {
        if self.active == 0 {
            self.idle += now - self.idle_since;
        }
        self.active += 1;
    }

    /// It has ended.
    pub fn end(&mut self, now: Duration) {
        self.active -= 1;
        if self.active == 0 {
            self.idle_since = now;
        }
    }

    /// For how long nobody has wanted anything of it.
    pub fn idle(&self, now: Duration) -> Duration {
        let recent = if self.active == 0 { now - self.idle_since } else { Duration::ZERO };
        self.idle + recent
    }

    /// Queues a request. Returns the task to ring.
    pub fn push(&mut self, request: Request, now: Duration) -> Option<TaskId> {
        self.begin(now);
        self.queued_bytes += request.range.end - request.range.start;
        self.queue.push_back(request);
        self.task
    }

    /// Rings `task` after the next completion.
    pub fn tell(&mut self, task: TaskId) {
        self.waiting.push(task);
    }
}

/// Serves the requests of device number `at`.
pub async fn serve(task: Task, at: usize) {
    task.world().devices[at].task = Some(task.id);
    loop {
        let service = {
            let mut world = task.world();
            let now = world.now;
            let device = &mut world.devices[at];
            device.queue.front().map(|request| {
                let time = device.model.write(request.file, &request.range, now);
                device.busy += time;
                time
            })
        };
        let Some(service) = service else {
            task.wait(None).await;
            continue;
        };
        healthy(&task, at).await;
        task.sleep(service).await;
        healthy(&task, at).await;
        complete(&task, at);
    }
}

/// Waits until the device answers.
pub async fn healthy(task: &Task, at: usize) {
    loop {
        let sick = {
            let world = task.world();
            world.devices[at].sick_until(world.now)
        };
        match sick {
            Some(sick) => task.sleep_until(sick.until).await,
            None => return,
        }
    }
}

fn complete(task: &Task, at: usize) {
    let mut world = task.world();
    let now = world.now;
    let device = &mut world.devices[at];
    device.end(now);
    let request = device.queue.pop_front().expect("nobody else takes requests");
    let bytes = request.range.end - request.range.start;
    device.queued_bytes -= bytes;
    device.written_bytes += bytes;
    request.cache.borrow_mut().complete(request.number);
    for waiting in std::mem::take(&mut world.devices[at].waiting) {
        world.ring(waiting);
    }
    let next = world.devices[at].next_for_room();
    world.ring(next);
}

/// Bytes at so many of them in a second.
pub fn time_of(bytes: u64, bytes_per_second: u64) -> Duration {
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(bytes_per_second.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// How long a model needs for a MiB on average: what a test compares an estimate with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Truth {
    pub bytes: u64,
    pub busy: Duration,
}

impl Truth {
    pub fn of(device: &Device) -> Self {
        Self { bytes: device.written_bytes, busy: device.busy }
    }

    /// Bytes per second since `before`, while busy; `None` when it was hardly so.
    pub fn rate_since(&self, before: Self) -> Option<f64> {
        let busy = (self.busy - before.busy).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let bytes = (self.bytes - before.bytes) as f64;
        (busy >= 0.2).then(|| bytes / busy)
    }
}
