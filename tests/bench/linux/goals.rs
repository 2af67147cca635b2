//! What freemkvd has to reach, and whether it did, in this run and on this machine.

use serde::Serialize;

use super::contender::Contender;
use super::figures::Figure;
use super::report::PlaceRecord;
use super::stats::Spread;
use super::summary::{Record, of, ratio};
use super::workload::Workload;

/// Most that a stream has in writeback at once beside what its budget says: one extent, in MiB.
const EXTENT_MIB: f64 = 8.0;
/// Slots of a client that was not told otherwise, and what it may have beside them, in MiB.
const CLIENT_MIB: f64 = 56.0 + 4.0;

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Goal {
    pub(crate) what: String,
    pub(crate) place: String,
    /// "at least" or "at most" `limit`.
    pub(crate) at_least: bool,
    pub(crate) limit: f64,
    pub(crate) unit: &'static str,
    /// The middle of the repeats, or the worst where each of them counts; `null` when no run tells.
    pub(crate) measured: Option<f64>,
    pub(crate) reached: Option<bool>,
}

/// Collects the lines of one place.
struct Lines<'a> {
    runs: &'a [Record],
    place: &'a str,
    goals: Vec<Goal>,
}

/// All that there is to reach in these places.
pub(crate) fn goals(runs: &[Record], places: &[PlaceRecord]) -> Vec<Goal> {
    let of_place = |place: &PlaceRecord| {
        let mut lines = Lines { runs, place: &place.name, goals: Vec::new() };
        // What a throttled device makes equal is no comparison.
        if place.throttled_to_bytes_per_second.is_none() && place.has_disk {
            lines.speed();
            lines.cost();
        }
        if place.has_disk {
            lines.dirty();
            lines.latency();
            lines.disk();
        }
        lines.fairness();
        lines.goals
    };
    places.iter().flat_map(of_place).collect()
}

use Contender::{Bufwriter, Dontcache, Freemkvd, FreemkvdDirect, FreemkvdInline, Seed};
use Workload::{Load80, M3, Paced4, Seq1, Seq4, T1};

impl Lines<'_> {
    fn speed(&mut self) {
        let durable = Figure::DurableMbPerS;
        for (workload, contender, base, limit) in [
            (Seq1, Freemkvd, Dontcache, 0.95),
            (Seq1, FreemkvdInline, Dontcache, 0.5),
            (Seq4, Freemkvd, Dontcache, 0.95),
            (Seq1, Freemkvd, Seed, 1.0),
            (Seq4, Freemkvd, Seed, 1.0),
            (T1, Freemkvd, Bufwriter, 1.0),
        ] {
            let pair = ((workload, contender), (workload, base));
            let found = ratio(self.runs, self.place, durable, pair);
            let what = format!("{workload}: {contender} / {base}, durable");
            self.median(what, found, true, limit, "x");
        }
        let frames = self.spread(T1, Freemkvd, Figure::FramesPerTwoMinutes);
        self.median("t1: frames for 120 s of content".to_owned(), frames, false, 300.0, "frames");
    }

    fn cost(&mut self) {
        let cpu = Figure::CpuSecondsPerGib;
        let own = Figure::DaemonMibPerStream;
        for (what, workload, contender, figure, limit, unit) in [
            ("CPU of client and daemon", Seq1, Freemkvd, cpu, 0.45, "s/GiB"),
            ("CPU of client and daemon", Seq1, FreemkvdDirect, cpu, 0.25, "s/GiB"),
            ("CPU of client and daemon", Seq1, FreemkvdInline, cpu, 0.70, "s/GiB"),
            ("CPU of client and daemon", Paced4, Freemkvd, Figure::CpuCores, 0.25, "cores"),
            ("daemon's own memory for each stream", Seq4, Freemkvd, own, 8.0, "MiB"),
            ("daemon's own memory for each stream", Seq4, FreemkvdInline, own, 40.0, "MiB"),
            ("a client's memory", Seq1, Freemkvd, Figure::WriterMib, CLIENT_MIB, "MiB"),
        ] {
            let found = self.spread(workload, contender, figure);
            self.median(format!("{workload}: {contender}, {what}"), found, false, limit, unit);
        }
    }

    /// Every sample of every run counts.
    fn dirty(&mut self) {
        for contender in [Freemkvd, FreemkvdInline, FreemkvdDirect] {
            let runs = self
                .runs
                .iter()
                .filter(|run| run.place == self.place && run.contender == contender);
            let above = runs.filter_map(|run| {
                let (dirty, budget) = (Figure::DirtyPeakMib, Figure::BudgetMib);
                Some(run.figures.get(&dirty)? - run.figures.get(&budget)?)
            });
            let found = Spread::of(&above.collect::<Vec<_>>());
            let what = format!("{contender}, dirty less the budget, at the worst sample");
            self.worst(what, found, EXTENT_MIB, "MiB");
        }
    }

    fn latency(&mut self) {
        for contender in [Freemkvd, FreemkvdInline, FreemkvdDirect] {
            let p99 = self.spread(Load80, contender, Figure::WriteP99Us);
            let what = |what| format!("load80: {contender}, {what}");
            self.median(what("write() p99"), p99, false, 1000.0, "us");
            let max = self.spread(Load80, contender, Figure::WriteMaxUs);
            self.worst(what("write() max"), max, 100_000.0, "us");
        }
    }

    fn fairness(&mut self) {
        for workload in [Seq4, M3] {
            let found = self.spread(workload, Freemkvd, Figure::Jain);
            self.median(format!("{workload}: {Freemkvd}, Jain's index"), found, true, 0.98, "");
        }
    }

    fn disk(&mut self) {
        let pair = ((Seq4, Freemkvd), (Seq1, Freemkvd));
        let found = ratio(self.runs, self.place, Figure::DiskModelMibPerS, pair);
        let what = "a disk under four streams / under one, by the seek model".to_owned();
        self.median(what, found, true, 0.93, "x");
        let found = self.spread(Seq4, Freemkvd, Figure::FragmentMib);
        self.median("seq4: mean fragment of a file".to_owned(), found, true, 16.0, "MiB");
    }

    fn spread(&self, workload: Workload, contender: Contender, figure: Figure) -> Option<Spread> {
        let runs = of(self.runs, self.place, workload, contender);
        Spread::of(&runs.filter_map(|run| run.figures.get(&figure).copied()).collect::<Vec<_>>())
    }

    fn median(
        &mut self,
        what: String,
        found: Option<Spread>,
        at_least: bool,
        limit: f64,
        unit: &'static str,
    ) {
        let measured = found.map(|found| found.median);
        let reached = measured.map(|value| if at_least { value >= limit } else { value <= limit });
        let place = self.place.to_owned();
        self.goals.push(Goal { what, place, at_least, limit, unit, measured, reached });
    }

    fn worst(&mut self, what: String, found: Option<Spread>, limit: f64, unit: &'static str) {
        let worst = found.map(|found| Spread { median: found.max, ..found });
        self.median(what, worst, false, limit, unit);
    }
}
