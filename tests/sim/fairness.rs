//! Streams of one device share it by their weights, whatever kind of device it is.

use std::time::Duration;

use crate::device::{Constant, Device, Disk, Flash, Nfs};
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

/// One of each kind, and how far from its weight a stream may be there, in percent.
fn devices(seed: u64) -> Vec<(&'static str, Device, f64)> {
    let constant = |mb: u64| {
        let latency = Duration::from_micros(100);
        Device::new(Box::new(Constant { bytes_per_second: mb * 1_000_000, latency }), EXT4, false)
    };
    let nfs = |mb: u64| {
        let bytes_per_second = mb * 1_000_000;
        let (commit, random) = (Duration::from_millis(10), Random::new(seed, 1));
        Box::new(Nfs { bytes_per_second, commit, storms: 0, random })
    };
    let mut nfs_file_system = EXT4;
    nfs_file_system.refuses_uncached = true;
    nfs_file_system.ground.by_range = false;
    let flash = Flash::new(2_000_000_000, 8 << 30);
    let disk = Disk::new(4 << 40, 0);
    let mut devices = vec![
        ("constant, 400 MB/s", constant(400), 5.0),
        ("constant, 60 MB/s", constant(60), 5.0),
        ("flash", Device::new(Box::new(flash), EXT4, false), 7.0),
        ("disk", Device::new(Box::new(disk), EXT4, true), 5.0),
        ("nfs, 110 MB/s", Device::new(nfs(110), nfs_file_system, true), 5.0),
        ("nfs, 1000 MB/s", Device::new(nfs(1000), nfs_file_system, true), 40.0),
    ];
    for (_, device, _) in &mut devices {
        // Where this is less than the device may hold, it is shared before the budget is.
        device.queue_bytes_max = 1 << 30;
    }
    devices
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
    let mut run = scenario.build(false);
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
        for (name, device, _) in devices(1) {
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

/// Turns are long, and some dozens of each are needed for a share. Without turns, shares are by the
/// length of extents; these have at least 1 MiB, so that on a slow device the lightest of several streams
/// has more than its share: a third at 1 to 3, twice as much at 1 to 8. Where whole files are synced, and nobody takes
/// turns since it is too fast for a disk, each has one extent at a time, and weights are kept roughly.
#[test]
#[cfg_attr(debug_assertions, ignore = "a minute without optimisation; `.ci/run simulation`")]
fn weights_are_kept() {
    let mut broken = Vec::new();
    for weights in [&[50, 100, 200, 400][..], &[100, 400], &[100, 200, 300]] {
        for (name, device, percent) in devices(2) {
            let shares = shares(2, device, weights, Duration::from_secs(120));
            let sum: f64 = shares.iter().sum();
            let all = f64::from(weights.iter().sum::<u32>());
            let ratio = |(share, weight): (&f64, &u32)| share / sum * all / f64::from(*weight);
            let ratios: Vec<_> = shares.iter().zip(weights).map(ratio).collect();
            println!("{weights:?}, {name}: {ratios:.3?}, {:.0} MB/s", sum / 12e7);
            let is_kept = |ratio: &f64| (ratio - 1.0).abs() * 100.0 <= percent;
            if !(ratios.iter().all(is_kept) || name.contains("60") && weights.len() > 2) {
                broken.push((weights, name, ratios));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}
