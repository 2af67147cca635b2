//! How long streams wait for the budget, and how long they may.
//!
//! A wait is measured in what the device did meanwhile, which is independent of how fast it is:
//!
//! 1. What it completed is no more than what it held, and what the others may be granted while this
//!    one saves up for its need: so nobody starves.
//! 2. It had something to do all the time, but for the moments in which a thread wakes up, a turn is
//!    passed on, or the holder of a turn waits for more: so nothing waits for nothing.
//!
//! Only waits count in which the device answered, and no weight was changed.

use std::time::Duration;

use freemkvd::budget::{State, StreamId, TURN_BYTES};

use crate::world::{Task, World};

/// What a stream of the usual weight is credited at a visit, and the shortest turn: as documented.
const QUANTUM_BYTES: u64 = 2 << 20;
const TURN_BYTES_MIN: u64 = 8 << 20;

/// A stream that waits.
pub struct Waiting {
    device: usize,
    stream: StreamId,
    begun: Duration,
    /// Other devices held what it waited for at some time.
    pub for_pool: bool,
    was_healthy: bool,
    took_turns: bool,
    weight_changes: u64,
    written_bytes: u64,
    held_bytes: u64,
    idle: Duration,
    others: Vec<u32>,
}

/// The longest waits, on devices that answered all the time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Longest {
    pub own: Duration,
    pub turn: Duration,
    pub pool: Duration,
    /// In percent of what they may have been.
    pub bytes_percent: u64,
    /// While nobody used the device.
    pub idle: Duration,
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
            begun: world.now,
            for_pool: false,
            was_healthy: is_healthy(view.state),
            took_turns: view.takes_turns,
            weight_changes: world.books.weight_changes,
            written_bytes: world.devices[device].written_bytes,
            held_bytes: view.charged_bytes,
            idle: world.devices[device].idle(world.now),
            others: world.books.weights(id, stream).1,
        }
    }

    /// It has got `need_bytes`, or more.
    pub fn end(&self, task: &Task, need_bytes: u64) {
        let mut world = task.world();
        let now = world.now;
        let id = u32::try_from(self.device).expect("few devices");
        let view = world.books.view(id);
        let device = &world.devices[self.device];
        if device.was_sick(self.begun, now)
            || !self.was_healthy
            || !is_healthy(view.state)
            || self.took_turns != view.takes_turns
            || world.books.weight_changes != self.weight_changes
        {
            return;
        }
        let took = now - self.begun;
        let idle = device.idle(now) - self.idle;
        let bytes = device.written_bytes - self.written_bytes;
        let most_bytes = self.most_bytes(&world, need_bytes);
        let longest = &mut world.longest;
        let which = match (self.for_pool, view.takes_turns) {
            (true, _) => &mut longest.pool,
            (false, true) => &mut longest.turn,
            (false, false) => &mut longest.own,
        };
        *which = took.max(*which);
        longest.bytes_percent = longest.bytes_percent.max(bytes * 100 / most_bytes);
        longest.idle = longest.idle.max(idle);
        if took > Duration::from_secs(5) || bytes > most_bytes || idle > Duration::from_millis(100)
        {
            let stream = self.stream;
            world.log(format_args!(
                "{stream} waited {took:?} for {need_bytes}, {idle:?} of it for nobody, \
                 and for {bytes} of {most_bytes}, on {view:?}"
            ));
        }
    }

    /// What others may be granted meanwhile: what the device held, and for each visit of the line that
    /// this stream needs, the quantum of each other, twice where it had saved up.
    fn most_bytes(&self, world: &World, need_bytes: u64) -> u64 {
        let id = u32::try_from(self.device).expect("few devices");
        let (weight, mut others) = world.books.weights(id, self.stream);
        // Those who left meanwhile, too.
        others.extend(&self.others);
        let weight_max = others.iter().copied().max().unwrap_or(0).max(weight);
        let (quantum_of, least): (Box<dyn Fn(u32) -> u64>, _) = match self.took_turns {
            true => {
                let of = move |weight| TURN_BYTES * u64::from(weight) / u64::from(weight_max);
                (Box::new(of), need_bytes.max(TURN_BYTES_MIN))
            }
            false => (Box::new(|weight| QUANTUM_BYTES * u64::from(weight) / 100), need_bytes),
        };
        let visits = least.div_ceil(quantum_of(weight).max(1));
        let saved: u64 = others.iter().map(|other| quantum_of(*other).max(least)).sum();
        let each: u64 = others.iter().map(|other| quantum_of(*other)).sum();
        self.held_bytes + need_bytes + 2 * saved + visits * each
    }
}
