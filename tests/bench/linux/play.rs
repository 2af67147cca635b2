//! Writes what a job says into any sink.
//!
//! The content is there before the clock starts, and is used again and again: what is measured is
//! writing, not making up bytes.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use freemkvd_tests::pattern;
use freemkvd_tests::sink::Sink;

use super::contender::Contender;
use super::spec::{Job, Spec};

/// What a mover reads and writes at once.
const MOVER_BYTES: u64 = 4 << 20;
/// Content repeats itself after about so many bytes: too long to be found by accident, short enough
/// to be in the cache of the processor, as what a muxer has just read is.
const PERIOD_BYTES: u64 = 4 << 20;

/// What a job will write.
pub(crate) struct Content {
    pub(crate) period: Vec<u8>,
    write_bytes: usize,
    /// Where a mover reads into; empty for the others.
    read: Vec<u8>,
    bytes: u64,
}

impl Content {
    pub(crate) fn new(job: &Job, seed: u64) -> Self {
        let (bytes, write_bytes, reads) = match *job {
            Job::Sequential { bytes, write_bytes } => (bytes, write_bytes.max(1), false),
            Job::Mover { bytes } => (bytes, MOVER_BYTES, true),
            // A trace brings its own.
            Job::Trace { .. } => (0, 1, false),
        };
        // So that no write lies across its end.
        let period_bytes = write_bytes * (PERIOD_BYTES / write_bytes).max(1);
        let fits = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let period = match bytes {
            0 => Vec::new(),
            _ => pattern::bytes(seed, 0, fits(period_bytes)),
        };
        let read = if reads { vec![1; fits(MOVER_BYTES)] } else { Vec::new() };
        Self { period, write_bytes: fits(write_bytes), read, bytes }
    }
}

/// Writes all of it.
pub(crate) fn play(spec: &Spec, content: &mut Content, sink: &mut impl Sink) -> io::Result<()> {
    let start = Instant::now();
    if let Some(trace) = spec.job.trace(spec.seed) {
        // What content takes at this pace.
        let speed =
            spec.pace_bytes_per_second.map(|pace| pace / trace.kind.bytes_per_second() as f64);
        let mut pacer = |content_seconds: f64| {
            if let Some(speed) = speed {
                sleep_until(start, content_seconds / speed);
            }
        };
        return match spec.contender {
            // No muxer makes a system call for every byte: what a bare file gets comes from the
            // muxer's buffer.
            Contender::File => trace.run(sink, &mut pacer),
            _ => trace.run_unbuffered(sink, &mut pacer),
        };
    }
    let mut written = 0;
    while written < content.bytes {
        if let Some(pace) = spec.pace_bytes_per_second {
            sleep_until(start, written as f64 / pace);
        }
        let at = usize::try_from(written % content.period.len() as u64).unwrap_or(0);
        let left = usize::try_from(content.bytes - written).unwrap_or(usize::MAX);
        let source = &content.period[at..at + content.write_bytes.min(left)];
        if content.read.is_empty() {
            sink.write_all(source)?;
        } else {
            content.read[..source.len()].copy_from_slice(source);
            sink.write_all(&content.read[..source.len()])?;
        }
        written += source.len() as u64;
    }
    Ok(())
}

/// After a hold-up the writer catches up as fast as the sink lets it, as a drive that read ahead.
fn sleep_until(start: Instant, seconds: f64) {
    let due = start + Duration::from_secs_f64(seconds);
    thread::sleep(due.saturating_duration_since(Instant::now()));
}
