//! From what was seen to figures, and from the figures of repeated runs to their middle.

use std::collections::BTreeMap;

use serde::Serialize;

use super::contender::Contender;
use super::dirty::Asked;
use super::figures::{Figure, Figures, GIB, MB, MIB};
use super::run::Ran;
use super::spec::{Job, Served, Spec, Told};
use super::stats::{Spread, jain, quantiles, weight_error_percent};
use super::workload::Workload;

/// One run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Record {
    pub(crate) place: String,
    pub(crate) workload: Workload,
    pub(crate) contender: Contender,
    /// Which of the repeats, from 1.
    pub(crate) repeat: u32,
    pub(crate) bytes: u64,
    /// Who counted dirty pages, and how often.
    pub(crate) dirty_counted_by: Asked,
    pub(crate) dirty_samples: u64,
    pub(crate) figures: Figures,
    pub(crate) streams: Vec<StreamRecord>,
}

/// One stream of a run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct StreamRecord {
    job: Job,
    bytes: u64,
    writes: u64,
    in_mb_per_s: f64,
    durable_mb_per_s: f64,
    write_p99_us: Option<f64>,
    write_max_us: Option<f64>,
    /// What the daemon did for it, if there is one.
    daemon: Option<Served>,
}

/// All runs of one contender under one workload in one place.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) place: String,
    pub(crate) workload: Workload,
    pub(crate) contender: Contender,
    pub(crate) runs: usize,
    /// How the daemon wrote back, in the order of the streams.
    pub(crate) drains: Vec<String>,
    pub(crate) figures: BTreeMap<Figure, Spread>,
}

impl Record {
    pub(crate) fn new(
        place: String,
        workload: Workload,
        contender: Contender,
        repeat: u32,
        ran: &Ran,
    ) -> Self {
        let streams = ran.specs.iter().zip(&ran.told);
        Self {
            place,
            workload,
            contender,
            repeat,
            bytes: ran.told.iter().map(|told| told.bytes).sum(),
            dirty_counted_by: ran.seen.asked,
            dirty_samples: ran.seen.samples,
            figures: figures(ran),
            streams: streams.map(|(spec, told)| stream(spec.job, told)).collect(),
        }
    }
}

fn stream(job: Job, told: &Told) -> StreamRecord {
    let rate = |until_ns: u64| per_second(told.bytes, told.started_ns, until_ns) / MB;
    let latency = quantiles(told.latency.iter().copied());
    StreamRecord {
        job,
        bytes: told.bytes,
        writes: told.writes,
        in_mb_per_s: rate(told.taken_ns),
        durable_mb_per_s: rate(told.durable_ns),
        write_p99_us: latency.map(|latency| latency.p99_us),
        write_max_us: latency.map(|latency| latency.max_us),
        daemon: told.daemon.clone(),
    }
}

fn per_second(bytes: u64, from_ns: u64, until_ns: u64) -> f64 {
    bytes as f64 / seconds(from_ns, until_ns)
}

/// Never 0, so that an empty run is no division by it.
fn seconds(from_ns: u64, until_ns: u64) -> f64 {
    until_ns.saturating_sub(from_ns).max(1) as f64 / 1e9
}

fn figures(ran: &Ran) -> Figures {
    let told = &ran.told;
    let bytes: u64 = told.iter().map(|told| told.bytes).sum();
    let started_ns = told.iter().map(|told| told.started_ns).min().unwrap_or(0);
    let latest = |moment: fn(&Told) -> u64| told.iter().map(moment).max().unwrap_or(0);
    let (taken_ns, durable_ns) = (latest(|told| told.taken_ns), latest(|told| told.durable_ns));
    let sync_ns = told.iter().map(|told| told.durable_ns.saturating_sub(told.taken_ns)).max();

    let mut found = Figures::new();
    found.insert(Figure::InMbPerS, per_second(bytes, started_ns, taken_ns) / MB);
    found.insert(Figure::DurableMbPerS, per_second(bytes, started_ns, durable_ns) / MB);
    found.insert(Figure::SyncSeconds, sync_ns.unwrap_or(0) as f64 / 1e9);
    if let Some(latency) = quantiles(told.iter().flat_map(|told| told.latency.iter().copied())) {
        found.insert(Figure::WriteP50Us, latency.p50_us);
        found.insert(Figure::WriteP99Us, latency.p99_us);
        found.insert(Figure::WriteP999Us, latency.p999_us);
        found.insert(Figure::WriteMaxUs, latency.max_us);
    }
    let writers_ns: u64 = told.iter().map(|told| told.cpu_ns).sum();
    let daemon_ns = ran.daemon.as_ref().map_or(0, |daemon| daemon.cpu_ns);
    let cpu_seconds = (writers_ns + daemon_ns) as f64 / 1e9;
    found.insert(Figure::CpuSecondsPerGib, cpu_seconds / (bytes as f64 / GIB));
    found.insert(Figure::CpuCores, cpu_seconds / seconds(started_ns, durable_ns));
    memory(ran, &mut found);
    traffic(ran, &mut found);
    fairness(ran, &mut found);
    found
}

fn memory(ran: &Ran, found: &mut Figures) {
    let growth = ran.told.iter().zip(&ran.seen.writers_bytes);
    let growth = growth.map(|(told, peak)| peak.saturating_sub(told.memory_before_bytes));
    if let Some(most) = growth.max() {
        found.insert(Figure::WriterMib, most as f64 / MIB);
    }
    if let (Some(daemon), Some(peak)) = (&ran.daemon, ran.seen.daemon_private_bytes) {
        let more = peak.saturating_sub(daemon.private_before_bytes) as f64 / MIB;
        found.insert(Figure::DaemonMib, peak as f64 / MIB);
        found.insert(Figure::DaemonMibPerStream, more / ran.told.len() as f64);
        // It is looked at again while the daemon runs.
        let ends = ran.told.iter().filter_map(|told| told.daemon.as_ref());
        let limit = ends.clone().map(|served| served.budget_bytes).max().unwrap_or(0);
        found.insert(Figure::BudgetMib, limit.max(daemon.limit_bytes) as f64 / MIB);
        if let Some(extent) = ends.map(|served| served.extent_bytes).max() {
            found.insert(Figure::ExtentMib, extent as f64 / MIB);
        }
    }
    if let Some(bytes) = ran.seen.dirty_bytes {
        found.insert(Figure::DirtyPeakMib, bytes as f64 / MIB);
    }
}

/// Shorter traces say nothing about how many frames a film takes.
const CONTENT_SECONDS_MIN: f64 = 60.0;

/// What was sent to the daemon, and to the disk.
fn traffic(ran: &Ran, found: &mut Figures) {
    let served: Option<Vec<_>> = ran.told.iter().map(|told| told.daemon.as_ref()).collect();
    if let Some(served) = served {
        let frames: u64 = served.iter().map(|served| served.frames).sum();
        let seeks: u64 = served.iter().map(|served| served.seeks).sum();
        found.insert(Figure::FramesSent, frames as f64);
        found.insert(Figure::SeeksSent, seeks as f64);
        if let [Job::Trace { content_seconds, .. }] =
            ran.specs.iter().map(|spec| spec.job).collect::<Vec<_>>()[..]
        {
            // What a muxer does at the end of a film weighs too much in a short one.
            if content_seconds >= CONTENT_SECONDS_MIN {
                let frames = frames as f64 * 120.0 / content_seconds;
                found.insert(Figure::FramesPerTwoMinutes, frames);
            }
        }
    }
    if let Some(pattern) = ran.pattern {
        let parts = [
            (Figure::DiskSeeksPerGib, pattern.seeks_per_gib()),
            (Figure::DiskRunMib, pattern.mean_run_mib()),
            (Figure::DiskModelMibPerS, pattern.model_mib_per_s()),
        ];
        found.extend(parts.into_iter().filter_map(|(figure, value)| Some((figure, value?))));
    }
    if let Some(mean) = ran.fragment_mib {
        found.insert(Figure::FragmentMib, mean);
    }
}

/// Streams are served by the extent: one more or less of it has to be within the 5 percent to which
/// weights are kept.
const EXTENTS_MIN: f64 = 20.0;

/// Only streams that want the same can get the same, and only their files tell how far each is.
fn fairness(ran: &Ran, found: &mut Figures) {
    let weights: Option<Vec<_>> = ran.specs.iter().map(|spec| spec.weight).collect();
    let paced = |spec: &Spec| (spec.job, spec.pace_bytes_per_second);
    let alike = ran.specs.windows(2).all(|pair| paced(&pair[0]) == paced(&pair[1]));
    let grow = ran.specs.iter().all(|spec| spec.job.grows());
    let from_ns = ran.told.iter().map(|told| told.started_ns).max().unwrap_or(0);
    let until_ns = ran.told.iter().map(|told| told.taken_ns).min().unwrap_or(0);
    let Some(rates) = ran.seen.growth(from_ns, until_ns).filter(|rates| grow && rates.len() > 1)
    else {
        return;
    };
    match weights {
        Some(weights) => {
            let weights: Vec<_> = weights.into_iter().map(f64::from).collect();
            let extents = ran.told.iter().filter_map(|told| told.daemon.as_ref());
            let extent = extents.map(|served| served.extent_bytes).max().unwrap_or(0);
            if rates.iter().any(|rate| *rate < EXTENTS_MIN * extent as f64) {
                return;
            }
            let error = weight_error_percent(&rates, &weights);
            found.extend(error.map(|error| (Figure::WeightErrorPercent, error)));
        }
        None if alike => found.extend(jain(&rates).map(|index| (Figure::Jain, index))),
        None => {}
    }
}

/// Groups runs that repeat each other, in the order in which they came.
pub(crate) fn summarize(records: &[Record]) -> Vec<Summary> {
    let mut summaries: Vec<Summary> = Vec::new();
    for record in records {
        let same = |summary: &Summary| {
            (summary.place.as_str(), summary.workload, summary.contender)
                == (record.place.as_str(), record.workload, record.contender)
        };
        if summaries.iter().any(same) {
            continue;
        }
        let runs: Vec<_> = of(records, &record.place, record.workload, record.contender).collect();
        let mut values: BTreeMap<Figure, Vec<f64>> = BTreeMap::new();
        for (figure, value) in runs.iter().flat_map(|run| &run.figures) {
            values.entry(*figure).or_default().push(*value);
        }
        let spreads =
            values.iter().filter_map(|(figure, values)| Some((*figure, Spread::of(values)?)));
        summaries.push(Summary {
            place: record.place.clone(),
            workload: record.workload,
            contender: record.contender,
            runs: runs.len(),
            drains: drains(&runs),
            figures: spreads.collect(),
        });
    }
    summaries
}

/// All that were used, once each.
fn drains(runs: &[&Record]) -> Vec<String> {
    let served = runs.iter().flat_map(|run| &run.streams).filter_map(|one| one.daemon.as_ref());
    let names = served.map(|served| match served.turns {
        true => format!("{} in turns", served.drain),
        false => served.drain.clone(),
    });
    let mut names: Vec<_> = names.collect();
    names.sort();
    names.dedup();
    names
}

/// The runs of one contender.
pub(crate) fn of<'a>(
    records: &'a [Record],
    place: &'a str,
    workload: Workload,
    contender: Contender,
) -> impl Iterator<Item = &'a Record> {
    records.iter().filter(move |record| {
        (record.place.as_str(), record.workload, record.contender) == (place, workload, contender)
    })
}

/// A figure of one contender in terms of that of another, repeat by repeat: what slows one repeat
/// down slows down both.
pub(crate) fn ratio(
    records: &[Record],
    place: &str,
    figure: Figure,
    (above, below): ((Workload, Contender), (Workload, Contender)),
) -> Option<Spread> {
    let ratios = of(records, place, above.0, above.1).filter_map(|record| {
        let other = of(records, place, below.0, below.1).find(|run| run.repeat == record.repeat)?;
        let (value, base) = (record.figures.get(&figure)?, other.figures.get(&figure)?);
        (*base > 0.0).then(|| value / base)
    });
    Spread::of(&ratios.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(contender: Contender, repeat: u32, rate: f64) -> Record {
        Record {
            place: "local".to_owned(),
            workload: Workload::Seq1,
            contender,
            repeat,
            bytes: 1,
            dirty_counted_by: Asked::Nobody,
            dirty_samples: 1,
            figures: Figures::from([(Figure::DurableMbPerS, rate)]),
            streams: Vec::new(),
        }
    }

    #[test]
    fn repeats_are_one_summary_and_ratios_go_by_repeat() {
        let records = [
            record(Contender::Seed, 1, 100.0),
            record(Contender::Freemkvd, 1, 300.0),
            record(Contender::Freemkvd, 2, 100.0),
            record(Contender::Seed, 2, 50.0),
            record(Contender::Freemkvd, 3, 1.0),
        ];
        let summaries = summarize(&records);
        let runs: Vec<_> = summaries.iter().map(|one| (one.contender, one.runs)).collect();
        assert_eq!(runs, [(Contender::Seed, 2), (Contender::Freemkvd, 3)]);
        let median = summaries[1].figures[&Figure::DurableMbPerS].median;
        assert!((median - 100.0).abs() < 1e-9);
        let pair = ((Workload::Seq1, Contender::Freemkvd), (Workload::Seq1, Contender::Seed));
        let found = ratio(&records, "local", Figure::DurableMbPerS, pair).unwrap();
        assert_eq!((found.min, found.median, found.max), (2.0, 2.5, 3.0));
        assert_eq!(ratio(&records, "tmpfs", Figure::DurableMbPerS, pair), None);
    }
}
