//! The charges of one stream: `writer/gate.rs` of the daemon, line by line, in virtual time.

use std::time::Duration;

use freemkvd::budget::{Ask, Budget, Completion, DeviceId, Hold, Reserve, StreamId};

use crate::books::By;
use crate::world::{Task, World};

/// See the module's documentation.
pub struct Account {
    task: Task,
    pub stream: StreamId,
    held_bytes: u64,
    spare_bytes: u64,
    is_active: bool,
    extent_bytes: u64,
    /// It waited in vain, and nothing has happened since that could have freed anything.
    waited_in_vain: bool,
}

impl Account {
    pub fn join(task: Task, stream: StreamId, device: DeviceId, seeks: bool, weight: u32) -> Self {
        let extent_bytes = {
            let mut world = task.world();
            let now = world.now;
            world.bells.insert(stream, (task.id, device));
            world.books.join(stream, device, seeks, weight, now);
            world.books.budget.next_extent_bytes(stream)
        };
        Self {
            task,
            stream,
            held_bytes: 0,
            spare_bytes: 0,
            is_active: false,
            extent_bytes,
            waited_in_vain: false,
        }
    }

    fn released(&self, released_bytes: u64) -> By {
        By::Stream { stream: self.stream, released_bytes, need_bytes: None }
    }

    pub fn reserve(&mut self, need_bytes: u64, want_bytes: u64, offset: u64) -> Reserve {
        if need_bytes <= self.spare_bytes {
            return Reserve::Granted(self.spare_bytes);
        }
        let spare_bytes = std::mem::take(&mut self.spare_bytes);
        self.held_bytes -= spare_bytes;
        let want_bytes = want_bytes.min(self.extent_bytes).max(need_bytes);
        let stream = self.stream;
        let had_grant = self.has_grant();
        let need_bytes_waiting = (!had_grant).then_some(need_bytes);
        let by = By::Stream { stream, released_bytes: spare_bytes, need_bytes: need_bytes_waiting };
        let reserve = self.task.world().change(by, |budget, now| {
            if spare_bytes > 0 {
                budget.give_back(stream, spare_bytes, now);
            }
            budget.reserve(stream, Ask { need_bytes, want_bytes, offset }, now)
        });
        if let Reserve::Granted(bytes) = reserve {
            assert!(
                had_grant || !self.waited_in_vain || spare_bytes > 0,
                "{stream} was granted {bytes} only because it asked again"
            );
            self.held_bytes += bytes;
            self.spare_bytes = bytes;
            self.is_active = true;
        }
        self.waited_in_vain = false;
        reserve
    }

    pub fn spend(&mut self, bytes: u64) {
        self.spare_bytes = self.spare_bytes.checked_sub(bytes).expect("charged before it is dirty");
    }

    pub async fn wait(&mut self, patience: Duration) {
        if !self.has_grant() {
            self.task.wait(Some(patience)).await;
            self.waited_in_vain = !self.has_grant();
        }
    }

    fn has_grant(&self) -> bool {
        self.task.world().books.budget.has_grant(self.stream)
    }

    pub fn complete(&mut self, completion: Completion) {
        self.waited_in_vain = false;
        self.held_bytes -= completion.bytes;
        let stream = self.stream;
        self.extent_bytes =
            self.task.world().change(self.released(completion.bytes), |budget, now| {
                budget.complete(stream, completion, now);
                budget.next_extent_bytes(stream)
            });
    }

    pub fn answers(&mut self) {
        self.waited_in_vain = false;
        let stream = self.stream;
        self.task.world().change(self.released(0), |budget, now| budget.answers(stream, now));
    }

    pub fn cancel(&mut self) {
        let stream = self.stream;
        let by = By::Cancel { stream, released_bytes: 0 };
        self.task.world().change(by, |budget, now| budget.cancel(stream, now));
    }

    pub fn waits_for_itself(&self, hold: Hold) -> bool {
        self.task.world().books.budget.waits_for_itself(self.stream, hold)
    }

    pub fn is_active(&self) -> bool {
        self.is_active
    }

    pub fn rest(&mut self) {
        self.is_active = false;
        self.waited_in_vain = false;
        let released_bytes = std::mem::take(&mut self.spare_bytes);
        self.held_bytes -= released_bytes;
        let stream = self.stream;
        self.task.world().change(By::Cancel { stream, released_bytes }, |budget, now| {
            budget.cancel(stream, now);
            budget.release(stream, released_bytes, now);
            budget.rest(stream, now);
        });
    }

    /// What the daemon does when it drops an account.
    pub fn leave(&mut self) {
        let (stream, released_bytes) = (self.stream, std::mem::take(&mut self.held_bytes));
        self.spare_bytes = 0;
        let mut world = self.task.world();
        world.change(By::Cancel { stream, released_bytes }, |budget, now| {
            budget.cancel(stream, now);
            budget.release(stream, released_bytes, now);
        });
        let now = world.now;
        world.books.leave(stream, now);
        world.ring_woken();
        world.bells.remove(&stream);
    }

    pub fn extent_bytes(&self) -> u64 {
        self.extent_bytes
    }

    pub fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    pub fn takes_turns(&self) -> bool {
        self.task.world().books.budget.takes_turns(self.stream)
    }

    /// What the account has is what is charged: spare, or for an extent.
    pub fn check(&self, extents_bytes: u64) {
        assert_eq!(self.held_bytes, self.spare_bytes + extents_bytes, "charged for nothing");
        let budget = &self.task.world().books.budget;
        let charged_bytes = budget.charged_bytes_of(self.stream);
        assert!(
            charged_bytes == self.held_bytes || budget.has_grant(self.stream),
            "{charged_bytes} charged, {} held",
            self.held_bytes
        );
    }
}

impl World {
    /// Changes the budget and rings those who got something by it.
    pub fn change<T>(&mut self, by: By, change: impl FnOnce(&mut Budget, Duration) -> T) -> T {
        let now = self.now;
        let result = self.books.change(by, |budget| change(budget, now));
        self.ring_woken();
        result
    }

    fn ring_woken(&mut self) {
        for stream in self.books.take_woken() {
            if let Some((task, device)) = self.bells.get(&stream).copied() {
                let moment = self.moment(usize::try_from(device).expect("few devices"));
                self.granted.insert(stream, moment);
                self.ring(task);
            }
        }
    }
}
