//! What is between those who have something to tell and the program: a queue, and a thread that runs the program once
//! for each event in it.
//!
//! 1. Who tells something waits for nobody. The lock is held to put an event in or to take one out, never while the
//!    program runs.
//! 2. The queue is bounded. What does not fit is left out, and how much that was is said when the program has ended.
//! 3. The thread is there from the first event on: who has no hook has no thread for it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tracing::{debug, info, warn};

use super::Program;
use super::event::Event;
use super::failure::Failure;
use super::run;
use crate::config::Span;
use crate::log::event;
use crate::user::UserId;

/// Most events that wait: more than the streams of a host that lose a disk together.
const WAITING_MAX: usize = 64;

/// How long what runs may go on when the daemon ends, and how long the daemon waits for the end of that.
const LAST_RUN: Duration = Duration::from_millis(500);
const LAST_WAIT: Duration = Duration::from_secs(1);

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: VecDeque<Job>,
    left_out: u64,
    has_thread: bool,
    is_running: bool,
    /// The daemon ends, and with it what runs then.
    ends_at: Option<Instant>,
}

/// An event, and what is run for it.
#[derive(Debug)]
struct Job {
    event: Event,
    program: Program,
    timeout: Duration,
}

impl Inner {
    /// Whether one more of `user` may wait. Who has most of the queue gives way to those who have less: streams that fail
    /// on purpose are not to hide those of others.
    fn has_room_for(&mut self, user: Option<UserId>) -> bool {
        if self.waiting.len() < WAITING_MAX {
            return true;
        }
        let mut counts = BTreeMap::<_, usize>::new();
        self.waiting.iter().for_each(|job| *counts.entry(job.event.user).or_default() += 1);
        let own = counts.get(&user).copied().unwrap_or(0);
        let most = counts.into_iter().max_by_key(|(_, count)| *count);
        let Some((greedy, _)) = most.filter(|(_, count)| *count > own + 1) else { return false };
        let last = self.waiting.iter().rposition(|job| job.event.user == greedy);
        self.left_out += u64::from(last.and_then(|last| self.waiting.remove(last)).is_some());
        true
    }
}

impl Queue {
    /// Has `program` run for `event`, as soon as it is its turn.
    pub(super) fn put(self: &Arc<Self>, event: Event, program: Program, timeout: Duration) {
        let mut inner = self.lock();
        if inner.ends_at.is_some() || !inner.has_room_for(event.user) {
            inner.left_out += 1;
            return;
        }
        if !inner.has_thread {
            let queue = Arc::clone(self);
            let thread = thread::Builder::new().name("hook".to_owned());
            if let Err(error) = thread.spawn(move || queue.serve()) {
                let (name, stream) = (event.kind.name(), event.stream);
                warn!(
                    event = event::HOOK_FAILED,
                    stream,
                    "there is no thread to run the hook for {name} of stream {stream}: {error}"
                );
                return;
            }
            inner.has_thread = true;
        }
        inner.waiting.push_back(Job { event, program, timeout });
        drop(inner);
        self.changed.notify_all();
    }

    /// Returns when nothing runs any more, or it was waited for that long enough.
    pub(super) fn finish(&self) {
        let now = Instant::now();
        let mut inner = self.lock();
        inner.ends_at = Some(now + LAST_RUN);
        while inner.is_running || (inner.has_thread && !inner.waiting.is_empty()) {
            let left = (now + LAST_WAIT).saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.changed.wait_timeout(inner, left);
            (inner, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        let left_out = inner.left_out + inner.waiting.len() as u64;
        drop(inner);
        if left_out > 0 {
            tell_left_out(left_out, "the daemon ends");
        }
    }

    fn serve(&self) {
        loop {
            let job = self.next();
            self.run(&job);
            let mut inner = self.lock();
            inner.is_running = false;
            let is_ending = inner.ends_at.is_some();
            let left_out = if is_ending { 0 } else { std::mem::take(&mut inner.left_out) };
            drop(inner);
            self.changed.notify_all();
            if left_out > 0 {
                let why = "it takes longer than they come; see hook.timeout";
                tell_left_out(left_out, why);
            }
        }
    }

    /// The next one that is run. None is begun when the daemon has given up what runs.
    fn next(&self) -> Job {
        let mut inner = self.lock();
        loop {
            let is_over = inner.ends_at.is_some_and(|end| Instant::now() >= end);
            match inner.waiting.pop_front() {
                Some(_) if is_over => inner.left_out += 1,
                Some(job) => {
                    inner.is_running = true;
                    return job;
                }
                None => {
                    self.changed.notify_all();
                    inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    fn run(&self, Job { event, program, timeout }: &Job) {
        let (name, stream) = (event.kind.name(), event.stream);
        let begun = Instant::now();
        let ends_at = || self.lock().ends_at;
        let mut has_said = false;
        let mut say = |line: &str| {
            has_said = true;
            info!(event = event::HOOK_OUTPUT, stream, "the hook says for {name}: {line}");
        };
        let result = run::run(program, &event.variables, *timeout, &ends_at, &mut say);
        let took = Span::about(begun.elapsed());
        let what = program.path.display();
        let Err(failure) = result else {
            debug!(stream, "the hook has run for {name} of stream {stream}, {took}");
            return;
        };
        let advice = match failure {
            Failure::Start(_) => "the host, or TasksMax= of its unit, has no process left",
            Failure::Status(_) if has_said => "see above for what it says",
            Failure::Status(_) => "run it by hand as the daemon's user",
            Failure::Lost(_) => "start the daemon with the default for SIGCHLD",
            Failure::TooLong(_) => "see what it waits for, or raise hook.timeout",
            Failure::DaemonEnds => "it had not come to its end",
        };
        warn!(
            event = event::HOOK_FAILED,
            stream, "the hook for {name} of stream {stream}, {what}, {failure}; {advice}"
        );
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell_left_out(count: u64, why: &str) {
    warn!(
        event = event::HOOK_FAILED,
        count, "events for which the hook was not run: {count}, as {why}"
    );
}
