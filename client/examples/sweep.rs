//! Sweeps a disc, or its image, into a file, and keeps a map of what is durable. Stopped in whatever way, also
//! by a power cut, it goes on with what the map does not have.
//!
//! ```sh
//! cargo run --example sweep -- /dev/sr0 /srv/rips/disc.iso
//! ```
//!
//! What can't be read is left out, and tried again the next time.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;

use freemkvd_client::{Options, RipFile};

/// Read at once. Not more, since what holds one sector that can't be read is left out.
const PIECE_LEN: usize = 64 << 10;

/// How much may have to be read again after a crash.
const SYNC_AFTER: u64 = 32 << 20;

/// Ranges of the file: sorted, and none touching another.
type Ranges = Vec<Range<u64>>;

fn main() -> io::Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(disc), Some(iso), None) = (arguments.next(), arguments.next(), arguments.next())
    else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "usage: sweep DISC FILE"));
    };
    let mut disc = File::open(disc)?;
    let map = Path::new(&iso).with_extension("map");
    let missing = sweep(&RipFile::options(), &mut disc, Path::new(&iso), &map)?;
    println!("{missing} bytes could not be read; {}", map.display());
    Ok(())
}

/// Copies what the map does not have. Returns how many bytes are missing in the end.
pub(crate) fn sweep(
    options: &Options,
    disc: &mut (impl Read + Seek),
    iso: &Path,
    map: &Path,
) -> io::Result<u64> {
    let len = disc.seek(SeekFrom::End(0))?;
    let mut done = load(map)?;
    let options = options.clone().track_durable(true);
    let mut file = if done.is_empty() { options.create(iso)? } else { options.open(iso)? };
    let mut unsynced = 0;
    for start in (0..len).step_by(PIECE_LEN) {
        let end = len.min(start + PIECE_LEN as u64);
        if done.iter().any(|done| done.start <= start && end <= done.end) {
            continue;
        }
        let mut piece = Vec::new();
        disc.seek(SeekFrom::Start(start))?;
        if disc.take(end - start).read_to_end(&mut piece).is_err() {
            continue;
        }
        file.seek(SeekFrom::Start(start))?;
        file.write_all(&piece)?;
        unsynced += end - start;
        if unsynced >= SYNC_AFTER {
            // The disc is read on meanwhile.
            file.sync_soon()?;
            unsynced = 0;
        }
        save(map, &mut done, file.take_durable())?;
    }
    file.sync_all()?;
    save(map, &mut done, file.take_durable())?;
    file.finish()?;
    Ok(len - done.iter().map(|range| range.end - range.start).sum::<u64>())
}

/// A line for each range: where it begins, and where it ends.
pub(crate) fn load(map: &Path) -> io::Result<Ranges> {
    let text = match fs::read_to_string(map) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ranges::new()),
        text => text?,
    };
    let range = |line: &str| {
        let (start, end) = line.split_once(' ')?;
        Some(start.parse().ok()?..end.parse().ok()?)
    };
    text.lines()
        .map(|line| range(line).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, line)))
        .collect()
}

/// Adds what has become durable. The map is replaced as a whole, so that it is always one or the other.
fn save(map: &Path, done: &mut Ranges, more: Ranges) -> io::Result<()> {
    if more.is_empty() {
        return Ok(());
    }
    done.extend(more);
    done.sort_by_key(|range| range.start);
    done.dedup_by(|next, last| {
        let touches = next.start <= last.end;
        if touches {
            last.end = last.end.max(next.end);
        }
        touches
    });
    let new = map.with_extension("map.new");
    let mut file = File::create(&new)?;
    for range in done {
        writeln!(file, "{} {}", range.start, range.end)?;
    }
    file.sync_all()?;
    fs::rename(new, map)
}
