//! T6: an MP4 with the index in front. A hole is left for it, filled at the end from far behind.
//!
//! The tracks are those of T2; an MP4 stores the frames bare, and their sizes in the index.

use std::io::{self, Seek, SeekFrom, Write};

use super::random::Payload;
use super::schedule::{SECOND_NS, Schedule, Track};

const FTYP_LEN: u64 = 32;
const MIB: u64 = 1 << 20;

pub(crate) fn run<W: Write + Seek>(
    tracks: &[Track],
    seed: u64,
    end_ns: u64,
    out: &mut W,
    pacer: &mut dyn FnMut(f64),
) -> io::Result<()> {
    let mut payload = Payload::new(seed);
    let samples = Schedule::new(tracks, seed, end_ns).count() as u64;
    let reserve = reserve_len(samples);

    out.write_all(payload.bytes(32))?;
    let free_at = out.stream_position()?;
    out.write_all(&box_header(reserve, *b"free"))?;
    out.seek(SeekFrom::Start(FTYP_LEN + reserve))?;
    let mdat_at = out.stream_position()?;
    // A size of 1 announces that the true one follows in eight bytes, zero for now.
    out.write_all(&[0, 0, 0, 1, b'm', b'd', b'a', b't', 0, 0, 0, 0, 0, 0, 0, 0])?;

    for frame in Schedule::new(tracks, seed, end_ns) {
        if frame.track == 0 {
            pacer(frame.at_ns as f64 / SECOND_NS as f64);
        }
        out.write_all(payload.bytes(frame.len))?;
    }

    let end = out.stream_position()?;
    out.seek(SeekFrom::Start(mdat_at + 8))?;
    out.write_all(&(end - mdat_at).to_be_bytes())?;
    out.seek(SeekFrom::Start(free_at))?;
    let moov_len = moov_len(samples);
    let moov = payload.long(usize::try_from(moov_len).map_err(|_| io::ErrorKind::OutOfMemory)?);
    out.write_all(&moov)?;
    out.stream_position()?;
    out.write_all(&box_header(reserve - moov_len, *b"free"))?;
    out.seek(SeekFrom::End(0))?;
    out.flush()
}

/// Bytes kept free for the index: 16 for each sample and 4 MiB, in steps of 4 MiB, 8 MiB at least.
fn reserve_len(samples: u64) -> u64 {
    (16 * samples + 4 * MIB).next_multiple_of(4 * MIB).max(8 * MIB)
}

/// What the index needs in the end: 1 to 12 MB for a film.
fn moov_len(samples: u64) -> u64 {
    MIB + 8 * samples
}

/// A box of `len` bytes, header included.
fn box_header(len: u64, name: [u8; 4]) -> [u8; 8] {
    let mut header = [0; 8];
    let len = u32::try_from(len).expect("the reserve stays below 4 GiB");
    header[..4].copy_from_slice(&len.to_be_bytes());
    header[4..].copy_from_slice(&name);
    header
}
