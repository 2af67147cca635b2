//! The order of things: places one after the other, in each all workloads, in each of them the
//! contenders in turn, repeat after repeat.

use std::error::Error;
use std::io;
use std::path::Path;

use freemkvd_tests::programs;

use super::args::Args;
use super::blocks::Trace;
use super::contender::Contender;
use super::figures::Figure;
use super::place::{Ground, Place, Refusal};
use super::report::{LeftOut, Report};
use super::run::{Run, RunError};
use super::summary::Record;
use super::workload::{Scale, Stream, Workload};
use super::{interrupt, table};

/// A probe is none of the repeats.
const PROBE_REPEAT: u32 = 0;

pub(crate) fn benchmark(args: &Args) -> Result<(), Box<dyn Error>> {
    if args.contenders.iter().any(|contender| contender.needs_daemon()) {
        eprintln!("Building freemkvd ...");
        let _ = programs::freemkvd();
    }
    interrupt::watch()?;
    // Not in /tmp, which is often memory.
    let own = std::env::current_exe()?;
    let beside = own.parent().unwrap_or(Path::new("."));
    let ground = Ground::new(args.dir.as_deref().unwrap_or(beside))?;
    let mut report = Report::new(args, ground.is_root());
    let mut contenders = args.contenders.clone();
    contenders.retain(|contender| match contender.missing() {
        Some(reason) => {
            report.leave_out(LeftOut::contender(*contender, reason));
            false
        }
        None => true,
    });
    for name in args.places() {
        let place = match ground.prepare(name, |rate| args.size_bytes(rate)) {
            Ok(place) => place,
            Err(Refusal::LeftOut(reason)) => {
                report.leave_out(LeftOut::place(name, reason));
                continue;
            }
            Err(Refusal::Failed(error)) => {
                interrupt::check()?;
                report.fail(format!("{name}: {error}"));
                continue;
            }
        };
        let outcome = Visit::new(args, &ground, &place, &contenders, &mut report).all();
        drop(place);
        // What there is, is kept: the next place may take an hour.
        report.save(args.json.as_deref())?;
        if outcome.is_err() {
            table::print(&report);
            outcome?;
        }
    }
    table::print(&report);
    if report.failures().is_empty() { Ok(()) } else { Err("some runs failed; see above".into()) }
}

/// All runs in one place.
struct Visit<'a> {
    args: &'a Args,
    place: &'a Place,
    contenders: &'a [Contender],
    report: &'a mut Report,
    blocks: Option<Trace>,
    scale: Scale,
    /// Runs that were begun here, and how many there will be.
    begun: usize,
    planned: usize,
}

impl<'a> Visit<'a> {
    fn new(
        args: &'a Args,
        ground: &Ground,
        place: &'a Place,
        contenders: &'a [Contender],
        report: &'a mut Report,
    ) -> Self {
        let blocks = ground.tracefs().zip(place.disk).and_then(|(tracefs, disk)| {
            let trace = Trace::new(tracefs, disk);
            trace.map_err(|error| eprintln!("bench: requests are not traced: {error}")).ok()
        });
        let scale = Scale {
            bytes: args.size_bytes(place.bytes_per_second),
            write_bytes: args.write_size.0,
            device_bytes_per_second: place.bytes_per_second.unwrap_or(0) as f64,
        };
        let repeats = usize::try_from(args.repeats()).unwrap_or(usize::MAX);
        let planned = args.workloads().len() * contenders.len() * repeats;
        Self { args, place, contenders, report, blocks, scale, begun: 0, planned }
    }

    /// An error ends the benchmark; a run that failed is noted, and the next one is made.
    fn all(&mut self) -> io::Result<()> {
        let Scale { bytes, .. } = self.scale;
        let place = self.place;
        eprintln!("{}: {}, {} MB a run", place.name, place.description, bytes / 1_000_000);
        self.report.visit(place, bytes);
        for workload in self.args.workloads() {
            if workload.needs_speed() && self.scale.device_bytes_per_second <= 0.0 {
                self.scale.device_bytes_per_second = self.probe()?;
            }
            let streams = workload.streams(&self.scale);
            for repeat in 1..=self.args.repeats() {
                let turn = (repeat as usize - 1) % self.contenders.len().max(1);
                let (late, early) = self.contenders.split_at(turn);
                for contender in early.iter().chain(late) {
                    self.once(workload, &streams, *contender, repeat)?;
                }
            }
        }
        Ok(())
    }

    /// How fast the device is, in bytes per second, by the fastest simple means.
    fn probe(&self) -> io::Result<f64> {
        let streams = Workload::Seq1.streams(&self.scale);
        for contender in [Contender::Dontcache, Contender::File] {
            match self.run(contender, &streams).execute() {
                Ok(ran) => {
                    let name = self.place.name.to_string();
                    let record = Record::new(name, Workload::Seq1, contender, PROBE_REPEAT, &ran);
                    let rate = record.figures.get(&Figure::DurableMbPerS).copied();
                    return Ok(rate.unwrap_or(0.0) * 1e6);
                }
                Err(RunError::Unsupported(_)) => {}
                Err(RunError::Io(error)) => return Err(error),
            }
        }
        Err(io::ErrorKind::Unsupported.into())
    }

    fn run<'r>(&'r self, contender: Contender, streams: &'r [Stream]) -> Run<'r> {
        Run {
            place: self.place,
            contender,
            streams,
            bytes: self.scale.bytes,
            budget: &self.args.budget,
            verify: self.args.verify,
            blocks: self.blocks.as_ref(),
        }
    }

    fn once(
        &mut self,
        workload: Workload,
        streams: &[Stream],
        contender: Contender,
        repeat: u32,
    ) -> io::Result<()> {
        interrupt::check()?;
        self.begun += 1;
        let name = self.place.name;
        if self.report.is_left_out(name, contender) {
            return Ok(());
        }
        let outcome = self.run(contender, streams).execute();
        interrupt::check()?;
        match outcome {
            Ok(ran) => {
                let record = Record::new(name.to_string(), workload, contender, repeat, &ran);
                let rate = record.figures.get(&Figure::DurableMbPerS).copied().unwrap_or(0.0);
                let (nth, all) = (self.begun, self.planned);
                eprintln!("  [{nth}/{all}] {workload} {contender}: {rate:.0} MB/s durable");
                self.report.add(record);
            }
            Err(RunError::Unsupported(reason)) => {
                self.report.leave_out(LeftOut::in_place(name, contender, &reason));
            }
            Err(RunError::Io(error)) => {
                self.report.fail(format!("{name} {workload} {contender}: {error}"));
            }
        }
        Ok(())
    }
}
