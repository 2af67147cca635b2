//! The budget under simulation, and the shadow accounts that check it after every change.
//!
//! Every change of the budget goes through [`Books::change`], which recomputes from its own figures what
//! may have happened:
//!
//! 1. Nobody's charge changed but that of the caller and of those who are woken.
//! 2. Somebody was granted something: then the total is within its limit, but for what devices hold
//!    above their floors from before that shrank; the device is within the limit that the formula gives
//!    for what was charged before the grants; and it is not wedged.
//! 3. On a device that takes turns, whoever is granted is alone charged.
//!    Streams that were stuck when it became suspect are beside this limit, and beside this turn.
//! 4. Where somebody waits, the longest need of those who wait does not fit, or streams take turns.
//! 5. The sum of all accounts is that of all devices is the total.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use freemkvd::budget::{Budget, DeviceId, DeviceView, State, StreamId};

/// What each device may hold at least, as documented: 8 MiB, less where that would be more than half of
/// the total, 2 MiB at least.
fn floor_bytes(limit_bytes: u64, devices: usize) -> u64 {
    (limit_bytes / 2 / devices.max(1) as u64).clamp(2 << 20, 8 << 20)
}

/// Each so many changes all accounts are looked at, and not only those that may have changed.
const FULL_CHECK_EVERY: u64 = 16;

/// See the module's documentation.
pub struct Books {
    pub budget: Budget,
    streams: BTreeMap<StreamId, Shadow>,
    devices: BTreeMap<DeviceId, u64>,
    /// Who waits on each device, and for how much.
    waiting: BTreeMap<DeviceId, BTreeMap<StreamId, u64>>,
    charged_bytes: u64,
    changes: u64,
    /// Device and weight of all streams so far.
    pub joined: Vec<(DeviceId, u32)>,
    /// Changes of weights so far.
    pub weight_changes: u64,
    /// Streams whose account got something since somebody asked.
    woken: BTreeSet<StreamId>,
}

struct Shadow {
    device: DeviceId,
    weight: u32,
    charged_bytes: u64,
}

/// What a caller knows about its change.
#[derive(Clone, Copy, Debug)]
pub enum By {
    /// This stream gave back so many bytes, and asks for so many.
    Stream { stream: StreamId, released_bytes: u64, need_bytes: Option<u64> },
    /// This stream left the line, with whatever it was granted there.
    Cancel { stream: StreamId, released_bytes: u64 },
    /// Somebody else: limits, weights, time.
    Nobody,
}

impl Books {
    pub fn new(limit_bytes: u64) -> Self {
        Self {
            budget: Budget::new(limit_bytes),
            streams: BTreeMap::new(),
            devices: BTreeMap::new(),
            waiting: BTreeMap::new(),
            charged_bytes: 0,
            changes: 0,
            joined: Vec::new(),
            weight_changes: 0,
            woken: BTreeSet::new(),
        }
    }

    pub fn join(
        &mut self,
        stream: StreamId,
        device: DeviceId,
        seeks: bool,
        weight: u32,
        now: Duration,
    ) {
        self.budget.join(stream, device, seeks, weight, now);
        self.streams.insert(stream, Shadow { device, weight, charged_bytes: 0 });
        self.devices.entry(device).or_insert(0);
        self.joined.push((device, weight));
    }

    pub fn leave(&mut self, stream: StreamId, now: Duration) {
        assert_eq!(self.budget.charged_bytes_of(stream), 0, "it leaves with nothing");
        let device = self.streams.remove(&stream).expect("a stream leaves once").device;
        if !self.streams.values().any(|other| other.device == device) {
            assert_eq!(self.devices.remove(&device), Some(0));
        }
        self.change(By::Nobody, |budget| budget.leave(stream, now));
    }

    /// The streams that got something since the last call.
    pub fn take_woken(&mut self) -> BTreeSet<StreamId> {
        std::mem::take(&mut self.woken)
    }

    /// True when nothing is left.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty() && self.budget.charged_bytes() == 0
    }

    /// Does it, and checks what became of it.
    pub fn change<T>(&mut self, by: By, change: impl FnOnce(&mut Budget) -> T) -> T {
        let result = change(&mut self.budget);
        let woken: BTreeSet<_> = self.budget.take_woken().into_iter().collect();
        self.changes += 1;
        let mut touched = woken.clone();
        self.give_back(by, &mut touched);
        let (free_bytes, floor) = self.pool();
        let mut granted_to = BTreeSet::new();
        for stream in touched {
            let after = self.budget.charged_bytes_of(stream);
            let Some(shadow) = self.streams.get_mut(&stream) else { continue };
            let granted = after.checked_sub(shadow.charged_bytes).expect("nothing is taken back");
            if granted > 0 {
                self.waiting.entry(shadow.device).or_default().remove(&stream);
                shadow.charged_bytes = after;
                *self.devices.get_mut(&shadow.device).expect("it has joined") += granted;
                self.charged_bytes += granted;
                granted_to.insert(stream);
            }
        }
        self.check_grants(&granted_to, free_bytes, floor);
        if let By::Stream { stream, need_bytes, .. } = by {
            let device = self.streams[&stream].device;
            if let Some(need_bytes) = need_bytes.filter(|_| !granted_to.contains(&stream)) {
                self.waiting.entry(device).or_default().insert(stream, need_bytes);
            }
            self.check_waiting(device);
        }
        if self.changes % (FULL_CHECK_EVERY + self.streams.len() as u64) == 0
            || matches!(by, By::Nobody)
        {
            self.check_all();
        }
        self.woken.extend(woken);
        result
    }

    fn give_back(&mut self, by: By, touched: &mut BTreeSet<StreamId>) {
        let (stream, released_bytes) = match by {
            By::Nobody => return,
            By::Stream { stream, released_bytes, .. } => (stream, released_bytes),
            By::Cancel { stream, released_bytes } => {
                let shadow = self.streams.get_mut(&stream).expect("it has joined");
                self.waiting.entry(shadow.device).or_default().remove(&stream);
                let left = self.budget.charged_bytes_of(stream);
                let gone = shadow.charged_bytes - left;
                assert!(gone >= released_bytes, "a canceled stream was granted something");
                (stream, gone)
            }
        };
        touched.insert(stream);
        let shadow = self.streams.get_mut(&stream).expect("it has joined");
        shadow.charged_bytes -= released_bytes;
        *self.devices.get_mut(&shadow.device).expect("it has joined") -= released_bytes;
        self.charged_bytes -= released_bytes;
    }

    /// What the stuck streams of a device hold.
    fn stuck_bytes(&self, device: DeviceId) -> u64 {
        let stuck = self.streams.iter().filter(|(stream, _)| self.budget.is_stuck(**stream));
        let here = stuck.filter(|(_, shadow)| shadow.device == device);
        here.map(|(_, shadow)| shadow.charged_bytes).sum()
    }

    /// What is left above all floors by the shadow accounts, and a floor.
    fn pool(&self) -> (u64, u64) {
        let floor = floor_bytes(self.budget.limit_bytes(), self.devices.len());
        let above: u64 = self.devices.values().map(|charged| charged.saturating_sub(floor)).sum();
        let shared = self.budget.limit_bytes().saturating_sub(floor * self.devices.len() as u64);
        (shared.saturating_sub(above), floor)
    }

    /// What is above all floors beyond what is there for it.
    fn overhang_bytes(&self, floor: u64) -> u64 {
        let above: u64 = self.devices.values().map(|charged| charged.saturating_sub(floor)).sum();
        let floors = floor * self.devices.len() as u64;
        above.saturating_sub(self.budget.limit_bytes().saturating_sub(floors))
    }

    fn check_grants(&self, granted_to: &BTreeSet<StreamId>, free_bytes: u64, floor: u64) {
        if granted_to.is_empty() {
            return;
        }
        let most = self.budget.limit_bytes() + self.overhang_bytes(floor);
        assert!(
            self.charged_bytes <= most,
            "granted beyond the total: {} of {most}",
            self.charged_bytes,
        );
        for stream in granted_to {
            let shadow = &self.streams[stream];
            let view = self.view(shadow.device);
            let charged = self.devices[&shadow.device] - self.stuck_bytes(shadow.device);
            let limit = limit_bytes(&view, floor, free_bytes);
            assert!(
                charged <= limit,
                "{stream} was granted beyond its device: {charged} of {view:?}"
            );
            assert!(
                !view.takes_turns || charged == shadow.charged_bytes,
                "{stream} was granted out of turn: {view:?}"
            );
        }
    }

    /// Point 4 of the module's documentation.
    fn check_waiting(&self, device: DeviceId) {
        let waiting = self.waiting.get(&device);
        let Some(&need) = waiting.and_then(|waiting| waiting.values().max()) else { return };
        let view = self.view(device);
        let charged = self.devices[&device];
        assert_eq!(charged, view.charged_bytes);
        let left = match self.has_floors() {
            true => u64::MAX,
            false => self.budget.limit_bytes().saturating_sub(self.charged_bytes),
        };
        let fits = charged + need <= view.limit_bytes && need <= left;
        // Whose turn it is can't be seen from here; that no turn is forgotten is seen by how long
        // those wait who want the next one.
        assert!(
            !fits || view.takes_turns,
            "{waiting:?} wait although there is room: {left} left in all, {view:?}"
        );
    }

    fn check_all(&self) {
        let mut by_device: BTreeMap<_, u64> = BTreeMap::new();
        for (stream, shadow) in &self.streams {
            assert_eq!(shadow.charged_bytes, self.budget.charged_bytes_of(*stream), "of {stream}");
            *by_device.entry(shadow.device).or_default() += shadow.charged_bytes;
        }
        assert_eq!(by_device.values().sum::<u64>(), self.budget.charged_bytes());
        assert_eq!(self.charged_bytes, self.budget.charged_bytes());
        for (device, charged) in by_device {
            assert_eq!(charged, self.devices[&device]);
            self.check_waiting(device);
        }
    }

    /// True when every device has its floor whatever the others hold.
    pub fn has_floors(&self) -> bool {
        let devices = self.devices.len();
        let limit = self.budget.limit_bytes();
        floor_bytes(limit, devices) * devices as u64 <= limit
    }

    /// Weights of the streams of a device but this one's.
    pub fn weights(&self, device: DeviceId, stream: StreamId) -> (u32, Vec<u32>) {
        let others = self.streams.iter().filter(|(id, s)| s.device == device && **id != stream);
        (self.streams[&stream].weight, others.map(|(_, shadow)| shadow.weight).collect())
    }

    /// A stream's weight has changed.
    pub fn set_weight(&mut self, stream: StreamId, weight: u32) {
        if let Some(shadow) = self.streams.get_mut(&stream) {
            shadow.weight = weight;
            self.weight_changes += 1;
        }
    }

    pub fn view(&self, device: DeviceId) -> DeviceView {
        self.budget.device(device).expect("a device with a stream is known")
    }
}

/// The limit of a device, as documented.
fn limit_bytes(view: &DeviceView, floor: u64, free_bytes: u64) -> u64 {
    let most = floor + free_bytes;
    match view.state {
        State::Healthy => (view.bytes_per_second / 2).min(most).max(floor),
        State::Starting { limit_bytes } | State::Recovering { limit_bytes } => {
            limit_bytes.clamp(floor, most)
        }
        State::Suspect => floor,
        State::Wedged => 0,
    }
}
