//! The two files of a stream: `ID` holds its entry, and the next change is written to `ID.new`.
//!
//! 1. Both have their space before the stream is opened. A change is written over what is in the second one,
//!    and then the two names are exchanged: that takes neither space nor an inode, and whoever reads `ID`
//!    finds the entry before the change, or after it. (A file system that can't exchange names, or that
//!    writes nothing in its old place, needs space for each change.)
//! 2. Behind an entry there are zeros, to the end of its file.
//! 3. What is nothing but zeros is the file of a stream that was never opened.

#[cfg_attr(any(target_os = "linux", target_vendor = "apple"), path = "exchange/at_once.rs")]
#[cfg_attr(not(any(target_os = "linux", target_vendor = "apple")), path = "exchange/rename.rs")]
mod exchange;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::Entry;
use crate::budget::StreamId;

/// What a stream has on disk, in bytes: whole pages, since that is what it costs anyway.
const PAGE_BYTES: usize = 4096;

/// An entry without its path and its outcome has less than this.
const ENTRY_BYTES: usize = 256;

/// Words about a failure, beside the path that is in them; longer ones are cut.
const OUTCOME_BYTES: usize = 1024;

/// What is kept of `stream` in `directory`.
pub(super) fn current(directory: &Path, stream: StreamId) -> PathBuf {
    directory.join(stream.to_string())
}

fn next(directory: &Path, stream: StreamId) -> PathBuf {
    current(directory, stream).with_extension("new")
}

/// How much space each of the two files gets for a path of so many bytes.
fn room_bytes(path_bytes: usize) -> usize {
    (ENTRY_BYTES + OUTCOME_BYTES + 2 * path_bytes).next_multiple_of(PAGE_BYTES)
}

/// Makes both files, for a stream whose path has so many bytes.
///
/// # Errors
/// There is no room for them; then neither is there.
pub(super) fn reserve(directory: &Path, stream: StreamId, path_bytes: usize) -> io::Result<()> {
    let zeros = vec![0; room_bytes(path_bytes)];
    // The second one first: without the first it belongs to nobody, whoever is killed when.
    let made = [next(directory, stream), current(directory, stream)]
        .iter()
        .try_for_each(|path| fs::write(path, &zeros));
    made.inspect_err(|_| remove(directory, stream))
}

/// Puts `entry` in the place of what is kept of its stream.
///
/// # Errors
/// It can't be written; what is kept has not changed.
pub(super) fn replace(directory: &Path, entry: &Entry) -> io::Result<()> {
    let (next, current) = (next(directory, entry.stream), current(directory, entry.stream));
    // It is missing where it was not reserved, and after a change that could not exchange.
    let mut file = File::options().write(true).create(true).truncate(false).open(&next)?;
    let room = match usize::try_from(file.metadata()?.len()) {
        Ok(0) | Err(_) => room_bytes(entry.path.0.len()),
        Ok(room) => room,
    };
    let mut bytes = entry.encode_within(room);
    bytes.resize(bytes.len().max(room), 0);
    file.write_all(&bytes)?;
    exchange::exchange(&next, &current)
}

/// Removes both files.
pub(super) fn remove(directory: &Path, stream: StreamId) {
    // They may be gone with their directory; that is what was wanted.
    let _ = fs::remove_file(current(directory, stream));
    let _ = fs::remove_file(next(directory, stream));
}
