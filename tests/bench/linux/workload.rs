//! What is written: one job for each stream.

use std::fmt;

use clap::ValueEnum;
use freemkvd_tests::trace::Kind;
use serde::Serialize;

use super::spec::Job;

/// A workload of the benchmark. T1 to T9 and M1 to M4 are what rip hosts do; the others show one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Workload {
    /// One sequential stream, as fast as it goes
    Seq1,
    /// Four sequential streams, as fast as they go
    Seq4,
    /// One stream of writes of 4 KiB
    Small,
    /// T1, and the mix M1: a UHD disc to MKV, as fast as it goes
    #[value(alias = "m1")]
    T1,
    /// T2: a Blu-ray disc to MKV
    T2,
    /// T3: a DVD to MKV
    T3,
    /// T4: a sweep over a damaged disc
    T4,
    /// T5: a patch pass over the image of such a sweep
    T5,
    /// T6: a Blu-ray disc to MP4
    T6,
    /// T9: a mover that reads and writes 4 MiB
    T9,
    /// Three sweeps at 15 MB/s, a UHD disc at 100 MB/s, and a mover
    M2,
    /// Four DVDs
    M3,
    /// A sweep over a damaged disc at 15 MB/s and a UHD disc at 100 MB/s
    M4,
    /// Four streams at 72 MB/s, which is as fast as drives get, in writes of 64 KiB
    Paced4,
    /// Four streams that load the device to 80 %, in writes of 64 KiB
    Load80,
    /// Four streams of the weights 50, 100, 150 and 200, as fast as they go; needs some GiB
    Weights,
    /// All of them
    All,
}

/// The speed of the fastest Blu-ray drive, in bytes per second.
const DRIVE_BYTES_PER_SECOND: u64 = 72_000_000;
/// What a slim UHD drive sweeps at, and what a muxer that reads from a disk makes.
const SWEEP_BYTES_PER_SECOND: u64 = 15_000_000;
const MUX_BYTES_PER_SECOND: u64 = 100_000_000;
/// Part of the device's speed that `load80` offers.
const LOAD: f64 = 0.8;
/// What muxers on other hosts write at once, between a frame and a cluster.
const PACED_WRITE_BYTES: u64 = 64 << 10;
const SMALL_WRITE_BYTES: u64 = 4 << 10;

/// From half to twice the usual.
const WEIGHTS: [u32; 4] = [50, 100, 150, 200];

/// How much, and on what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// Bytes of all streams together.
    pub(crate) bytes: u64,
    /// Bytes of a write of the sequential workloads.
    pub(crate) write_bytes: u64,
    /// What the device can do.
    pub(crate) device_bytes_per_second: f64,
}

/// One stream: what it writes, and at most how fast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Stream {
    pub(crate) job: Job,
    pub(crate) pace_bytes_per_second: Option<f64>,
    /// What only a daemon can give it.
    pub(crate) weight: Option<u32>,
}

impl Workload {
    /// Those that run unless told otherwise.
    pub(crate) const USUAL: [Self; 8] = [
        Self::Seq1,
        Self::Seq4,
        Self::Small,
        Self::T1,
        Self::M3,
        Self::Paced4,
        Self::Load80,
        Self::Weights,
    ];
    pub(crate) const QUICK: [Self; 3] = [Self::Seq1, Self::Seq4, Self::T1];

    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// What stands behind the name.
    pub(crate) fn expand(self) -> Vec<Self> {
        let each = || Self::value_variants().iter().copied().filter(|one| *one != Self::All);
        if self == Self::All { each().collect() } else { vec![self] }
    }

    /// How fast the device is has to be known before.
    pub(crate) fn needs_speed(self) -> bool {
        self == Self::Load80
    }

    /// Its streams, in the order of their seeds.
    pub(crate) fn streams(self, scale: &Scale) -> Vec<Stream> {
        let Scale { bytes, write_bytes, device_bytes_per_second } = *scale;
        let free = |job| Stream { job, pace_bytes_per_second: None, weight: None };
        let paced =
            |job, pace: u64| Stream { pace_bytes_per_second: Some(pace as f64), ..free(job) };
        let quarter = |write_bytes| Job::Sequential { bytes: bytes / 4, write_bytes };
        match self {
            Self::Seq1 => vec![free(Job::Sequential { bytes, write_bytes })],
            Self::Seq4 => vec![free(quarter(write_bytes)); 4],
            Self::Small => vec![free(Job::Sequential { bytes, write_bytes: SMALL_WRITE_BYTES })],
            Self::T1 => vec![free(trace(Kind::Uhd, bytes))],
            Self::T2 => vec![free(trace(Kind::Bd, bytes))],
            Self::T3 => vec![free(trace(Kind::Dvd, bytes))],
            Self::T4 => vec![free(trace(Kind::Sweep, bytes))],
            Self::T5 => vec![free(trace(Kind::Patch, bytes))],
            Self::T6 => vec![free(trace(Kind::Mp4, bytes))],
            Self::T9 => vec![free(Job::Mover { bytes })],
            Self::M2 => {
                // Shares that take about as long as each other, if the mover gets as much as the disc.
                let part =
                    |rate| part(bytes, rate, 3 * SWEEP_BYTES_PER_SECOND + 2 * MUX_BYTES_PER_SECOND);
                let sweep = trace(Kind::Sweep, part(SWEEP_BYTES_PER_SECOND));
                let mux = trace(Kind::Uhd, part(MUX_BYTES_PER_SECOND));
                let mut streams = vec![paced(sweep, SWEEP_BYTES_PER_SECOND); 3];
                streams.push(paced(mux, MUX_BYTES_PER_SECOND));
                streams.push(free(Job::Mover { bytes: part(MUX_BYTES_PER_SECOND) }));
                streams
            }
            Self::M3 => vec![free(trace(Kind::Dvd, bytes / 4)); 4],
            Self::M4 => {
                let part = |rate| part(bytes, rate, SWEEP_BYTES_PER_SECOND + MUX_BYTES_PER_SECOND);
                let sweep = trace(Kind::Sweep, part(SWEEP_BYTES_PER_SECOND));
                let mux = trace(Kind::Uhd, part(MUX_BYTES_PER_SECOND));
                vec![paced(sweep, SWEEP_BYTES_PER_SECOND), paced(mux, MUX_BYTES_PER_SECOND)]
            }
            Self::Paced4 => vec![paced(quarter(PACED_WRITE_BYTES), DRIVE_BYTES_PER_SECOND); 4],
            Self::Load80 => {
                let pace = LOAD * device_bytes_per_second / 4.0;
                let job = quarter(PACED_WRITE_BYTES);
                vec![Stream { pace_bytes_per_second: Some(pace), ..free(job) }; 4]
            }
            Self::Weights => {
                // In proportion, so that they end at the same time.
                let part =
                    |weight| bytes * u64::from(weight) / WEIGHTS.map(u64::from).iter().sum::<u64>();
                let job = |weight| Job::Sequential { bytes: part(weight), write_bytes };
                WEIGHTS.map(|weight| Stream { weight: Some(weight), ..free(job(weight)) }).to_vec()
            }
            Self::All => Vec::new(),
        }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name())
    }
}

fn trace(kind: Kind, bytes: u64) -> Job {
    Job::Trace { kind, content_seconds: bytes as f64 / kind.bytes_per_second() as f64 }
}

/// The part of `bytes` that a stream of `rate` writes while all together write `total_rate`.
fn part(bytes: u64, rate: u64, total_rate: u64) -> u64 {
    // In MB/s, so that the product of a size and a rate fits.
    bytes * (rate / 1_000_000) / (total_rate / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_together_write_what_was_asked_for() {
        let scale = Scale { bytes: 1 << 30, write_bytes: 4 << 20, device_bytes_per_second: 100e6 };
        for workload in Workload::All.expand() {
            let bytes: f64 = workload
                .streams(&scale)
                .iter()
                .map(|stream| match stream.job {
                    Job::Sequential { bytes, .. } | Job::Mover { bytes } => bytes as f64,
                    Job::Trace { kind, content_seconds } => {
                        kind.bytes_per_second() as f64 * content_seconds
                    }
                })
                .sum();
            assert!((bytes / (1 << 30) as f64 - 1.0).abs() < 0.01, "{workload}: {bytes}");
        }
    }

    #[test]
    fn four_streams_load_a_device_to_four_fifths() {
        let scale = Scale { bytes: 1 << 30, write_bytes: 1, device_bytes_per_second: 100e6 };
        let paces = Workload::Load80.streams(&scale);
        let sum: f64 = paces.iter().filter_map(|stream| stream.pace_bytes_per_second).sum();
        assert!((sum - 80e6).abs() < 1.0);
    }
}
