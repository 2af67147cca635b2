//! One device in the budget: what it may hold, and who is next. Pure.
//!
//! The limit is the bandwidth-delay product, `rate * 500 ms`: dirty bytes beyond it make everybody
//! wait longer and nothing faster. It lies between a floor, which every device keeps whatever the
//! others do, and what the pool of all devices has left ([`Pool::device_limit_bytes`]).
//!
//! Among its streams a device is shared by weighted deficit round robin (Shreedhar and Varghese,
//! SIGCOMM 1995): at its visit a stream is credited its quantum, may be granted as much, and goes to
//! the end of the line. On a device that has to seek the quantum is a *turn*: a long one, and nobody
//! else is granted anything before the holder's charge is gone, so that only one stream's extents are
//! in writeback at a time.

use std::collections::VecDeque;
use std::time::Duration;

use super::health::{Health, State};
use super::rate::DrainRate;
use super::{Hold, StreamId};

/// How much of its own speed a device may hold: half a second.
const LIMIT_MS: u64 = 500;

/// How much of it an extent of a lone stream is: twenty in a second, so that another that comes waits no
/// longer than a moment for it.
const EXTENT_MS: u64 = 50;

/// What a stream writes at once; see [`whole_segments`].
const SEGMENT_BYTES: u64 = 1 << 20;

/// How much of its share of the limit an extent is where several streams write at once.
const EXTENT_PERCENT: u64 = 30;

/// Shortest and longest extent. Below 1 MiB the requests cost more than the bytes; beyond 64 MiB the
/// fastest device has enough to do while the next one is prepared.
pub const EXTENT_BYTES_MIN: u64 = 1 << 20;
/// See [`EXTENT_BYTES_MIN`].
const EXTENT_BYTES_MAX: u64 = 64 << 20;

/// What a stream of the usual weight is credited at a visit: two whole segments.
const QUANTUM_BYTES: u64 = 2 << 20;

/// The turn of the heaviest stream of a device. At 150 MB/s it takes 170 ms, in which one seek of 8 ms
/// is lost in the noise; four streams wait half a second for each other, which their queues bridge.
pub const TURN_BYTES: u64 = 24 << 20;

/// Shortest turn; a stream whose weight would make it shorter is passed over until it has saved up.
const TURN_BYTES_MIN: u64 = 8 << 20;

/// Where in a file a turn ends. ext4 sets whole pieces of 8 MiB aside for a file that grows
/// (`ext4_mb_normalize_request`); a turn that ends within one leaves its rest to the stream's next turn,
/// which then begins with a seek back to it.
const TURN_ALIGN_BYTES: u64 = 8 << 20;

/// Above this speed it is no device that seeks, whatever it says of itself: virtual disks claim to be
/// rotational, and the fastest hard disk does 300 MiB/s. Below the half it has to prove it anew.
const SEEKLESS_BYTES_PER_SECOND: u64 = 500 << 20;

/// What all devices share, as one device sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pool {
    /// What every device may hold whatever the others do.
    pub(super) floor_bytes: u64,
    /// What is left above all floors.
    pub(super) free_bytes: u64,
}

impl Pool {
    /// The most that a device may hold with regard to the others. What a device holds above its floor
    /// is no longer free, so that one alone gets half of what is above the floors, the next half of
    /// the rest: something is left for whoever comes.
    pub(super) fn device_limit_bytes(&self) -> u64 {
        self.floor_bytes + self.free_bytes
    }
}

/// See the module's documentation.
#[derive(Clone, Debug)]
pub(super) struct Device {
    pub(super) charged_bytes: u64,
    pub(super) streams: usize,
    /// The highest weight of its streams.
    pub(super) weight_max: u32,
    /// Streams that have something charged, and the sum of their weights.
    busy_streams: usize,
    busy_weights: u64,
    pub(super) rate: DrainRate,
    pub(super) health: Health,
    /// True when it has to seek, or nobody knows.
    seeks: bool,
    /// True when it turned out to be faster than anything that seeks.
    is_seekless: bool,
    /// Streams that wait, the next one first.
    pub(super) line: VecDeque<StreamId>,
    /// Whose turn it is, and what is left of it.
    pub(super) turn: Option<Turn>,
    /// Charged by streams whose turn was taken from them, because nothing completed in it. They may be
    /// the only ones that can't go on: one disk of a pool, one bad sector.
    pub(super) stuck_bytes: u64,
    /// Why the first in line waits.
    pub(super) hold: Hold,
    /// Its place among the devices that wait for the pool.
    pub(super) waits_for_pool: Option<u64>,
}

/// A turn on a device that has to seek.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    pub(super) holder: StreamId,
    pub(super) left_bytes: u64,
    /// Since when.
    pub(super) since: Duration,
    /// The holder has nothing more to write for now.
    pub(super) is_over: bool,
}

/// The turn of a stream that has so much credit and writes on at `offset`: as much of it as leads to a
/// boundary.
pub(super) fn turn_bytes(offset: u64, credit_bytes: u64) -> u64 {
    let end = (offset + credit_bytes) / TURN_ALIGN_BYTES * TURN_ALIGN_BYTES;
    match end.checked_sub(offset) {
        Some(bytes) if bytes >= TURN_BYTES_MIN => bytes,
        _ => credit_bytes,
    }
}

/// An extent of `bytes` on the average, in whole segments: a stream writes no less at once, and the rest of
/// one would lie there. What is cut off is in `rest_bytes` for the next extent, or weights would be off by
/// it.
pub(super) fn whole_segments(bytes: u64, rest_bytes: &mut u64) -> u64 {
    let sum_bytes = bytes + *rest_bytes;
    let whole_bytes = sum_bytes / SEGMENT_BYTES * SEGMENT_BYTES;
    *rest_bytes = sum_bytes - whole_bytes;
    whole_bytes
}

impl Device {
    pub(super) fn new(seeks: bool, floor_bytes: u64, now: Duration) -> Self {
        Self {
            charged_bytes: 0,
            streams: 0,
            weight_max: 0,
            busy_streams: 0,
            busy_weights: 0,
            rate: DrainRate::new(),
            health: Health::new(floor_bytes, now),
            seeks,
            is_seekless: false,
            line: VecDeque::new(),
            turn: None,
            stuck_bytes: 0,
            hold: Hold::Device,
            waits_for_pool: None,
        }
    }

    /// Most bytes that it may hold now.
    pub(super) fn limit_bytes(&self, pool: Pool) -> u64 {
        let most = pool.device_limit_bytes();
        match self.health.state() {
            State::Healthy => self.formula_bytes(pool),
            State::Starting { limit_bytes } | State::Recovering { limit_bytes } => {
                limit_bytes.clamp(pool.floor_bytes, most)
            }
            State::Suspect => pool.floor_bytes,
            State::Wedged => 0,
        }
    }

    /// Most bytes that it may hold when it is healthy.
    pub(super) fn formula_bytes(&self, pool: Pool) -> u64 {
        let own = self.rate.bytes_in_ms(LIMIT_MS);
        own.min(pool.device_limit_bytes()).max(pool.floor_bytes)
    }

    /// What a stream may be granted now, of which so much is charged while it is stuck. What the other
    /// stuck streams hold is beside the limit, or they would keep it from showing that the device is
    /// well.
    pub(super) fn room_bytes(&self, pool: Pool, own_stuck_bytes: u64) -> u64 {
        let held_bytes = self.charged_bytes - (self.stuck_bytes - own_stuck_bytes);
        self.limit_bytes(pool).saturating_sub(held_bytes)
    }

    /// How long an extent of a stream of this weight is. One alone, or in its turn: what keeps the device
    /// busy while the next is prepared, a third of the limit at most, for one that is filled and two in
    /// writeback. Several at once: three of each are together a little less than the limit. So streams
    /// wait for their own extents rather than for the budget; and since a device serves them in the
    /// order in which they come, it serves each by the length of its extents, which is by weight.
    pub(super) fn extent_bytes(&self, pool: Pool, weight: u32, is_busy: bool) -> u64 {
        let (mut streams, mut weights) = (self.busy_streams, self.busy_weights);
        if !is_busy {
            streams += 1;
            weights += u64::from(weight);
        }
        let formula_bytes = self.formula_bytes(pool);
        if streams > 1 && !self.takes_turns() {
            let share_bytes = formula_bytes * u64::from(weight) / weights;
            return (share_bytes * EXTENT_PERCENT / 100).clamp(EXTENT_BYTES_MIN, EXTENT_BYTES_MAX);
        }
        let most = (formula_bytes / 3).clamp(EXTENT_BYTES_MIN, EXTENT_BYTES_MAX);
        self.rate.bytes_in_ms(EXTENT_MS).clamp(EXTENT_BYTES_MIN, most)
    }

    /// A stream of this weight has something charged now.
    pub(super) fn becomes_busy(&mut self, weight: u32) {
        self.busy_streams += 1;
        self.busy_weights += u64::from(weight);
    }

    /// It has nothing any more.
    pub(super) fn becomes_idle(&mut self, weight: u32) {
        self.busy_streams -= 1;
        self.busy_weights -= u64::from(weight);
    }

    /// True when its streams take turns.
    pub(super) fn takes_turns(&self) -> bool {
        self.seeks && !self.is_seekless
    }

    /// What a stream of this weight is credited at a visit.
    pub(super) fn quantum_bytes(&self, weight: u32) -> u64 {
        match self.takes_turns() {
            true => TURN_BYTES * u64::from(weight) / u64::from(self.weight_max.max(1)),
            false => QUANTUM_BYTES * u64::from(weight) / 100,
        }
    }

    /// What a stream must have saved up before it is granted anything.
    pub(super) fn least_bytes(&self, need_bytes: u64) -> u64 {
        if self.takes_turns() { need_bytes.max(TURN_BYTES_MIN) } else { need_bytes }
    }

    /// Looks at how fast it is.
    pub(super) fn consider_speed(&mut self) {
        let rate = self.rate.bytes_per_second();
        self.is_seekless = match self.is_seekless {
            true => rate > SEEKLESS_BYTES_PER_SECOND / 2,
            false => rate > SEEKLESS_BYTES_PER_SECOND,
        };
        if !self.takes_turns() {
            self.turn = None;
        }
    }

    /// Ends the turn when its holder has had it and holds nothing any more.
    pub(super) fn pass_turn(&mut self, holder_charged_bytes: u64) {
        let others_wait = |turn: &Turn| self.line.iter().any(|stream| *stream != turn.holder);
        let ends = |turn: &Turn| turn.is_over || turn.left_bytes == 0 && others_wait(turn);
        if holder_charged_bytes == 0 && self.turn.as_ref().is_some_and(ends) {
            self.turn = None;
        }
    }
}
