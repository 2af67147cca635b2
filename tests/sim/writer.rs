//! The writer thread's loop: `writer/run.rs` of the daemon, branch by branch, in virtual time.

use std::ops::Range;
use std::time::Duration;

use freemkvd::budget::{Hold, Reserve};
use freemkvd::stream::drain::{self, Pressure};

use crate::file::{File, LONG_CALL};
use crate::queue::{End, Job, Next, Receiver};
use crate::waits::Waiting;
use crate::world::Task;

/// As in the daemon, but for the poll, which here is only to find what should not need one.
const ABORT_POLL: Duration = Duration::from_secs(1);
const TURN_PATIENCE: Duration = Duration::from_millis(3);
const GATHER_BYTES: u64 = CLIENT_BYTES / 4;
const GATHER_TIME: Duration = Duration::from_millis(500);
const SLOT_BYTES: u64 = 1 << 20;

/// All slots of a client.
const CLIENT_BYTES: u64 = 56 << 20;

/// The muxer has given up.
struct Aborted;

/// See the module's documentation.
pub struct Writer {
    pub task: Task,
    pub file: File,
    pub queue: Receiver,
    pub device: usize,
    pub last_write: Duration,
}

impl Writer {
    /// The life of the thread, after it has opened its file.
    pub async fn live(mut self) {
        let is_finished = self.serve().await.is_ok_and(|is_finished| is_finished);
        self.file.account.cancel();
        if !is_finished {
            // Also after an abort: what is charged is given back when it is clean.
            self.file.sync().await;
        }
        self.file.account.leave();
        self.file.end_of_life();
        self.queue.close();
        let mut world = self.task.world();
        world.writers -= 1;
        world.log(format_args!("{}: ended", self.file.account.stream));
    }

    /// True when the file is complete, and synced.
    async fn serve(&mut self) -> Result<bool, Aborted> {
        loop {
            if self.file.account.takes_turns() {
                match self.file.account.is_active() {
                    false => self.queue.gather(GATHER_BYTES, GATHER_TIME).await,
                    true if self.is_silent(TURN_PATIENCE) => self.give_up_turn().await,
                    true => {}
                }
            }
            match self.queue.pop(self.patience()).await {
                Next::Job(job) => {
                    self.execute(&job).await?;
                    self.queue.done(&job);
                    let is_finished = job == Job::Finish;
                    while !is_finished && self.file.step(Pressure::Flowing).await {}
                    if matches!(job, Job::Write(_)) {
                        self.last_write = self.task.now();
                    }
                    if is_finished {
                        return Ok(true);
                    }
                }
                Next::Idle => self.pause().await,
                Next::End(End::Aborted) => return Err(Aborted),
                Next::End(End::ClientGone) => return Ok(false),
            }
        }
    }

    fn patience(&self) -> Option<Duration> {
        if !self.file.account.is_active() {
            return None;
        }
        if self.file.account.takes_turns() {
            return Some(TURN_PATIENCE);
        }
        Some(drain::LOOK)
    }

    async fn pause(&mut self) {
        if !self.is_silent(drain::AGE) && !self.file.account.takes_turns() {
            while self.file.step(Pressure::Flowing).await {}
            return;
        }
        self.give_up_turn().await;
    }

    fn is_silent(&self, time: Duration) -> bool {
        self.task.now().saturating_sub(self.last_write) >= time
    }

    async fn give_up_turn(&mut self) {
        while self.file.step(Pressure::Idle).await {}
        assert_eq!(self.file.charged_bytes(), 0, "an idle stream has drained");
        self.file.account.rest();
    }

    async fn execute(&mut self, job: &Job) -> Result<(), Aborted> {
        match job {
            Job::Write(range) => {
                let mut at = range.start;
                while at < range.end {
                    while at > range.start && self.file.step(Pressure::Flowing).await {}
                    let end = range.end.min((at / SLOT_BYTES + 1) * SLOT_BYTES);
                    self.write(&(at..end)).await?;
                    at = end;
                }
            }
            Job::SetLen(len) => self.file.set_len(*len),
            Job::Sync | Job::Finish => self.file.sync().await,
        }
        Ok(())
    }

    async fn write(&mut self, range: &Range<u64>) -> Result<(), Aborted> {
        let end_before = self.file.end();
        for (part, way) in self.file.ways(range) {
            self.reserve(self.file.page_bytes_of(&part), part.start).await?;
            self.file.write(&part, way).await;
        }
        self.file.wrote(range, end_before);
        Ok(())
    }

    async fn reserve(&mut self, need_bytes: u64, offset: u64) -> Result<(), Aborted> {
        let want_bytes = need_bytes + self.queue.queued_bytes();
        let stream = self.file.account.stream;
        let mut waiting: Option<Waiting> = None;
        while let Reserve::Throttled(hold) =
            self.file.account.reserve(need_bytes, want_bytes, offset)
        {
            if self.queue.is_aborted() {
                return Err(Aborted);
            }
            let now = self.task.now();
            let since =
                waiting.get_or_insert_with(|| Waiting::begin(&self.task, self.device, stream));
            since.for_pool |= hold == Hold::Total;
            let pressure = match self.file.account.waits_for_itself(hold) {
                true => Pressure::Held,
                false => Pressure::Throttled,
            };
            if !self.file.step(pressure).await {
                self.file.account.wait(ABORT_POLL).await;
            } else if self.task.now() - now >= LONG_CALL {
                // It waited for an extent of its own; meanwhile others may have had its turn.
                waiting = None;
            }
        }
        if let Some(waiting) = waiting {
            waiting.end(&self.task, need_bytes);
        }
        Ok(())
    }
}
