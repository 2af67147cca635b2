//! How long streams wait for the budget, and how long they may.
//!
//! A wait is measured in what the device did meanwhile, which is independent of how fast it is:
//!
//! 1. What it completed is no more than what it held, and what the others may be granted while this
//!    one saves up for its need: so nobody starves.
//! 2. It had something to do all the time, but for the moments in which a thread wakes up, a turn is
//!    passed on, or the holder of a turn waits for more. Without turns, slow streams may hold extents
//!    that they fill, until these are old. So nothing waits for nothing.
//!
//! Only waits count in which the device answered, and no weight was changed. Where there are more
//! devices than the total has floors for, they wait for each other, and nothing is promised.

use std::time::Duration;

use freemkvd::budget::{State, StreamId, TURN_BYTES};
use freemkvd::stream::drain::{AGE, LOOK};

use crate::world::{Task, World};

/// What a stream of the usual weight is credited at a visit, and the shortest turn: as documented.
const QUANTUM_BYTES: u64 = 2 << 20;
const TURN_BYTES_MIN: u64 = 8 << 20;

/// How long the holder of a turn may not notice that others want it, and what a handoff costs: its
/// patience, and some threads that wake up.
const IDLE: Duration = Duration::from_millis(25);
const HANDOFF_MICROS: u64 = 5000;

/// A stream that waits.
pub struct Waiting {
    device: usize,
    stream: StreamId,
    /// Other devices held what it waited for at some time.
    pub for_pool: bool,
    was_healthy: bool,
    took_turns: bool,
    weight_changes: u64,
    held_bytes: u64,
    then: Moment,
    others: Vec<u32>,
    /// Streams that had joined.
    joined: usize,
}

/// What a device had done at some time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moment {
    at: Duration,
    written_bytes: u64,
    idle: Duration,
}

impl World {
    pub fn moment(&self, device: usize) -> Moment {
        let device = &self.devices[device];
        Moment { at: self.now, written_bytes: device.written_bytes, idle: device.idle(self.now) }
    }
}

/// The longest waits, on devices that answered all the time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Longest {
    pub own: Duration,
    pub turn: Duration,
    pub pool: Duration,
    /// In percent of what they may have been.
    pub bytes_percent: u64,
    /// While nobody used the device, and that in percent of what it may be.
    pub idle: Duration,
    pub idle_percent: u64,
}

fn is_healthy(state: State) -> bool {
    !matches!(state, State::Suspect | State::Wedged)
}

impl Waiting {
    pub fn begin(task: &Task, device: usize, stream: StreamId) -> Self {
        let world = task.world();
        let id = u32::try_from(device).expect("few devices");
        let view = world.books.view(id);
        Self {
            device,
            stream,
            for_pool: false,
            was_healthy: is_healthy(view.state),
            took_turns: view.takes_turns,
            weight_changes: world.books.weight_changes,
            held_bytes: view.charged_bytes,
            then: world.moment(device),
            others: world.books.weights(id, stream).1,
            joined: world.books.joined.len(),
        }
    }

    /// It has got `need_bytes`, or more.
    pub fn end(&self, task: &Task, need_bytes: u64) {
        let mut world = task.world();
        let id = u32::try_from(self.device).expect("few devices");
        let view = world.books.view(id);
        // It may have been granted while it was busy with an extent of its own.
        let granted = world.granted.get(&self.stream).copied();
        let now = granted.filter(|granted| granted.at >= self.then.at);
        let now = now.unwrap_or_else(|| world.moment(self.device));
        if world.devices[self.device].was_sick(self.then.at, world.now)
            || !self.was_healthy
            || !is_healthy(view.state)
            || self.took_turns != view.takes_turns
            || world.books.weight_changes != self.weight_changes
            || !world.books.has_floors()
        {
            return;
        }
        let took = now.at - self.then.at;
        let idle = now.idle - self.then.idle;
        let bytes = now.written_bytes - self.then.written_bytes;
        let most_bytes = self.most_bytes(&world, need_bytes);
        let handoffs = self.visits(&world, need_bytes).1 * (self.others.len() as u64 + 1);
        let most_idle = match self.took_turns {
            true => IDLE + Duration::from_micros(HANDOFF_MICROS * handoffs),
            false => IDLE + 2 * AGE,
        };
        // Whoever waits for the pool notices the end of its own extents when it looks.
        let most_idle = if self.for_pool { most_idle + LOOK } else { most_idle };
        let longest = &mut world.longest;
        let which = match (self.for_pool, view.takes_turns) {
            (true, _) => &mut longest.pool,
            (false, true) => &mut longest.turn,
            (false, false) => &mut longest.own,
        };
        *which = took.max(*which);
        longest.bytes_percent = longest.bytes_percent.max(bytes * 100 / most_bytes);
        let idle_percent = idle.as_nanos() * 100 / most_idle.as_nanos();
        longest.idle_percent = longest.idle_percent.max(u64::try_from(idle_percent).expect("few"));
        longest.idle = longest.idle.max(idle);
        if took > Duration::from_secs(5) || idle > Duration::from_millis(50) {
            world.log(format_args!(
                "{} waited {took:?} for {need_bytes}, {idle:?} of {most_idle:?} for nobody, pool {}, \
                and for {bytes} of {most_bytes}, on {} {view:?}",
                self.stream, self.for_pool, self.device
            ));
        }
        assert!(
            bytes <= most_bytes && idle <= most_idle,
            "{} waited {took:?} for {need_bytes}, {idle:?} of {most_idle:?} for nobody, \
             and for {bytes} of {most_bytes}, on {view:?}",
            self.stream
        );
    }

    /// What the stream has to save up, and how many visits of the line that takes.
    fn visits(&self, world: &World, need_bytes: u64) -> (Quanta, u64) {
        let id = u32::try_from(self.device).expect("few devices");
        let (weight, mut others) = world.books.weights(id, self.stream);
        // Those who left or came meanwhile, too.
        others.extend(&self.others);
        let joined = world.books.joined[self.joined..].iter();
        others.extend(joined.filter(|(device, _)| *device == id).map(|(_, weight)| *weight));
        let quanta = Quanta {
            weight_max: others.iter().copied().max().unwrap_or(0).max(weight),
            least: if self.took_turns { need_bytes.max(TURN_BYTES_MIN) } else { need_bytes },
            others,
            turns: self.took_turns,
        };
        let visits = quanta.least.div_ceil(quanta.of(weight).max(1));
        (quanta, visits)
    }

    /// What others may be granted meanwhile: what the device held, and for each visit of the line that
    /// this stream needs, the quantum of each other, twice where it had saved up.
    fn most_bytes(&self, world: &World, need_bytes: u64) -> u64 {
        let (quanta, visits) = self.visits(world, need_bytes);
        let each = |other: &u32| quanta.of(*other);
        let saved: u64 = quanta.others.iter().map(|other| each(other).max(quanta.least)).sum();
        let in_line: u64 = quanta.others.iter().map(each).sum();
        self.held_bytes + need_bytes + 2 * saved + visits * in_line
    }
}

/// What streams of a device are credited.
struct Quanta {
    weight_max: u32,
    least: u64,
    others: Vec<u32>,
    turns: bool,
}

impl Quanta {
    fn of(&self, weight: u32) -> u64 {
        match self.turns {
            true => TURN_BYTES * u64::from(weight) / u64::from(self.weight_max),
            false => QUANTUM_BYTES * u64::from(weight) / 100,
        }
    }
}
