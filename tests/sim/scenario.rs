//! What a seed stands for: devices, streams, and what happens to them.

use std::time::Duration;

use freemkvd::stream::ladder::{Ground, Rung};

use crate::device::{
    Constant, Device, Disk, FileSystem, Flash, Model, Nfs, Sickness, Sight, serve,
};
use crate::kernel;
use crate::kernel::PAGE_BYTES;
use crate::muxer::{Ending, Kind, Muxer, Work};
use crate::queue::{Queue, Receiver, Sender};
use crate::random::Random;
use crate::rates::Compared;
use crate::world::{Run, Task};
use crate::writer::Writer;
use crate::{account::Account, books::By, file};

const MIB: u64 = 1 << 20;

/// How often the daemon's control loop looks at the time.
const TICK: Duration = Duration::from_millis(500);

/// One stream.
#[derive(Clone, Debug)]
pub struct StreamPlan {
    pub device: usize,
    pub muxer: Muxer,
    pub weight: u32,
    pub window_bytes: u64,
    pub start: Duration,
}

/// One change from outside.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    Limit(u64),
    Weight(u64, u32),
}

/// See the module's documentation.
pub struct Scenario {
    pub seed: u64,
    pub limit_bytes: u64,
    pub devices: Vec<Device>,
    pub streams: Vec<StreamPlan>,
    pub changes: Vec<(Duration, Change)>,
}

impl Scenario {
    /// What the seed says.
    pub fn of(seed: u64) -> Self {
        let mut random = Random::new(seed, 0);
        let device_count = if random.percent(5) { 20 } else { random.between_log(1, 6) };
        let devices = (1..=device_count).map(|at| device(&mut Random::new(seed, at))).collect();
        let limit_bytes = limit_bytes(&mut random);
        let mut left = random.between_log(32, 2048) * MIB;
        let mut streams = Vec::new();
        for _ in 0..random.between_log(1, 24) {
            let device = usize::try_from(random.below(device_count)).expect("a few devices");
            let bytes = (random.between_log(1, 512) * MIB).min(left);
            left -= bytes;
            if bytes > 0 {
                streams.push(stream(&mut random, device, bytes));
            }
        }
        let changes = changes(&mut random, streams.len() as u64);
        Self { seed, limit_bytes, devices, streams, changes }
    }

    /// The world in which it happens.
    pub fn build(self, is_verbose: bool) -> Run {
        let mut run = Run::new(self.seed, self.limit_bytes, is_verbose);
        let devices = self.devices.len();
        run.sim.world().devices = self.devices;
        run.sim.world().rates = vec![Compared::default(); devices];
        for at in 0..devices {
            run.spawn(|task| serve(task, at));
        }
        run.sim.world().writers = self.streams.len();
        for (at, plan) in self.streams.into_iter().enumerate() {
            run.sim.world().log(format_args!("{at}: {plan:?}"));
            run.sim.world().queues.push(Queue::default());
            let random = Random::new(self.seed, 500 + at as u64);
            let start = plan.start;
            run.spawn(|task| write(task, at, plan.clone()));
            run.spawn(|task| async move {
                task.sleep(start).await;
                Work::new(Sender { task, queue: at }, plan.muxer, random).run().await;
            });
        }
        run.spawn(|task| control(task, self.changes));
        run
    }
}

async fn write(task: Task, at: usize, plan: StreamPlan) {
    let queue = Receiver::new(task.clone(), at);
    task.sleep(plan.start).await;
    let (device, stream) = (plan.device, at as u64);
    let seeks = task.world().devices[device].seeks;
    let id = u32::try_from(device).expect("few devices");
    let account = Account::join(task.clone(), stream, id, seeks, plan.weight);
    let kernel = kernel::File::new(task.clone(), device, stream);
    let file = file::File::new(kernel, account, plan.window_bytes);
    let last_write = task.now();
    Writer { task, file, queue, device, last_write }.live().await;
}

/// The daemon's control loop, and whoever changes its settings.
async fn control(task: Task, changes: Vec<(Duration, Change)>) {
    let mut changes = changes.into_iter().peekable();
    loop {
        task.sleep(TICK).await;
        let mut world = task.world();
        let now = world.now;
        for (device, state) in world.change(By::Nobody, |budget, now| budget.tick(now)) {
            world.log(format_args!("device {device} is {state:?}"));
            world.judge(device, state);
        }
        while let Some((_, change)) = changes.next_if(|(at, _)| *at <= now) {
            world.log(format_args!("{change:?}"));
            if let Change::Weight(stream, weight) = change {
                world.books.set_weight(stream, weight);
            }
            world.change(By::Nobody, |budget, now| match change {
                Change::Limit(bytes) => budget.set_limit(bytes, now),
                Change::Weight(stream, weight) => {
                    budget.set_weight(stream, weight);
                }
            });
        }
        world.compare_rates();
    }
}

fn limit_bytes(random: &mut Random) -> u64 {
    random.between_log(8, 512) * MIB
}

fn changes(random: &mut Random, streams: u64) -> Vec<(Duration, Change)> {
    let mut changes = Vec::new();
    let mut at = Duration::ZERO;
    if random.percent(40) {
        for _ in 0..random.between(1, 20) {
            at += random.ms(100, 10_000);
            let change = match random.percent(60) {
                true => Change::Limit(limit_bytes(random)),
                false => Change::Weight(random.below(streams), weight(random)),
            };
            changes.push((at, change));
        }
    }
    changes
}

fn weight(random: &mut Random) -> u32 {
    let weight = if random.percent(50) { 100 } else { random.between_log(10, 1000) };
    u32::try_from(weight).expect("at most 1000")
}

fn stream(random: &mut Random, device: usize, bytes: u64) -> StreamPlan {
    let kind = match random.below(12) {
        0..=5 => Kind::Sequential,
        6..=7 => Kind::Clusters(random.between(30, 52)),
        8 => Kind::Sweep,
        9..=10 => Kind::Patches,
        _ => Kind::Mp4,
    };
    let paced = random.percent(60);
    let ending = match random.below(10) {
        0 => Ending::Gone(random.between(1, 99)),
        1 => Ending::Aborted(random.between(1, 99)),
        _ => Ending::Finished,
    };
    let muxer = Muxer {
        kind,
        bytes,
        bytes_per_second: paced.then(|| random.between(14, 126) * 1_000_000),
        pauses: if random.percent(20) { 2 } else { 0 },
        syncs: if random.percent(15) { 3 } else { 0 },
        ending,
    };
    let start = if random.percent(50) { Duration::ZERO } else { random.ms(0, 8000) };
    let window_bytes = random.pick(&[0, 8, 64, 64]) * MIB;
    StreamPlan { device, muxer, weight: weight(random), window_bytes, start }
}

/// A file system on Linux that does everything.
pub const EXT4: FileSystem = FileSystem {
    ground: Ground {
        by_range: true,
        uncached: true,
        direct_align_bytes: None,
        trusted_by_range: true,
        in_memory: false,
        page_bytes: PAGE_BYTES,
    },
    pinned: None,
    refuses_uncached: false,
    ignores_ranges: false,
    sight: Sight::Exact,
};

fn local(random: &mut Random) -> FileSystem {
    let mut file_system = EXT4;
    match random.below(10) {
        // btrfs
        0..=1 => file_system.refuses_uncached = true,
        // An old kernel
        2 => {
            file_system.ground.uncached = false;
            file_system.sight = Sight::Missing;
        }
        // overlayfs
        3 => {
            file_system.refuses_uncached = true;
            file_system.ground.trusted_by_range = false;
            file_system.ignores_ranges = true;
            file_system.sight = Sight::Blind;
        }
        // mergerfs with a cache of its own: it counts, and does nothing
        4 => {
            file_system.refuses_uncached = true;
            file_system.ground.trusted_by_range = false;
            file_system.ignores_ranges = true;
        }
        5 => {
            file_system.pinned = Some(Rung::Direct);
            file_system.ground.direct_align_bytes = Some(PAGE_BYTES);
        }
        6 => file_system.pinned = Some(random.pick(&[Rung::Fdatasync, Rung::SyncFileRange])),
        _ => {}
    }
    file_system
}

fn memory() -> FileSystem {
    let mut file_system = EXT4;
    file_system.ground.in_memory = true;
    file_system
}

fn nfs(random: &mut Random) -> FileSystem {
    let mut file_system = EXT4;
    file_system.ground.trusted_by_range = false;
    file_system.refuses_uncached = true;
    file_system.ground.by_range = random.percent(50);
    file_system
}

fn device(random: &mut Random) -> Device {
    let (model, file_system, seeks): (Box<dyn Model>, _, _) = match random.below(10) {
        0..=1 => {
            let bytes_per_second = random.between_log(4, 4000) * 1_000_000;
            let latency = Duration::from_micros(random.between_log(10, 5000));
            (Box::new(Constant { bytes_per_second, latency }), local(random), random.percent(30))
        }
        2..=4 => {
            let size = random.between_log(16, 8192) << 30;
            (Box::new(Disk::new(size, random.below(size))), local(random), true)
        }
        5..=6 => {
            let bytes_per_second = random.between_log(200, 3000) * 1_000_000;
            let cache_bytes = random.between_log(64, 8192) * MIB;
            let seeks = random.percent(20);
            (Box::new(Flash::new(bytes_per_second, cache_bytes)), local(random), seeks)
        }
        7..=8 => {
            let model = Nfs {
                bytes_per_second: random.between_log(5, 1000) * 1_000_000,
                commit: random.ms(1, 50),
                storms: random.pick(&[0, 0, 5, 30]),
                random: Random::new(random.below(u64::MAX), 1),
            };
            // Nobody knows what is behind it.
            (Box::new(model), nfs(random), true)
        }
        _ => {
            let latency = Duration::ZERO;
            let bytes_per_second = 4_000_000_000;
            (Box::new(Constant { bytes_per_second, latency }), memory(), false)
        }
    };
    let mut device = Device::new(model, file_system, seeks);
    device.queue_bytes_max = random.between_log(8, 256) * MIB;
    if random.percent(25) {
        device.sickness = sickness(random);
    }
    device
}

fn sickness(random: &mut Random) -> Vec<Sickness> {
    let mut sickness = Vec::new();
    let mut at = Duration::ZERO;
    for _ in 0..random.between(1, 3) {
        at += random.ms(10, 20_000);
        // A hiccup, a disk that spins up, a server that pauses or is restarted.
        let time =
            random.pick(&[(100, 1900), (2000, 12_000), (10_000, 300_000), (30_000, 600_000)]);
        let until = at + random.ms(time.0, time.1);
        sickness.push(Sickness { from: at, until, is_frozen: random.percent(50) });
        at = until;
    }
    sickness
}
