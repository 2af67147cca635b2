//! Where writer threads meet the budget: the one shared, mutable object of the data path. The lock is
//! held for arithmetic only, never while anybody waits for a disk.
//!
//! An [`Account`] is what a stream has charged, and gives it back when it is dropped, whatever way the
//! stream ended: its file is closed then, and its pages are the kernel's business.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::budget::{
    Ask, Budget, Completion, DeviceId, DeviceView, Hold, Reserve, State, StreamId,
};
use crate::clock::Clock;

/// The budget, and what wakes those who wait for it.
#[derive(Debug)]
pub struct Gate {
    state: Mutex<Books>,
    clock: Clock,
}

#[derive(Debug)]
struct Books {
    budget: Budget,
    /// Numbers of the devices by their names; as many as the host ever had.
    devices: BTreeMap<String, DeviceId>,
    /// What each stream waits on: its own, or a thousand would wake up for a grant to one.
    bells: BTreeMap<StreamId, Arc<Condvar>>,
}

impl Gate {
    /// A gate before a budget of `limit_bytes`.
    #[must_use]
    pub fn new(limit_bytes: u64, clock: Clock) -> Arc<Self> {
        let books = Books {
            budget: Budget::new(limit_bytes),
            devices: BTreeMap::new(),
            bells: BTreeMap::new(),
        };
        Arc::new(Self { state: Mutex::new(books), clock })
    }

    /// Changes the total, in bytes.
    pub fn set_limit(&self, limit_bytes: u64) {
        self.change(|budget, now| budget.set_limit(limit_bytes, now));
    }

    /// Changes the weight of a stream. False when it has no account.
    pub fn set_weight(&self, stream: StreamId, weight: u32) -> bool {
        self.change(|budget, _| budget.set_weight(stream, weight))
    }

    /// Most bytes that may be charged at once, and those that are.
    #[must_use]
    pub fn limit_and_charged_bytes(&self) -> (u64, u64) {
        let books = self.lock();
        (books.budget.limit_bytes(), books.budget.charged_bytes())
    }

    /// What is to be known of the device of this name, while a stream has an account there.
    #[must_use]
    pub fn device(&self, name: &str) -> Option<DeviceView> {
        let books = self.lock();
        books.budget.device(*books.devices.get(name)?)
    }

    /// Looks at the time. Returns the names of the devices whose state has changed.
    #[must_use]
    pub fn tick(&self) -> Vec<(String, State)> {
        let changed = self.change(Budget::tick);
        let books = self.lock();
        let name = |id| books.devices.iter().find(|(_, known)| **known == id);
        let named = |(id, state)| name(id).map(|(name, _)| (name.clone(), state));
        changed.into_iter().filter_map(named).collect()
    }

    /// An account for a stream on the device of this name, which has to seek or not.
    #[must_use]
    pub fn join(
        self: &Arc<Self>,
        stream: StreamId,
        device: &str,
        seeks: bool,
        weight: u32,
    ) -> Account {
        let bell = Arc::new(Condvar::new());
        let mut books = self.lock();
        let next = DeviceId::try_from(books.devices.len()).unwrap_or(DeviceId::MAX);
        let device = *books.devices.entry(device.to_owned()).or_insert(next);
        books.bells.insert(stream, Arc::clone(&bell));
        books.budget.join(stream, device, seeks, weight, self.clock.now());
        let extent_bytes = books.budget.next_extent_bytes(stream);
        Account {
            gate: Arc::clone(self),
            stream,
            bell,
            held_bytes: 0,
            spare_bytes: 0,
            is_active: false,
            extent_bytes,
        }
    }

    /// Changes the budget and wakes those who got something by it.
    fn change<T>(&self, change: impl FnOnce(&mut Budget, Duration) -> T) -> T {
        let mut books = self.lock();
        let result = change(&mut books.budget, self.clock.now());
        for stream in books.budget.take_woken() {
            if let Some(bell) = books.bells.get(&stream) {
                bell.notify_one();
            }
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The charges of one stream; see the module's documentation.
#[derive(Debug)]
pub struct Account {
    gate: Arc<Gate>,
    stream: StreamId,
    bell: Arc<Condvar>,
    /// Charged in all.
    held_bytes: u64,
    /// Charged, and no page is dirty for it yet.
    spare_bytes: u64,
    /// It was granted something since it last rested: it may have a turn.
    is_active: bool,
    extent_bytes: u64,
}

impl Account {
    /// Sees to it that the next write, of `need_bytes` in whole pages at `offset`, is charged; asks for `want_bytes`
    /// at once, so that the lock is taken once for several writes. While throttled, wait and ask for
    /// the same again.
    pub fn reserve(&mut self, need_bytes: u64, want_bytes: u64, offset: u64) -> Reserve {
        if need_bytes <= self.spare_bytes {
            return Reserve::Granted(self.spare_bytes);
        }
        // Too little is of no use, and would keep a turn from ending.
        let spare_bytes = std::mem::take(&mut self.spare_bytes);
        self.held_bytes -= spare_bytes;
        let want_bytes = want_bytes.min(self.extent_bytes).max(need_bytes);
        let stream = self.stream;
        let reserve = self.gate.change(|budget, now| {
            if spare_bytes > 0 {
                budget.give_back(stream, spare_bytes, now);
            }
            budget.reserve(stream, Ask { need_bytes, want_bytes, offset }, now)
        });
        if let Reserve::Granted(bytes) = reserve {
            self.held_bytes += bytes;
            self.spare_bytes = bytes;
            self.is_active = true;
        }
        reserve
    }

    /// So many bytes of what is charged are dirty now.
    pub fn spend(&mut self, bytes: u64) {
        self.spare_bytes -= bytes;
    }

    /// Waits at most `patience` for what was asked for.
    pub fn wait(&self, patience: Duration) {
        let books = self.gate.lock();
        if !books.budget.has_grant(self.stream) {
            drop(self.bell.wait_timeout(books, patience));
        }
    }

    /// `completion.bytes` are known to be clean.
    pub fn complete(&mut self, completion: Completion) {
        self.held_bytes -= completion.bytes;
        let stream = self.stream;
        self.extent_bytes = self.gate.change(|budget, now| {
            budget.complete(stream, completion, now);
            budget.next_extent_bytes(stream)
        });
    }

    /// A call that had not returned for a while has returned.
    pub fn answers(&self) {
        self.gate.change(|budget, now| budget.answers(self.stream, now));
    }

    /// Leaves the line, if it stands in it.
    pub fn cancel(&mut self) {
        self.gate.change(|budget, now| budget.cancel(self.stream, now));
    }

    /// True when it may have a turn, or something charged for nothing: before its stream waits for its
    /// muxer it has to rest.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.is_active
    }

    /// There is nothing to write for now: gives up what is charged for nothing, and the turn.
    pub fn rest(&mut self) {
        self.is_active = false;
        let spare_bytes = std::mem::take(&mut self.spare_bytes);
        self.held_bytes -= spare_bytes;
        self.gate.change(|budget, now| {
            budget.cancel(self.stream, now);
            budget.release(self.stream, spare_bytes, now);
            budget.rest(self.stream, now);
        });
    }

    /// How long an extent is on this device, in bytes.
    #[must_use]
    pub fn extent_bytes(&self) -> u64 {
        self.extent_bytes
    }

    /// True when only its own pages can free what it waits for.
    #[must_use]
    pub fn waits_for_itself(&self, hold: Hold) -> bool {
        self.gate.lock().budget.waits_for_itself(self.stream, hold)
    }

    /// True when the device is shared in turns, so that it pays to gather before asking for one.
    #[must_use]
    pub fn takes_turns(&self) -> bool {
        self.gate.lock().budget.takes_turns(self.stream)
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let (stream, held_bytes) = (self.stream, self.held_bytes);
        self.gate.change(|budget, now| {
            budget.cancel(stream, now);
            budget.release(stream, held_bytes, now);
            budget.leave(stream, now);
        });
        self.gate.lock().bells.remove(&stream);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn gate() -> Arc<Gate> {
        Gate::new(8 * MIB, Clock::start())
    }

    fn is_granted(account: &mut Account, mib: u64) -> bool {
        matches!(account.reserve(mib * MIB, mib * MIB, 0), Reserve::Granted(_))
    }

    #[test]
    fn a_release_wakes_the_one_who_waits() {
        let gate = gate();
        let mut first = gate.join(1, "8:1", false, 100);
        assert!(is_granted(&mut first, 4), "the floor of a new device");
        first.spend(4 * MIB);
        let mut second = gate.join(2, "8:1", false, 100);
        assert!(!is_granted(&mut second, 1));
        let waiter = std::thread::spawn(move || {
            second.wait(Duration::from_secs(60));
            is_granted(&mut second, 1)
        });
        first.complete(Completion { bytes: 2 * MIB, began: Duration::ZERO, exact: true });
        assert!(waiter.join().unwrap());
        drop(first);
        assert_eq!(gate.limit_and_charged_bytes(), (8 * MIB, 0));
    }

    #[test]
    fn several_writes_are_charged_at_once_and_what_is_spare_goes_back() {
        let gate = gate();
        let mut account = gate.join(1, "8:1", false, 100);
        assert_eq!(account.reserve(4096, MIB, 0), Reserve::Granted(MIB));
        account.spend(4096);
        assert_eq!(account.reserve(4096, MIB, 0), Reserve::Granted(MIB - 4096));
        account.rest();
        assert_eq!(gate.limit_and_charged_bytes().1, 4096);
        drop(account);
        assert_eq!(gate.limit_and_charged_bytes().1, 0);
    }

    #[test]
    fn an_account_dropped_in_line_leaves_nothing_behind() {
        let gate = gate();
        let mut first = gate.join(1, "8:1", false, 100);
        assert!(is_granted(&mut first, 4));
        first.spend(4 * MIB);
        let mut second = gate.join(2, "8:1", false, 100);
        assert!(!is_granted(&mut second, 1));
        // Granted in line, and never fetched.
        first.complete(Completion { bytes: MIB, began: Duration::ZERO, exact: true });
        assert_eq!(gate.limit_and_charged_bytes().1, 4 * MIB);
        drop(second);
        assert_eq!(gate.limit_and_charged_bytes().1, 3 * MIB);
        drop(first);
        assert_eq!(gate.limit_and_charged_bytes().1, 0);
    }
}
