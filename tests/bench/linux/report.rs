//! Everything that was found out: what the tables are made of, and what the JSON file holds.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde::Serialize;

use super::args::Args;
use super::contender::Contender;
use super::dirty::Source;
use super::goals::{Goal, goals};
use super::kernel::{self, DirtyLimits};
use super::memory::TouchCost;
use super::place::{Place, PlaceName};
use super::summary::{Record, Summary, summarize};

/// The whole benchmark.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    host: Host,
    places: Vec<PlaceRecord>,
    left_out: Vec<LeftOut>,
    failures: Vec<String>,
    runs: Vec<Record>,
}

/// Where it ran.
#[derive(Debug, Serialize)]
pub(crate) struct Host {
    pub(crate) kernel: String,
    pub(crate) processors: usize,
    pub(crate) is_root: bool,
    /// At the start; `null` where the kernel does not tell.
    pub(crate) dirty_limits: Option<DirtyLimits>,
    pub(crate) touch_cost: TouchCost,
    pub(crate) repeats: u32,
    pub(crate) budget: String,
    pub(crate) verified: bool,
}

/// One place that was visited.
#[derive(Debug, Serialize)]
pub(crate) struct PlaceRecord {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) has_disk: bool,
    pub(crate) throttled_to_bytes_per_second: Option<u64>,
    pub(crate) run_bytes: u64,
    /// Whether a run is long enough for the kernel to hold a plain file's writer up.
    pub(crate) plain_file_could_be_throttled: Option<bool>,
}

/// What was not measured, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct LeftOut {
    pub(crate) place: Option<String>,
    pub(crate) contender: Option<Contender>,
    pub(crate) reason: String,
}

impl LeftOut {
    pub(crate) fn place(name: PlaceName, reason: String) -> Self {
        Self { place: Some(name.to_string()), contender: None, reason }
    }

    pub(crate) fn contender(contender: Contender, reason: &str) -> Self {
        Self { place: None, contender: Some(contender), reason: reason.to_owned() }
    }

    pub(crate) fn in_place(name: PlaceName, contender: Contender, reason: &str) -> Self {
        let place = Some(name.to_string());
        Self { place, contender: Some(contender), reason: reason.to_owned() }
    }
}

/// What is written to the file.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    report: &'a Report,
    summaries: Vec<Summary>,
    goals: Vec<Goal>,
}

impl Report {
    pub(crate) fn new(args: &Args, is_root: bool) -> Self {
        let host = Host {
            kernel: kernel::release(),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            is_root,
            dirty_limits: DirtyLimits::read(),
            touch_cost: TouchCost::measure(args.size_bytes(None)),
            repeats: args.repeats(),
            budget: args.budget.clone(),
            verified: args.verify,
        };
        Self {
            host,
            places: Vec::new(),
            left_out: Vec::new(),
            failures: Vec::new(),
            runs: Vec::new(),
        }
    }

    pub(crate) fn visit(&mut self, place: &Place, run_bytes: u64) {
        let limits = self.host.dirty_limits;
        self.places.push(PlaceRecord {
            name: place.name.to_string(),
            description: place.description.clone(),
            has_disk: place.dirty != Source::Nothing,
            throttled_to_bytes_per_second: place.bytes_per_second,
            run_bytes,
            plain_file_could_be_throttled: limits
                .map(|limits| run_bytes > limits.throttled_from_bytes()),
        });
    }

    pub(crate) fn leave_out(&mut self, what: LeftOut) {
        if !self.left_out.contains(&what) {
            self.left_out.push(what);
        }
    }

    pub(crate) fn is_left_out(&self, place: PlaceName, contender: Contender) -> bool {
        let place = place.to_string();
        self.left_out.iter().any(|left_out| {
            left_out.contender == Some(contender) && left_out.place.as_ref() == Some(&place)
        })
    }

    pub(crate) fn fail(&mut self, what: String) {
        eprintln!("  FAILED: {what}");
        self.failures.push(what);
    }

    pub(crate) fn add(&mut self, record: Record) {
        self.runs.push(record);
    }

    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    pub(crate) fn places(&self) -> &[PlaceRecord] {
        &self.places
    }

    pub(crate) fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    pub(crate) fn failures(&self) -> &[String] {
        &self.failures
    }

    pub(crate) fn runs(&self) -> &[Record] {
        &self.runs
    }

    /// Each goal in each place.
    pub(crate) fn goals(&self) -> Vec<Goal> {
        goals(&self.runs, &self.places)
    }

    /// Writes all of it as JSON.
    pub(crate) fn save(&self, path: Option<&Path>) -> io::Result<()> {
        let Some(path) = path else {
            return Ok(());
        };
        let document =
            Document { report: self, summaries: summarize(&self.runs), goals: self.goals() };
        let mut file = BufWriter::new(File::create(path)?);
        serde_json::to_writer_pretty(&mut file, &document)?;
        writeln!(file)?;
        file.flush()
    }
}
