//! A device that dies is a matter of its own streams. Each seed runs twice, with and without its death;
//! what the streams of the other devices write meanwhile, and how long their muxers wait, must be equal.

use std::time::Duration;

use crate::device::{Constant, Device, Disk, Flash, Model, Nfs, Sickness};
use crate::fairness::BACKLOGGED;
use crate::muxer::Muxer;
use crate::random::Random;
use crate::scenario::{EXT4, Scenario, StreamPlan};

const MIB: u64 = 1 << 20;

/// By how much the longest wait of a stream may grow.
const EXTRA_MAX: Duration = Duration::from_millis(50);

const DEATH: Duration = Duration::from_secs(5);
const HEALING: Duration = Duration::from_secs(65);

/// Of how many streams is this the world.
struct Seen {
    /// Written between death and healing.
    written_bytes: Vec<u64>,
    waited_max: Vec<Duration>,
}

fn device(random: &mut Random) -> Device {
    let mut file_system = EXT4;
    file_system.refuses_uncached = random.percent(50);
    let (model, seeks): (Box<dyn Model>, _) = match random.below(4) {
        0 => {
            let bytes_per_second = random.between(150, 1000) * 1_000_000;
            (Box::new(Constant { bytes_per_second, latency: Duration::from_micros(100) }), false)
        }
        1 => (Box::new(Flash::new(random.between(400, 3000) * 1_000_000, 1 << 40)), false),
        2 => (Box::new(Disk::new(4 << 40, random.below(2 << 40))), true),
        _ => {
            file_system.ground.by_range = false;
            let model = Nfs {
                bytes_per_second: random.between(110, 1000) * 1_000_000,
                commit: random.ms(1, 10),
                storms: 0,
                random: Random::new(1, 1),
            };
            (Box::new(model), true)
        }
    };
    Device::new(model, file_system, seeks)
}

/// Three devices; the first of them may die. Its streams are `of_the_dead`.
fn run(seed: u64, dies: bool, of_the_dead: &mut usize) -> Seen {
    let mut random = Random::new(seed, 7);
    let mut devices: Vec<_> = (0..3).map(|_| device(&mut random)).collect();
    if dies {
        let is_frozen = random.percent(50);
        devices[0].sickness = vec![Sickness { from: DEATH, until: HEALING, is_frozen }];
    }
    let mut random = Random::new(seed, 8);
    let mut streams = Vec::new();
    for device in 0..3 {
        // Paced ones load no device by more than some 80 percent.
        let is_paced = random.percent(70);
        for _ in 0..random.between(1, 3) {
            let rate = random.between(10, 30) * 1_000_000;
            let bytes_per_second = is_paced.then_some(rate);
            streams.push(StreamPlan {
                device,
                muxer: Muxer { bytes_per_second, ..BACKLOGGED },
                weight: 100,
                window_bytes: 64 * MIB,
                start: random.ms(0, 1000),
            });
        }
        if device == 0 {
            *of_the_dead = streams.len();
        }
    }
    let limit_bytes = random.pick(&[128, 256, 512]) * MIB;
    let scenario = Scenario { seed, limit_bytes, devices, streams, changes: Vec::new() };
    let mut run = scenario.build(false);
    run.until(DEATH);
    let before: Vec<_> = run.sim.world().queues.iter().map(|queue| queue.written_bytes).collect();
    run.until(HEALING);
    let world = run.sim.world();
    let since = world.queues.iter().zip(before).map(|(queue, before)| queue.written_bytes - before);
    Seen {
        written_bytes: since.collect(),
        waited_max: world.queues.iter().map(|queue| queue.waited_max).collect(),
    }
}

#[test]
#[cfg_attr(debug_assertions, ignore = "minutes without optimisation; `.ci/run simulation`")]
fn a_device_that_dies_is_not_noticed_on_the_others() {
    let mut worst = (1000, Duration::ZERO);
    let mut broken = Vec::new();
    for seed in crate::seeds::number("SIM_FIRST").unwrap_or(0)
        ..crate::seeds::number("SIM_ISOLATION").unwrap_or(20)
    {
        let mut first = 0;
        let (without, with) = (run(seed, false, &mut first), run(seed, true, &mut first));
        let sum = |seen: &Seen| seen.written_bytes[first..].iter().sum::<u64>();
        let percent = sum(&with) * 1000 / sum(&without);
        let waits = with.waited_max[first..].iter().zip(&without.waited_max[first..]);
        let extra = waits.map(|(with, without)| with.saturating_sub(*without)).max();
        let extra = extra.expect("some streams");
        worst = (worst.0.min(percent), worst.1.max(extra));
        if percent < 990 || extra > EXTRA_MAX {
            broken.push(seed);
            println!("seed {seed}: {percent} per mille, {extra:?} longer");
            println!("{:?}\n{:?}", with.written_bytes, without.written_bytes);
        }
    }
    println!("worst: {} per mille, {:?} longer", worst.0, worst.1);
    assert!(broken.is_empty(), "the others noticed it in the worlds {broken:?}");
}
