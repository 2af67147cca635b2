//! The statistics of the traces against those of the muxers they stand for.
//!
//! Owns the targets. Each is a measurement of a real muxer below its buffer; a trace has to come
//! within ten percent, and a target moves only with a new measurement.

use std::io::{self, Seek, SeekFrom, Write};
use std::ops::RangeInclusive;

use super::{Kind, Trace};
use crate::sink::{Null, Sink};

/// A sink that remembers every call.
#[derive(Default)]
struct Tally {
    null: Null,
    position: u64,
    /// Offset and length of each write, in order.
    writes: Vec<(u64, u64)>,
    /// Distance of each seek that was not a question.
    seeks: Vec<i64>,
    queries: u64,
    /// Calls of all kinds until the first write of more than 3 KB, which ends the header.
    header: Option<(usize, usize, u64)>,
}

impl Write for Tally {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > 3000 && self.header.is_none() {
            self.header = Some((self.writes.len(), self.seeks.len(), self.queries));
        }
        self.writes.push((self.position, bytes.len() as u64));
        self.position += bytes.len() as u64;
        self.null.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Tally {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let reached = self.null.seek(to)?;
        match to {
            SeekFrom::Current(0) => self.queries += 1,
            _ => self
                .seeks
                .push(i64::try_from(reached).unwrap() - i64::try_from(self.position).unwrap()),
        }
        self.position = reached;
        Ok(reached)
    }
}

impl Sink for Tally {
    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.null.set_len(len)
    }

    fn write_zeroes(&mut self, len: u64) -> io::Result<()> {
        self.position += len;
        self.null.write_zeroes(len)
    }
}

impl Tally {
    fn of(kind: Kind, content_seconds: f64) -> Self {
        let mut tally = Self::default();
        Trace {
            kind,
            seed: 1,
            content_seconds,
        }
        .run(&mut tally, &mut |_| ())
        .unwrap();
        tally
    }

    fn bytes(&self) -> u64 {
        self.writes.iter().map(|(_, len)| len).sum()
    }

    fn len(&mut self) -> u64 {
        self.null.seek(SeekFrom::End(0)).unwrap()
    }

    /// Percent of the writes that are this long.
    fn writes_of(&self, lens: RangeInclusive<u64>) -> f64 {
        let some = self
            .writes
            .iter()
            .filter(|(_, len)| lens.contains(len))
            .count();
        100.0 * some as f64 / self.writes.len() as f64
    }

    /// Percent of the bytes that are in writes this long.
    fn bytes_in(&self, lens: RangeInclusive<u64>) -> f64 {
        let some: u64 = self
            .writes
            .iter()
            .map(|(_, len)| len)
            .filter(|len| lens.contains(len))
            .sum();
        100.0 * some as f64 / self.bytes() as f64
    }

    /// Percent of the seeks back that go this far.
    fn backs_of(&self, distances: RangeInclusive<u64>) -> f64 {
        let backs = || {
            self.seeks
                .iter()
                .filter(|by| **by < 0)
                .map(|by| by.unsigned_abs())
        };
        let some = backs().filter(|by| distances.contains(by)).count();
        100.0 * some as f64 / backs().count() as f64
    }
}

#[test]
#[ignore]
fn show() {
    for kind in Kind::ALL {
        let s = 120.0;
        let mut t = Tally::of(kind, s);
        println!(
            "{kind}: W {:.1} S {:.1} P {:.1} MB/s {:.3} len {} small {:.1}% header {:?}",
            t.writes.len() as f64 / s,
            t.seeks.len() as f64 / s,
            t.queries as f64 / s,
            t.bytes() as f64 / 1e6 / s,
            t.len(),
            t.writes_of(0..=8),
            t.header
        );
        println!(
            "   bytes 64-256K {:.1} 256K-1M {:.1} 1-3M {:.1} >3M {:.1}; backs <=1K {:.2} 1-16K {:.2} 16-256K {:.2} 8-32M {:.2} max {:?}",
            t.bytes_in(65536..=262143),
            t.bytes_in(262144..=1048575),
            t.bytes_in(1048576..=3000000),
            t.bytes_in(3000001..=1 << 40),
            t.backs_of(0..=1024),
            t.backs_of(1025..=16384),
            t.backs_of(16385..=262144),
            t.backs_of(8 << 20..=32 << 20),
            t.seeks
                .iter()
                .filter(|d| **d < 0 && d.unsigned_abs() < 60 << 20)
                .min()
        );
        println!(
            "   back max in range {:?}, tail seeks {:?}",
            t.backs_of(1 << 20..=8 << 20),
            &t.seeks[t.seeks.len().saturating_sub(12)..]
        );
    }
}
