//! Real muxers, reduced to the calls they make.
//!
//! A trace is a deterministic generator: kind, seed and length give the same writes, seeks, position
//! queries and bytes on every machine. The figures behind it were taken from muxers at work (the
//! header, block by block, and finish phases of an MKV; the sweep and patch passes over a disc); what
//! comes out has their sizes, distances and rates, and sensible element sizes, but need not play.
//!
//! Muxers write through a buffer of 4 MiB. [`Trace::run`] gives the calls as they arrive *below* it,
//! which is what a file sees today; [`Trace::run_unbuffered`] gives the muxer's own calls, which is
//! what a sink sees that takes the buffer's place. Both leave the same bytes.

mod bd;
mod dvd;
mod kind;
mod m2ts;
mod matroska;
mod mkv;
mod mkv_finish;
mod mkv_header;
mod mp4;
mod patch;
mod random;
mod schedule;
mod sweep;
#[cfg(test)]
mod tally;
#[cfg(test)]
mod tests;
mod uhd;

use std::io::{self, BufWriter};
use std::time::Duration;

pub use kind::{Kind, UnknownKind};
pub(crate) use random::Payload;
pub use random::Random;

use crate::sink::Sink;

/// The buffer that muxers put between themselves and the file, in bytes.
pub const MUXER_BUFFER_LEN: usize = 4 << 20;

/// One run of one muxer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trace {
    /// Which muxer.
    pub kind: Kind,
    /// Chooses frame sizes, damage and payload.
    pub seed: u64,
    /// Length in seconds of content. [`Kind::bytes_per_second`] says what that comes to.
    pub content_seconds: f64,
}

impl Trace {
    /// Drives `sink` as the muxer would below its buffer of [`MUXER_BUFFER_LEN`].
    ///
    /// `pacer` is called before each video frame, or block of a disc, with the content seconds so
    /// far; sleep in it to pace. Returns after a flush; durability is the caller's to ask for.
    pub fn run<S: Sink>(&self, sink: &mut S, pacer: &mut impl FnMut(f64)) -> io::Result<()> {
        if !self.kind.is_buffered() {
            return self.run_unbuffered(sink, pacer);
        }
        let mut buffer = BufWriter::with_capacity(MUXER_BUFFER_LEN, sink);
        let outcome = self.drive(&mut buffer, pacer);
        // After a failure nothing more may reach the sink, and a drop would try.
        let _unwritten = buffer.into_parts();
        outcome
    }

    /// Drives `sink` by the muxer's own calls, field by field.
    pub fn run_unbuffered<S: Sink>(
        &self,
        sink: &mut S,
        pacer: &mut impl FnMut(f64),
    ) -> io::Result<()> {
        self.drive(sink, pacer)
    }

    /// The trace that has to have written the file before this one opens it.
    pub fn prerequisite(&self) -> Option<Self> {
        (self.kind == Kind::Patch).then_some(Self { kind: Kind::Sweep, ..*self })
    }

    fn drive<S: Sink>(&self, out: &mut S, pacer: &mut dyn FnMut(f64)) -> io::Result<()> {
        let seed = self.seed;
        let end_ns = self.content_ns()?;
        match self.kind {
            Kind::Uhd => mkv::run(&uhd::tracks(), seed, end_ns, out, pacer),
            Kind::Bd => mkv::run(&bd::tracks(), seed, end_ns, out, pacer),
            Kind::Dvd => mkv::run(&dvd::tracks(), seed, end_ns, out, pacer),
            Kind::Sweep => sweep::run(seed, end_ns, out, pacer),
            Kind::Patch => patch::run(seed, end_ns, out, pacer),
            Kind::Mp4 => mp4::run(&bd::tracks(), seed, end_ns, out, pacer),
            Kind::M2ts => m2ts::run(seed, end_ns, out, pacer),
        }
    }

    fn content_ns(&self) -> io::Result<u64> {
        Duration::try_from_secs_f64(self.content_seconds)
            .ok()
            .and_then(|length| u64::try_from(length.as_nanos()).ok())
            // 28 hours: frame times are reckoned in 64 bits, as frames x nanoseconds.
            .filter(|ns| *ns <= 100_000 * schedule::SECOND_NS)
            .ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidInput, "content seconds out of range")
            })
    }
}
