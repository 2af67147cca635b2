//! T4: the first pass over a disc, into a sparse ISO image.
//!
//! Owns the layout of the image: its length and its damage zones, which the patch pass (T5) visits
//! again. The sweep seeks before every write although it is there already, so whoever flushes at a
//! seek never coalesces anything.

use std::io::{self, SeekFrom};

use super::random::{Payload, Random};
use super::schedule::SECOND_NS;
use crate::sink::Sink;

/// A batch of 32 sectors, the unit of reading, in bytes.
pub(crate) const BATCH_LEN: u64 = 64 * 1024;
/// Bytes of a sector.
pub(crate) const SECTOR_LEN: u64 = 2048;
/// What a slim UHD drive delivers on its inner tracks.
pub(crate) const BYTES_PER_SECOND: u64 = 15_000_000;
/// The smallest gap after a batch that could not be read: 1024 batches.
const GAP_LEN: u64 = 1024 * BATCH_LEN;
const ZONES: u64 = 2;

static ZERO_BATCH: [u8; 64 * 1024] = [0; 64 * 1024];
const _: () = assert!(ZERO_BATCH.len() as u64 == BATCH_LEN);

/// Seconds that the drive is left alone after a gap, the first time; then twice that, and so on.
const PAUSE_SECONDS: f64 = 2.0;
/// Seconds that a drive may spend on one bad sector.
const SECTOR_SECONDS: f64 = 1.0;

/// A stretch that the drive could not read: one zeroed batch, a gap filled with zeros, and one batch
/// read sector by sector at its end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Zone {
    /// Offset of the zeroed batch, in bytes.
    pub(crate) start: u64,
    /// Length of the gap behind it, in bytes.
    pub(crate) gap_len: u64,
}

impl Zone {
    pub(crate) fn end(&self) -> u64 {
        self.start + self.gap_len + 2 * BATCH_LEN
    }
}

/// What an image of `end_ns` looks like.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) len: u64,
    pub(crate) zones: Vec<Zone>,
}

impl Layout {
    pub(crate) fn new(seed: u64, end_ns: u64) -> Self {
        let bytes = u128::from(end_ns) * u128::from(BYTES_PER_SECOND) / u128::from(SECOND_NS);
        let bytes = u64::try_from(bytes).expect("an image is shorter than 16 EiB");
        let batches = (bytes / BATCH_LEN).max(64);
        let mut random = Random::new(seed ^ 0x7a6f_6e65);
        let zones = (1..=ZONES).map(|zone| {
            // A short image keeps most of itself: a gap takes a sixteenth of it at most.
            let gap = (GAP_LEN * random.between(1, 2) / BATCH_LEN).min(batches / 16);
            let start = zone * batches / (ZONES + 1) + random.below(batches / 16);
            Zone { start: start * BATCH_LEN, gap_len: gap * BATCH_LEN }
        });
        Self { len: batches * BATCH_LEN, zones: zones.collect() }
    }
}

struct Sweep<'a, S> {
    out: &'a mut S,
    payload: Payload,
    pacer: &'a mut dyn FnMut(f64),
    offset: u64,
    /// Seconds that the drive has spent: zeros take none, a pause does.
    seconds: f64,
    /// Length of the whole trace. Pauses of a short one shrink with it.
    seconds_total: f64,
}

pub(crate) fn run<S: Sink>(
    seed: u64,
    end_ns: u64,
    out: &mut S,
    pacer: &mut dyn FnMut(f64),
) -> io::Result<()> {
    let layout = Layout::new(seed, end_ns);
    out.set_len(layout.len)?;
    let mut sweep = Sweep {
        out,
        payload: Payload::new(seed),
        pacer,
        offset: 0,
        seconds: 0.0,
        seconds_total: end_ns as f64 / SECOND_NS as f64,
    };
    for (nth, zone) in layout.zones.iter().enumerate() {
        sweep.read_until(zone.start)?;
        sweep.damage(*zone, nth > 0)?;
        sweep.seconds += (PAUSE_SECONDS * (nth + 1) as f64).min(sweep.seconds_total / 20.0);
    }
    sweep.read_until(layout.len)?;
    sweep.out.flush()
}

impl<S: Sink> Sweep<'_, S> {
    fn read_until(&mut self, end: u64) -> io::Result<()> {
        while self.offset < end {
            (self.pacer)(self.seconds);
            self.write(BATCH_LEN)?;
            self.seconds += BATCH_LEN as f64 / BYTES_PER_SECOND as f64;
        }
        Ok(())
    }

    /// The gap is filled at the speed of memory. With `as_command` it is one `write_zeroes`, which
    /// is what a client of the daemon can do instead of writing the zeros.
    fn damage(&mut self, zone: Zone, as_command: bool) -> io::Result<()> {
        self.write_zero_batch()?;
        let gap_end = self.offset + zone.gap_len;
        if as_command {
            self.out.seek(SeekFrom::Start(self.offset))?;
            self.out.write_zeroes(zone.gap_len)?;
            self.offset = gap_end;
        }
        while self.offset < gap_end {
            (self.pacer)(self.seconds);
            self.write_zero_batch()?;
        }
        for _ in 0..BATCH_LEN / SECTOR_LEN {
            (self.pacer)(self.seconds);
            self.write(SECTOR_LEN)?;
            self.seconds += SECTOR_SECONDS.min(self.seconds_total / 1000.0);
        }
        Ok(())
    }

    fn write(&mut self, len: u64) -> io::Result<()> {
        self.out.seek(SeekFrom::Start(self.offset))?;
        let len_in_memory = usize::try_from(len).expect("a batch fits in memory");
        self.out.write_all(self.payload.bytes(len_in_memory))?;
        self.offset += len;
        Ok(())
    }

    fn write_zero_batch(&mut self) -> io::Result<()> {
        self.out.seek(SeekFrom::Start(self.offset))?;
        self.out.write_all(&ZERO_BATCH)?;
        self.offset += BATCH_LEN;
        Ok(())
    }
}
