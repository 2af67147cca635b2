//! The scale that nobody has at home: a thousand streams on a hundred devices.

use std::time::Duration;

use crate::device::{Constant, Device, Disk, Model, Sickness};
use crate::fairness::BACKLOGGED;
use crate::muxer::Muxer;
use crate::random::Random;
use crate::scenario::{EXT4, Scenario, StreamPlan};

const MIB: u64 = 1 << 20;

#[test]
fn a_thousand_streams_on_a_hundred_devices() {
    let mut random = Random::new(1, 1);
    let device = |at: u64| {
        let (model, seeks): (Box<dyn Model>, _) = match at % 2 {
            0 => (Box::new(Disk::new(4 << 40, 0)), true),
            _ => {
                let latency = Duration::from_micros(100);
                (Box::new(Constant { bytes_per_second: 500_000_000, latency }), false)
            }
        };
        let mut device = Device::new(model, EXT4, seeks);
        if at % 10 == 3 {
            let until = Duration::from_secs(60);
            let from = Duration::from_secs(2);
            device.sickness = vec![Sickness { from, until, is_frozen: at % 20 == 3 }];
        }
        device
    };
    let mut plan = |at: usize| StreamPlan {
        device: at % 100,
        muxer: Muxer { bytes: 8 * MIB, bytes_per_second: Some(2_000_000), ..BACKLOGGED },
        weight: 100,
        window_bytes: 8 * MIB,
        start: random.ms(0, 2000),
    };
    let scenario = Scenario {
        seed: 1,
        limit_bytes: 512 * MIB,
        devices: (0..100).map(device).collect(),
        streams: (0..1000).map(&mut plan).collect(),
        changes: Vec::new(),
    };
    let mut run = scenario.build(false);
    assert!(run.until(Duration::from_secs(600)), "some have not ended");
    let world = run.sim.world();
    println!("{} steps, {:?} of virtual time, {:?}", world.steps, world.now, world.longest);
}
