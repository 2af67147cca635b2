//! What a sink does to its caller.
//!
//! Owns the counts and the latencies of the calls that pass through. Put it around the sink that the
//! muxer holds to see what the muxer feels, or below a buffer to see what the file gets.

use std::io::{self, Seek, SeekFrom, Write};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::sink::Sink;

/// Longest latency that is told apart from longer ones: an hour, in nanoseconds.
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;

/// How often each call was made, and with how much.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls of `write`.
    pub writes: u64,
    /// Those of eight bytes or less.
    pub small_writes: u64,
    /// Bytes that `write` took, patches included.
    pub bytes: u64,
    /// Seeks that moved the position.
    pub seeks: u64,
    /// Seeks to where the position was already.
    pub seeks_in_place: u64,
    /// Questions for the position.
    pub queries: u64,
    /// Calls of `write_zeroes`.
    pub zero_writes: u64,
    /// Bytes that `write_zeroes` was asked for.
    pub zero_bytes: u64,
}

/// Latencies of `write` and `write_zeroes`, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Latency {
    /// Half of the calls took no longer.
    pub p50_us: f64,
    /// One call in a hundred took longer.
    pub p99_us: f64,
    /// The worst.
    pub max_us: f64,
}

/// A sink that counts and times what goes through it.
#[derive(Debug)]
pub struct Counted<S> {
    inner: S,
    counts: Counts,
    position: u64,
    latency_ns: Histogram<u64>,
    last_write_ended: Option<Instant>,
}

impl<S> Counted<S> {
    /// Counts from here on; `inner` stands at its start.
    pub fn new(inner: S) -> Self {
        let latency_ns = Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3)
            .expect("an hour of nanoseconds at three digits is a valid range");
        Self { inner, counts: Counts::default(), position: 0, latency_ns, last_write_ended: None }
    }

    /// The counts so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The latencies so far.
    pub fn latency(&self) -> Latency {
        let microseconds = |ns: u64| ns as f64 / 1000.0;
        Latency {
            p50_us: microseconds(self.latency_ns.value_at_quantile(0.5)),
            p99_us: microseconds(self.latency_ns.value_at_quantile(0.99)),
            max_us: microseconds(self.latency_ns.max()),
        }
    }

    /// All latencies so far, in nanoseconds, for adding them to those of others.
    pub fn latency_ns(&self) -> &Histogram<u64> {
        &self.latency_ns
    }

    /// When the last write came back: from then on the caller has handed over everything.
    pub fn last_write_ended(&self) -> Option<Instant> {
        self.last_write_ended
    }

    /// The sink itself; what is done to it directly is not counted.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The sink, when the counting is over.
    pub fn into_inner(self) -> S {
        self.inner
    }

    fn record(&mut self, start: Instant) {
        let end = Instant::now();
        self.last_write_ended = Some(end);
        let took: Duration = end - start;
        let ns = u64::try_from(took.as_nanos()).unwrap_or(LATENCY_NS_MAX);
        self.latency_ns.saturating_record(ns);
    }
}

impl<S: Write> Write for Counted<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let start = Instant::now();
        let written = self.inner.write(bytes);
        self.record(start);
        let written = written?;
        self.counts.writes += 1;
        self.counts.small_writes += u64::from(written <= 8);
        self.counts.bytes += written as u64;
        self.position += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<S: Seek> Seek for Counted<S> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let reached = self.inner.seek(to)?;
        let count = match to {
            // `stream_position` of a std buffer arrives like this.
            SeekFrom::Current(0) => &mut self.counts.queries,
            _ if reached == self.position => &mut self.counts.seeks_in_place,
            _ => &mut self.counts.seeks,
        };
        *count += 1;
        self.position = reached;
        Ok(reached)
    }

    fn stream_position(&mut self) -> io::Result<u64> {
        self.counts.queries += 1;
        self.inner.stream_position()
    }
}

impl<S: Sink> Sink for Counted<S> {
    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    fn write_zeroes(&mut self, len: u64) -> io::Result<()> {
        let start = Instant::now();
        let outcome = self.inner.write_zeroes(len);
        self.record(start);
        outcome?;
        self.counts.zero_writes += 1;
        self.counts.zero_bytes += len;
        self.position += len;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.inner.sync()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::Null;
    use std::io::BufWriter;

    #[test]
    fn a_query_and_a_seek_in_place_are_not_seeks() {
        let mut sink = Counted::new(Null::default());
        sink.write_all(&[1; 8]).unwrap();
        sink.write_all(&[1; 9]).unwrap();
        sink.stream_position().unwrap();
        BufWriter::new(&mut sink).stream_position().unwrap();
        sink.seek(SeekFrom::Start(17)).unwrap();
        sink.seek(SeekFrom::End(-3)).unwrap();
        sink.write_zeroes(3).unwrap();
        sink.seek(SeekFrom::End(0)).unwrap();
        let expected = Counts {
            writes: 2,
            small_writes: 1,
            bytes: 17,
            seeks: 1,
            seeks_in_place: 2,
            queries: 2,
            zero_writes: 1,
            zero_bytes: 3,
        };
        assert_eq!(sink.counts(), expected);
        let latency = sink.latency();
        assert!(latency.p50_us <= latency.p99_us && latency.p99_us <= latency.max_us);
    }
}
