//! The budget: how many bytes may be dirty or in writeback, on each device and over all of them, and
//! who may have the next ones. Pure: no clock, no thread, no I/O; time is an argument.
//!
//! A budget without limits per device is an outage: one device that stops holds all of it, and
//! everybody waits. So each device has a limit of its own (`device`) inside the total, follows its
//! own health (`health`), and keeps a floor that the others can't take.
//!
//! Invariants, asserted where they could break:
//! 1. The sum of all charges never exceeds the total, except by what was granted before the total was
//!    lowered or the floors shrank, and by a floor on a device with a stuck stream. Also then every device
//!    has its floor: what a dead one holds for ever would else be an outage of all others.
//! 2. A device's charge never exceeds its limit, except by what was granted before the limit shrank, and
//!    by what stuck streams hold.
//!    A wedged device is granted nothing, so it never holds more than when it stopped.
//! 3. A stream's charge is what it was granted minus what it released; it is zero when it leaves, and
//!    when the last one has left nothing is charged.
//! 4. Nobody who can be granted waits: whatever frees bytes says whom they went to.
//! 5. On a device that takes turns, only the holder of the turn is charged, and those whose turn was
//!    taken from them because nothing completed in it.
//!
//! A decision costs the same however many streams and devices there are, but for the logarithm of the devices
//! that wait for the pool, of which only the one that needs least is looked at, and for the rounds in which
//! light streams save up for a grant.

mod ask;
mod device;
mod health;
mod pool;
mod rate;
mod serve;

use std::collections::BTreeSet;
use std::time::Duration;

use rustc_hash::FxHashMap;

pub use ask::{Ask, DeviceView, Hold, Reserve};
pub use device::{EXTENT_BYTES_MIN, TURN_BYTES};
pub use health::State;
pub use rate::Completion;

use device::Device;
use health::SUSPECT_MIN;
use rate::DrainRate;

/// A stream's number.
pub type StreamId = u64;

/// A device's number, given by whoever knows its name.
pub type DeviceId = u32;

/// Smallest total: below it four streams could not have an extent in writeback each while they fill
/// the next one.
pub const LIMIT_BYTES_MIN: u64 = 8 << 20;

/// What a device may hold whatever the others do: three extents of a slow disk.
const FLOOR_BYTES: u64 = 8 << 20;

/// The same where there are so many devices that their floors would be more than half of the total:
/// one whole segment, and the pages that its edges touch. Beyond `total / FLOOR_BYTES_MIN` devices
/// even that is no promise any more, and the total decides.
const FLOOR_BYTES_MIN: u64 = 2 << 20;

/// Devices whose rate is remembered after their last stream.
const REMEMBERED_MAX: usize = 256;

#[derive(Clone, Debug)]
struct Account {
    device: DeviceId,
    weight: u32,
    charged_bytes: u64,
    /// Credited at its visits and not used.
    deficit_bytes: u64,
    /// Granted beyond its last turns, because what was left of them was less than it needed.
    overdrawn_bytes: u64,
    /// What its last extents were too short by.
    extent_rest_bytes: u64,
    /// Its visit is not over: it has been credited, and could not use all of it yet.
    is_visited: bool,
    ask: Option<Ask>,
    /// Granted while it was in line, and not fetched yet. Charged already.
    granted_bytes: Option<u64>,
    /// Its turn was taken from it, and it still holds what it had.
    is_stuck: bool,
}

/// See the module's documentation.
#[derive(Clone, Debug)]
pub struct Budget {
    limit_bytes: u64,
    charged_bytes: u64,
    floor_bytes: u64,
    /// What all devices hold above their floors.
    above_floors_bytes: u64,
    devices: FxHashMap<DeviceId, Device>,
    accounts: FxHashMap<StreamId, Account>,
    /// Devices whose next stream waits for the pool, by what they would hold with it.
    waiting_for_pool: BTreeSet<(u64, DeviceId)>,
    /// Streams that got what they waited for since somebody asked.
    woken: Vec<StreamId>,
    remembered: FxHashMap<DeviceId, DrainRate>,
    /// Devices that answer again, since the last tick.
    recovered: Vec<DeviceId>,
}

impl Budget {
    /// A budget of `limit_bytes` in all, at least [`LIMIT_BYTES_MIN`].
    #[must_use]
    pub fn new(limit_bytes: u64) -> Self {
        Self {
            limit_bytes: limit_bytes.max(LIMIT_BYTES_MIN),
            charged_bytes: 0,
            floor_bytes: FLOOR_BYTES,
            above_floors_bytes: 0,
            devices: FxHashMap::default(),
            accounts: FxHashMap::default(),
            waiting_for_pool: BTreeSet::new(),
            woken: Vec::new(),
            remembered: FxHashMap::default(),
            recovered: Vec::new(),
        }
    }

    /// Most bytes that may be charged at once.
    #[must_use]
    pub fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    /// Bytes charged now.
    #[must_use]
    pub fn charged_bytes(&self) -> u64 {
        self.charged_bytes
    }

    /// Bytes that `stream` has charged now.
    #[must_use]
    pub fn charged_bytes_of(&self, stream: StreamId) -> u64 {
        self.accounts.get(&stream).map_or(0, |account| account.charged_bytes)
    }

    /// What is to be known of a device; `None` without a stream on it.
    #[must_use]
    pub fn device(&self, device: DeviceId) -> Option<DeviceView> {
        let pool = self.pool();
        self.devices.get(&device).map(|device| DeviceView {
            state: device.health.state(),
            since: device.health.since(),
            limit_bytes: device.limit_bytes(pool),
            charged_bytes: device.charged_bytes,
            extent_bytes: device.extent_bytes(pool, 100, false),
            bytes_per_second: device.rate.bytes_per_second(),
            completion_p95: device.rate.percentile(95),
            takes_turns: device.takes_turns(),
        })
    }

    /// How long the next extent of `stream` is, in bytes.
    pub fn next_extent_bytes(&mut self, stream: StreamId) -> u64 {
        let pool = self.pool();
        let Some(account) = self.accounts.get_mut(&stream) else {
            return EXTENT_BYTES_MIN;
        };
        let device = &self.devices[&account.device];
        let bytes = device.extent_bytes(pool, account.weight, account.charged_bytes > 0);
        device::whole_segments(bytes, &mut account.extent_rest_bytes)
    }

    /// True when `stream` was granted something that it has not fetched.
    #[must_use]
    pub fn has_grant(&self, stream: StreamId) -> bool {
        self.accounts.get(&stream).is_some_and(|account| account.granted_bytes.is_some())
    }

    /// True when the turn of `stream` was taken from it because nothing completed, and it still holds what
    /// it had.
    #[must_use]
    pub fn is_stuck(&self, stream: StreamId) -> bool {
        self.accounts.get(&stream).is_some_and(|account| account.is_stuck)
    }

    /// True when `stream` shares a device that takes turns, so that it pays to gather before asking.
    #[must_use]
    pub fn takes_turns(&self, stream: StreamId) -> bool {
        self.device_of(stream).is_some_and(|device| device.takes_turns() && device.streams > 1)
    }

    /// True when only its own pages can free what `stream` waits for: it is alone on a device that holds as
    /// much as it may, or has had its turn.
    #[must_use]
    pub fn waits_for_itself(&self, stream: StreamId, hold: Hold) -> bool {
        self.device_of(stream).is_some_and(|device| {
            device.takes_turns() && device.streams > 1 || device.streams == 1 && hold != Hold::Total
        })
    }

    fn device_of(&self, stream: StreamId) -> Option<&Device> {
        self.devices.get(&self.accounts.get(&stream)?.device)
    }

    /// The streams that got what they waited for since the last call; they are to ask again.
    #[must_use]
    pub fn take_woken(&mut self) -> Vec<StreamId> {
        std::mem::take(&mut self.woken)
    }

    /// Changes the total. A lower one takes nothing back; it grants nothing until there is room.
    pub fn set_limit(&mut self, limit_bytes: u64, now: Duration) {
        self.limit_bytes = limit_bytes.max(LIMIT_BYTES_MIN);
        self.set_floor();
        self.serve_all(now);
    }

    /// Takes a stream in. `seeks` says whether the device, if this is its first stream, has to seek
    /// or may have to.
    ///
    /// # Panics
    /// When the stream is in already.
    pub fn join(
        &mut self,
        stream: StreamId,
        device: DeviceId,
        seeks: bool,
        weight: u32,
        now: Duration,
    ) {
        let account = Account {
            device,
            weight: weight.max(1),
            charged_bytes: 0,
            deficit_bytes: 0,
            overdrawn_bytes: 0,
            extent_rest_bytes: 0,
            is_visited: false,
            ask: None,
            granted_bytes: None,
            is_stuck: false,
        };
        let before = self.accounts.insert(stream, account);
        assert!(before.is_none(), "stream {stream} joined the budget twice");
        if !self.devices.contains_key(&device) {
            let floor_bytes = self.floor_of(self.devices.len() + 1);
            let mut new = Device::new(seeks, floor_bytes, now);
            if let Some(rate) = self.remembered.remove(&device) {
                new.rate = rate;
                new.consider_speed();
            }
            self.devices.insert(device, new);
            self.set_floor();
        }
        self.recount(device);
    }

    /// Lets a stream go.
    ///
    /// # Panics
    /// When it still has something charged (invariant 3).
    pub fn leave(&mut self, stream: StreamId, now: Duration) {
        self.cancel(stream, now);
        let account = self.accounts.remove(&stream).expect("a stream leaves once");
        assert_eq!(account.charged_bytes, 0, "stream {stream} left with bytes charged");
        let device = self.devices.get_mut(&account.device).expect("a stream's device is known");
        if device.turn.is_some_and(|turn| turn.holder == stream) {
            device.turn = None;
        }
        self.recount(account.device);
        if self.devices[&account.device].streams == 0 {
            self.forget(account.device);
            self.serve_all(now);
        } else {
            self.settle(account.device, now);
        }
        if self.accounts.is_empty() {
            assert_eq!((self.charged_bytes, self.above_floors_bytes), (0, 0), "(invariant 3)");
            assert!(self.devices.is_empty() && self.waiting_for_pool.is_empty());
        }
    }

    /// Changes a stream's weight. False when there is no such stream.
    pub fn set_weight(&mut self, stream: StreamId, weight: u32) -> bool {
        let Some(account) = self.accounts.get_mut(&stream) else {
            return false;
        };
        let before = std::mem::replace(&mut account.weight, weight.max(1));
        let id = account.device;
        if account.charged_bytes > 0 {
            let device = self.devices.get_mut(&id).expect("a stream's device is known");
            device.becomes_idle(before);
            device.becomes_busy(account.weight);
        }
        self.recount(id);
        true
    }

    /// Charges at least what `stream` needs and at most what it wants, or puts it in line. One that is
    /// in line already keeps its place, and what it asked for first.
    pub fn reserve(&mut self, stream: StreamId, ask: Ask, now: Duration) -> Reserve {
        assert!(ask.need_bytes <= ask.want_bytes, "wants less than it needs");
        let account = self.accounts.get_mut(&stream).expect("a stream joins before it reserves");
        let device = account.device;
        if account.ask.is_none() && account.granted_bytes.is_none() {
            account.ask = Some(ask);
            let is_visited = account.is_visited;
            let device = self.devices.get_mut(&device).expect("a stream's device is known");
            match device.turn {
                Some(turn) if turn.holder == stream && turn.left_bytes > 0 => {
                    device.line.push_front(stream);
                }
                None if is_visited => device.line.push_front(stream),
                _ => device.line.push_back(stream),
            }
        }
        self.settle(device, now);
        let account = self.accounts.get_mut(&stream).expect("it was there a moment ago");
        match account.granted_bytes.take() {
            Some(bytes) => {
                self.woken.retain(|woken| *woken != stream);
                Reserve::Granted(bytes)
            }
            None => Reserve::Throttled(self.hold_of(stream)),
        }
    }

    /// Takes a stream out of the line, and back what it was granted there.
    pub fn cancel(&mut self, stream: StreamId, now: Duration) {
        let Some(account) = self.accounts.get_mut(&stream) else {
            return;
        };
        account.ask = None;
        account.is_visited = false;
        let granted_bytes = account.granted_bytes.take().unwrap_or(0);
        let id = account.device;
        let device = self.devices.get_mut(&id).expect("a stream's device is known");
        device.line.retain(|waiting| *waiting != stream);
        self.woken.retain(|woken| *woken != stream);
        self.release(stream, granted_bytes, now);
    }

    /// Takes back `bytes` of `stream` that it has no use for any more.
    ///
    /// # Panics
    /// When the stream gives back more than it has (invariant 3).
    pub fn release(&mut self, stream: StreamId, bytes: u64, now: Duration) {
        let account = self.accounts.get_mut(&stream).expect("a stream joins before it releases");
        account.charged_bytes = account
            .charged_bytes
            .checked_sub(bytes)
            .expect("a stream never releases more than it was granted");
        let (id, weight) = (account.device, account.weight);
        let is_over = bytes > 0 && account.charged_bytes == 0;
        if account.is_stuck {
            account.is_stuck = account.charged_bytes > 0;
            let device = self.devices.get_mut(&id).expect("a stream's device is known");
            device.stuck_bytes -= bytes;
        }
        self.charged_bytes -= bytes;
        self.move_charge(id, |charged| charged - bytes);
        if is_over {
            self.devices.get_mut(&id).expect("a stream's device is known").becomes_idle(weight);
        }
        self.settle(id, now);
    }

    /// Takes back `bytes` that `stream` was granted and has not used; they are not counted as had of its
    /// turn.
    ///
    /// # Panics
    /// As [`Budget::release`].
    pub fn give_back(&mut self, stream: StreamId, bytes: u64, now: Duration) {
        let id = self.accounts.get(&stream).expect("a stream joins before it gives back").device;
        let device = self.devices.get_mut(&id).expect("a stream's device is known");
        if let Some(turn) = device.turn.as_mut().filter(|turn| turn.holder == stream) {
            turn.left_bytes += bytes;
        }
        self.release(stream, bytes, now);
    }

    /// Takes back what became clean, and learns from it how fast the device is.
    ///
    /// # Panics
    /// As [`Budget::release`].
    pub fn complete(&mut self, stream: StreamId, completion: Completion, now: Duration) {
        let id = self.accounts.get(&stream).expect("a stream joins before it completes").device;
        self.progress(id, Some(completion), now);
        self.release(stream, completion.bytes, now);
    }

    /// A call of `stream` that had not returned for a while has returned: its device answers.
    pub fn answers(&mut self, stream: StreamId, now: Duration) {
        let id = self.accounts.get(&stream).expect("a stream joins before it writes").device;
        self.progress(id, None, now);
        self.settle(id, now);
    }

    /// `stream` has nothing more to write for now, so that its turn ends as soon as it holds nothing.
    pub fn rest(&mut self, stream: StreamId, now: Duration) {
        let id = self.accounts.get(&stream).expect("a stream joins before it rests").device;
        let device = self.devices.get_mut(&id).expect("a stream's device is known");
        if let Some(turn) = device.turn.as_mut().filter(|turn| turn.holder == stream) {
            turn.is_over = true;
        }
        self.settle(id, now);
    }

    /// Looks at the time: which devices have become suspect or wedged, or answer again. To be called twice
    /// a second.
    pub fn tick(&mut self, now: Duration) -> Vec<(DeviceId, State)> {
        let mut changed: Vec<_> = std::mem::take(&mut self.recovered)
            .into_iter()
            .filter_map(|id| Some((id, self.devices.get(&id)?.health.state())))
            .collect();
        for (id, device) in &mut self.devices {
            let p99 = device.rate.percentile(99);
            if device.health.tick(device.charged_bytes > 0, p99, now) {
                changed.push((*id, device.health.state()));
            }
        }
        // Nothing completes in these turns. Perhaps it is only their holders that can't go on.
        let silent = |device: &Device| {
            let is_old = |turn: device::Turn| now.saturating_sub(turn.since) >= SUSPECT_MIN;
            device.health.state() == State::Suspect && device.turn.is_some_and(is_old)
        };
        let silent: Vec<_> =
            self.devices.iter().filter(|(_, device)| silent(device)).map(|(id, _)| *id).collect();
        silent.into_iter().for_each(|id| self.revoke_turn(id, now));
        changed
    }

    /// Counts the streams of a device, and finds the heaviest.
    fn recount(&mut self, id: DeviceId) {
        let weights = || self.accounts.values().filter(|a| a.device == id).map(|a| a.weight);
        let (streams, weight_max) = (weights().count(), weights().max().unwrap_or(0));
        if let Some(device) = self.devices.get_mut(&id) {
            (device.streams, device.weight_max) = (streams, weight_max);
        }
    }

    fn forget(&mut self, id: DeviceId) {
        let Some(device) = self.devices.remove(&id) else {
            return;
        };
        assert_eq!(device.charged_bytes, 0, "a device without streams holds bytes");
        if let Some(key) = device.waits_for_pool {
            self.waiting_for_pool.remove(&(key, id));
        }
        if self.remembered.len() < REMEMBERED_MAX {
            self.remembered.insert(id, device.rate);
        }
        self.set_floor();
    }

    fn progress(&mut self, id: DeviceId, completion: Option<Completion>, now: Duration) {
        let pool = self.pool();
        let device = self.devices.get_mut(&id).expect("a stream's device is known");
        let bytes = completion.map_or(0, |completion| completion.bytes);
        if let Some(completion) = completion {
            device.rate.complete(completion, now);
            device.consider_speed();
        }
        let formula_bytes = device.formula_bytes(pool);
        let before = device.health.state();
        device.health.complete(bytes, pool.floor_bytes, formula_bytes, now);
        if matches!(before, State::Suspect | State::Wedged) {
            self.recovered.push(id);
        }
    }

    fn hold_of(&self, stream: StreamId) -> Hold {
        match self.device_of(stream) {
            Some(device) => match device.turn {
                Some(turn) if turn.holder != stream => Hold::Turn,
                _ => device.hold,
            },
            None => Hold::Device,
        }
    }
}

#[cfg(test)]
mod tests;
