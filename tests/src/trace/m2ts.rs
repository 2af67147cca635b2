//! T7: a transport stream. Sequential, no seek, no patch.

use std::io::{self, Write};

use super::random::Payload;
use super::schedule::SECOND_NS;

/// 80 Mb/s, a common rate of UHD discs, in bytes per content second.
pub(crate) const BYTES_PER_SECOND: u64 = 10_000_000;
/// One aligned unit of a transport stream: 32 packets of 192 bytes. It is what the muxer writes; a
/// 4 MiB buffer below it turns 682 of them into one write.
pub(crate) const UNIT_LEN: usize = 6144;
/// Units per call of the pacer, about one video frame.
const UNITS_PER_FRAME: u64 = 68;

pub(crate) fn run<W: Write>(
    seed: u64,
    end_ns: u64,
    out: &mut W,
    pacer: &mut dyn FnMut(f64),
) -> io::Result<()> {
    let mut payload = Payload::new(seed);
    for unit in 0..units(end_ns) {
        if unit % UNITS_PER_FRAME == 0 {
            pacer((unit * UNIT_LEN as u64) as f64 / BYTES_PER_SECOND as f64);
        }
        out.write_all(payload.bytes(UNIT_LEN))?;
    }
    out.flush()
}

fn units(end_ns: u64) -> u64 {
    end_ns / 1000 * BYTES_PER_SECOND / 1_000_000 / UNIT_LEN as u64
}

const _: () = assert!(SECOND_NS / 1000 == 1_000_000, "units() reckons in microseconds");
