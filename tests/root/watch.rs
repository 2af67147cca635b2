//! A daemon that is looked at all the time: what its status says, how long that takes, and how its streams come
//! on meanwhile.

use std::time::{Duration, Instant};

use freemkvd_proto::status::{Device, Status, Stream};
use freemkvd_tests::daemon::Daemon;

use super::support::{Muxer, written_bytes};

const EVERY: Duration = Duration::from_millis(20);

/// One status report: when it was asked for, and how long it took.
pub(crate) struct Sample {
    pub(crate) at: Instant,
    pub(crate) took: Duration,
    pub(crate) status: Status,
}

pub(crate) fn watch(daemon: &Daemon, lasts: Duration) -> Vec<Sample> {
    let end = Instant::now() + lasts;
    let mut samples = Vec::new();
    while Instant::now() < end {
        let at = Instant::now();
        let status = daemon.status();
        samples.push(Sample { at, took: at.elapsed(), status });
        std::thread::sleep(EVERY);
    }
    samples
}

/// Bytes per second of all of `muxers` together, and the longest time in which none of them wrote.
pub(crate) fn progress(samples: &[Sample], muxers: &[Muxer]) -> (f64, Duration) {
    let sum = |sample: &Sample| written_bytes(&sample.status, muxers).iter().sum::<u64>();
    let (first, last) = (samples.first().unwrap(), samples.last().unwrap());
    let rate = (sum(last) - sum(first)) as f64 / (last.at - first.at).as_secs_f64();
    let (mut since, mut longest) = (first, Duration::ZERO);
    for sample in samples {
        if sum(sample) > sum(since) {
            since = sample;
        }
        longest = longest.max(sample.at - since.at);
    }
    (rate, longest)
}

pub(crate) fn device<'a>(status: &'a Status, filesystem: &str) -> &'a Device {
    let found =
        status.devices.iter().find(|device| device.filesystem.as_deref() == Some(filesystem));
    found.unwrap_or_else(|| panic!("no {filesystem}: {status:?}"))
}

pub(crate) fn blocked_on<'a>(
    status: &'a Status,
    filesystem: &str,
) -> impl Iterator<Item = &'a Stream> {
    let id = device(status, filesystem).id.clone();
    status.streams.iter().filter(move |s| s.device.as_ref() == Some(&id) && s.blocked_in.is_some())
}

/// How long the reports took: the 99th percentile, and the longest.
pub(crate) fn status_latency(samples: &[Sample]) -> (Duration, Duration) {
    let mut took: Vec<_> = samples.iter().map(|sample| sample.took).collect();
    took.sort();
    (took[took.len() * 99 / 100], took[took.len() - 1])
}
