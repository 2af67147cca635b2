//! Virtual time, and the tasks that live in it.
//!
//! A task is an `async` block: writers, muxers and devices read like the threads that they stand for,
//! and each place where a thread would wait is an `await`. One task runs at a time; the next event is
//! the earliest, of equal ones the first that was set. So a seed gives the same run on every machine.

use std::cell::{RefCell, RefMut};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt::Display;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use freemkvd::budget::{DeviceId, StreamId};

use crate::books::Books;
use crate::device::Device;
use crate::queue::Queue;
use crate::random::Random;
use crate::rates::Compared;
use crate::waits::{Longest, Moment};

/// A task's number.
pub type TaskId = usize;

/// Longest time from the moment a thread is woken until it runs: what a busy host needs.
const WAKE_MICROS_MAX: u64 = 200;

/// Everything that tasks share.
pub struct World {
    pub now: Duration,
    pub books: Books,
    pub devices: Vec<Device>,
    pub queues: Vec<Queue>,
    /// Whom to wake for each stream, and its device.
    pub bells: BTreeMap<StreamId, (TaskId, DeviceId)>,
    /// When each stream was last granted something in line.
    pub granted: BTreeMap<StreamId, Moment>,
    /// Events so far.
    pub steps: u64,
    /// Writers that have not ended.
    pub writers: usize,
    pub longest: Longest,
    pub rates: Vec<Compared>,
    pub is_verbose: bool,
    tasks: Vec<TaskState>,
    events: BinaryHeap<Reverse<Event>>,
    sequence: u64,
}

/// When, the how-manieth, whose, of which of its waits, and whether somebody rang.
type Event = (Duration, u64, TaskId, u64, bool);

struct TaskState {
    /// Counts its waits; an event of an earlier one is stale.
    wait: u64,
    is_waiting: bool,
    was_rung: bool,
    random: Random,
}

impl World {
    /// Wakes a task that waits, a moment later.
    pub fn ring(&mut self, task: impl Into<Option<TaskId>>) {
        let Some(task) = task.into() else { return };
        let state = &mut self.tasks[task];
        if state.is_waiting {
            let delay = Duration::from_micros(state.random.below(WAKE_MICROS_MAX));
            let (at, wait) = (self.now + delay, state.wait);
            self.schedule(at, task, wait, true);
        }
    }

    fn schedule(&mut self, at: Duration, task: TaskId, wait: u64, is_ring: bool) {
        self.sequence += 1;
        self.events.push(Reverse((at, self.sequence, task, wait, is_ring)));
    }

    /// A line for whoever replays a seed.
    pub fn log(&self, what: impl Display) {
        if self.is_verbose {
            eprintln!("{:12.6} {what}", self.now.as_secs_f64());
        }
    }
}

/// A handle to the world.
#[derive(Clone)]
pub struct Sim(Rc<RefCell<World>>);

impl Sim {
    pub fn world(&self) -> RefMut<'_, World> {
        self.0.borrow_mut()
    }

    pub fn now(&self) -> Duration {
        self.0.borrow().now
    }
}

/// A task's own handle.
#[derive(Clone)]
pub struct Task {
    pub sim: Sim,
    pub id: TaskId,
}

impl Task {
    pub fn world(&self) -> RefMut<'_, World> {
        self.sim.world()
    }

    pub fn now(&self) -> Duration {
        self.sim.now()
    }

    /// Waits until somebody rings, at most for `patience`. True when somebody did.
    pub async fn wait(&self, patience: Option<Duration>) -> bool {
        {
            let mut world = self.world();
            let state = &mut world.tasks[self.id];
            state.wait += 1;
            state.is_waiting = true;
            let wait = state.wait;
            if let Some(patience) = patience {
                let at = world.now + patience;
                world.schedule(at, self.id, wait, false);
            }
        }
        Suspended(false).await;
        self.world().tasks[self.id].was_rung
    }

    pub async fn sleep(&self, time: Duration) {
        let until = self.now() + time;
        self.sleep_until(until).await;
    }

    pub async fn sleep_until(&self, until: Duration) {
        while self.now() < until {
            let left = until - self.now();
            self.wait(Some(left)).await;
        }
    }
}

/// Gives the executor a chance; it polls again when the task's wait is over.
struct Suspended(bool);

impl Future for Suspended {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        match std::mem::replace(&mut self.0, true) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

/// A world and its tasks.
pub struct Run {
    pub sim: Sim,
    seed: u64,
    futures: Vec<Option<Pin<Box<dyn Future<Output = ()>>>>>,
}

impl Run {
    pub fn new(seed: u64, limit_bytes: u64, is_verbose: bool) -> Self {
        let world = World {
            now: Duration::ZERO,
            books: Books::new(limit_bytes),
            devices: Vec::new(),
            queues: Vec::new(),
            bells: BTreeMap::new(),
            granted: BTreeMap::new(),
            steps: 0,
            writers: 0,
            longest: Longest::default(),
            rates: Vec::new(),
            is_verbose,
            tasks: Vec::new(),
            events: BinaryHeap::new(),
            sequence: 0,
        };
        Self { sim: Sim(Rc::new(RefCell::new(world))), seed, futures: Vec::new() }
    }

    /// Starts a task at time zero. Returns its number.
    pub fn spawn<F: Future<Output = ()> + 'static>(
        &mut self,
        make: impl FnOnce(Task) -> F,
    ) -> TaskId {
        let id = self.futures.len();
        let random = Random::new(self.seed, 1000 + id as u64);
        {
            let mut world = self.sim.world();
            let state = TaskState { wait: 0, is_waiting: true, was_rung: false, random };
            world.tasks.push(state);
            world.schedule(Duration::ZERO, id, 0, false);
        }
        let task = Task { sim: self.sim.clone(), id };
        self.futures.push(Some(Box::pin(make(task))));
        id
    }

    /// Runs until all writers have ended, or until `end`; false when writers are left then.
    pub fn until(&mut self, end: Duration) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        loop {
            let task = {
                let mut world = self.sim.world();
                if world.writers == 0 {
                    return true;
                }
                let Some(Reverse((at, _, task, wait, is_ring))) = world.events.pop() else {
                    panic!("everybody waits, and nobody will wake them");
                };
                if at > end {
                    world.schedule(at, task, wait, is_ring);
                    return false;
                }
                let state = &mut world.tasks[task];
                if !state.is_waiting || state.wait != wait {
                    continue;
                }
                (state.is_waiting, state.was_rung) = (false, is_ring);
                world.now = at;
                world.steps += 1;
                task
            };
            if let Some(future) = &mut self.futures[task] {
                if future.as_mut().poll(&mut context).is_ready() {
                    self.futures[task] = None;
                }
            }
        }
    }
}
