//! Streams of one device share it by their weights, whatever kind of device it is.

use std::time::Duration;

use crate::device::{Constant, Device, Disk, Flash, Model, Nfs};
use crate::muxer::{Ending, Kind, Muxer};
use crate::random::Random;
use crate::scenario::{EXT4, Scenario, StreamPlan};

const MIB: u64 = 1 << 20;

/// Known devices are not new: shares count from here.
const WARM: Duration = Duration::from_secs(3);

/// A muxer that always has more.
pub const BACKLOGGED: Muxer = Muxer {
    kind: Kind::Sequential,
    bytes: 1 << 40,
    bytes_per_second: None,
    pauses: 0,
    syncs: 0,
    ending: Ending::Finished,
};

fn devices(seed: u64) -> Vec<(&'static str, Device)> {
    let constant = |mb: u64| -> Box<dyn Model> {
        Box::new(Constant {
            bytes_per_second: mb * 1_000_000,
            latency: Duration::from_micros(100),
        })
    };
    let nfs = Nfs {
        bytes_per_second: 110_000_000,
        commit: Duration::from_millis(10),
        storms: 0,
        random: Random::new(seed, 1),
    };
    let mut nfs_file_system = EXT4;
    nfs_file_system.refuses_uncached = true;
    nfs_file_system.ground.by_range = false;
    vec![
        ("constant, 400 MB/s", Device::new(constant(400), EXT4, false)),
        ("constant, 60 MB/s", Device::new(constant(60), EXT4, false)),
        ("flash", Device::new(Box::new(Flash::new(2_000_000_000, 8 << 30)), EXT4, false)),
        ("disk", Device::new(Box::new(Disk::new(4 << 40, 0)), EXT4, true)),
        ("nfs", Device::new(Box::new(nfs), nfs_file_system, true)),
    ]
}

/// What streams of these weights write in `span`, in bytes.
fn shares(seed: u64, device: Device, weights: &[u32], span: Duration) -> Vec<f64> {
    let plan = |weight: &u32| StreamPlan {
        device: 0,
        muxer: BACKLOGGED,
        weight: *weight,
        window_bytes: 64 * MIB,
        start: Duration::ZERO,
    };
    let scenario = Scenario {
        seed,
        limit_bytes: 512 * MIB,
        devices: vec![device],
        streams: weights.iter().map(plan).collect(),
        changes: Vec::new(),
    };
    let mut run = scenario.build(std::env::var_os("SIM_VERBOSE").is_some());
    let written = |run: &crate::world::Run| -> Vec<u64> {
        run.sim.world().queues.iter().map(|queue| queue.written_bytes).collect()
    };
    run.until(WARM);
    let before = written(&run);
    run.until(WARM + span);
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    let share = |(after, before): (u64, u64)| (after - before) as f64;
    written(&run).into_iter().zip(before).map(share).collect()
}

#[test]
fn equal_streams_share_a_device_equally() {
    for streams in [2, 4, 8] {
        for (name, device) in devices(1) {
            let shares = shares(1, device, &vec![100; streams], Duration::from_secs(10));
            let sum: f64 = shares.iter().sum();
            let squares: f64 = shares.iter().map(|share| share * share).sum();
            #[expect(clippy::cast_precision_loss, reason = "a few")]
            let jain = sum * sum / squares / streams as f64;
            println!("{streams} streams, {name}: Jain {jain:.4}, {:.0} MB/s", sum / 1e7);
            assert!(jain >= 0.98, "{name}: {shares:?}");
        }
    }
}

#[test]
fn weights_are_kept_within_five_percent() {
    let mut broken = Vec::new();
    for weights in [&[50, 100, 200, 400][..], &[100, 400], &[100, 200, 300]] {
        for (name, mut device) in devices(2) {
            device.queue_bytes_max = 1 << 30;
            // Turns are long: some dozens of each are needed for a share.
            let shares = shares(2, device, weights, Duration::from_secs(120));
            let sum: f64 = shares.iter().sum();
            let all = f64::from(weights.iter().sum::<u32>());
            let ratio = |(share, weight): (&f64, &u32)| share / sum * all / f64::from(*weight);
            let ratios: Vec<_> = shares.iter().zip(weights).map(ratio).collect();
            println!("{weights:?}, {name}: {ratios:.3?}, {:.0} MB/s", sum / 12e7);
            if !ratios.iter().all(|ratio| (0.95..=1.05).contains(ratio)) {
                broken.push((weights, name, ratios));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}
