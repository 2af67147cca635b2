//! T5: the patch pass, which fills the damage zones of a sweep (T4) in the image that is there.
//!
//! Every other zone is visited from its end, because a drive that fails going forward often reads
//! the rest going backward. A batch that fails as a whole is read, and written, by the sector.

use std::io::{self, SeekFrom};

use super::random::{Payload, Random};
use super::schedule::SECOND_NS;
use super::sweep::{BATCH_LEN, Layout, SECTOR_LEN, Zone};
use crate::sink::Sink;

/// A pass writes little: this much per zone at most, in bytes.
const ZONE_LEN_MAX: u64 = 24 << 20;
/// One batch in this many has to be read by the sector.
const BATCHES_PER_FAILURE: u64 = 6;
/// Seconds between two writes when the drive reads well, and at worst.
const GAP_SECONDS_MIN: f64 = 0.010;
const GAP_SECONDS_MAX: f64 = 60.0;

struct Pass<'a, S> {
    out: &'a mut S,
    payload: Payload,
    random: Random,
    pacer: &'a mut dyn FnMut(f64),
    seconds: f64,
    /// A short trace cannot wait a minute for a sector: no gap is longer than this.
    gap_seconds_max: f64,
}

pub(crate) fn run<S: Sink>(
    seed: u64,
    end_ns: u64,
    out: &mut S,
    pacer: &mut dyn FnMut(f64),
) -> io::Result<()> {
    let layout = Layout::new(seed, end_ns);
    let mut pass = Pass {
        out,
        // The sweep of the same seed must not have left the same bytes here already.
        payload: Payload::new(!seed),
        random: Random::new(seed ^ 0x7061_7463_6800),
        pacer,
        seconds: 0.0,
        gap_seconds_max: GAP_SECONDS_MAX.min(end_ns as f64 / SECOND_NS as f64 / 50.0),
    };
    for (nth, zone) in layout.zones.iter().enumerate() {
        pass.visit(zone, nth % 2 == 1)?;
    }
    pass.out.flush()
}

impl<S: Sink> Pass<'_, S> {
    fn visit(&mut self, zone: &Zone, reverse: bool) -> io::Result<()> {
        let batches = (zone.end() - zone.start).min(ZONE_LEN_MAX) / BATCH_LEN;
        for nth in 0..batches {
            let offset = match reverse {
                false => zone.start + nth * BATCH_LEN,
                true => zone.end() - (nth + 1) * BATCH_LEN,
            };
            if self.random.one_in(BATCHES_PER_FAILURE) {
                self.sectors(offset, reverse)?;
            } else {
                self.write(offset, BATCH_LEN)?;
            }
        }
        Ok(())
    }

    /// A quarter of the sectors stays unreadable, so that the next seek really moves.
    fn sectors(&mut self, batch: u64, reverse: bool) -> io::Result<()> {
        let sectors = BATCH_LEN / SECTOR_LEN;
        for nth in 0..sectors {
            let sector = if reverse { sectors - 1 - nth } else { nth };
            if self.random.one_in(4) {
                self.seconds += GAP_SECONDS_MAX.min(self.gap_seconds_max) / 10.0;
            } else {
                self.write(batch + sector * SECTOR_LEN, SECTOR_LEN)?;
            }
        }
        Ok(())
    }

    fn write(&mut self, offset: u64, len: u64) -> io::Result<()> {
        let gap = if self.random.one_in(100) { self.gap_seconds_max } else { GAP_SECONDS_MIN };
        self.seconds += gap.min(self.gap_seconds_max);
        (self.pacer)(self.seconds);
        self.out.seek(SeekFrom::Start(offset))?;
        let len = usize::try_from(len).expect("a batch fits in memory");
        self.out.write_all(self.payload.bytes(len))
    }
}
