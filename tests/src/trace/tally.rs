//! A sink that keeps the calls of a trace, so that tests can take its statistics.

use std::io::{self, Seek, SeekFrom, Write};
use std::ops::RangeInclusive;

use super::{Kind, Trace};
use crate::sink::{Null, Sink};

/// A sink that remembers every call.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) null: Null,
    pub(crate) position: u64,
    /// Offset and length of each write, in order.
    pub(crate) writes: Vec<(u64, u64)>,
    /// Distance of each seek that was not a question.
    pub(crate) seeks: Vec<i64>,
    pub(crate) queries: u64,
    /// Writes, seeks and queries until the first write of more than 3 KB, which ends the header.
    pub(crate) header: Option<(usize, usize, u64)>,
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
    pub(crate) fn of(kind: Kind, content_seconds: f64) -> Self {
        let mut tally = Self::default();
        Trace { kind, seed: 1, content_seconds }.run(&mut tally, &mut |_| ()).unwrap();
        tally
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.writes.iter().map(|(_, len)| len).sum()
    }

    pub(crate) fn len(&mut self) -> u64 {
        self.null.seek(SeekFrom::End(0)).unwrap()
    }

    /// Percent of the writes that are this long.
    pub(crate) fn writes_of(&self, lens: RangeInclusive<u64>) -> f64 {
        let some = self.writes.iter().filter(|(_, len)| lens.contains(len)).count();
        100.0 * some as f64 / self.writes.len() as f64
    }

    /// Percent of the bytes that are in writes this long.
    pub(crate) fn bytes_in(&self, lens: RangeInclusive<u64>) -> f64 {
        let some: u64 =
            self.writes.iter().map(|(_, len)| len).filter(|len| lens.contains(len)).sum();
        100.0 * some as f64 / self.bytes() as f64
    }

    /// Longest seek back but for those of the finish, which go to the head of the file; in bytes.
    pub(crate) fn longest_back(&self) -> u64 {
        self.seeks
            .iter()
            .filter(|by| **by < 0 && **by > -(60 << 20))
            .map(|by| by.unsigned_abs())
            .max()
            .unwrap()
    }

    /// Where the writes behind the last far seek back went.
    pub(crate) fn far_patches(&self) -> Vec<u64> {
        let heads = self.writes.iter().rev().take_while(|(offset, _)| *offset < 10_000);
        heads.map(|(offset, _)| *offset).collect()
    }

    /// Percent of the seeks back that go this far.
    pub(crate) fn backs_of(&self, distances: RangeInclusive<u64>) -> f64 {
        let backs = || self.seeks.iter().filter(|by| **by < 0).map(|by| by.unsigned_abs());
        let some = backs().filter(|by| distances.contains(by)).count();
        100.0 * some as f64 / backs().count() as f64
    }
}
