//! The verbs of macOS, where `fsync` hands everything to the device and does not ask it to keep it: fsync(2) there
//! says so, and points to `F_FULLFSYNC`.
#![expect(unsafe_code, reason = "no binding reserves space without changing the length")]

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use rustix::fs::{RenameFlags, Stat, fcntl_fullfsync, fsync, renameat_with};
use rustix::io::Errno;

use crate::storage::steps::uninterrupted;

/// See [`Calls`](crate::storage::Calls).
pub const CALLS: crate::storage::Calls =
    crate::storage::Calls { write: "pwrite", drain: "fsync", sync: "F_FULLFSYNC" };

/// Writes back the file's data and waits until the device has it. (`File::sync_data` would be `F_FULLFSYNC`.)
pub(in super::super) fn drain(file: &File) -> io::Result<()> {
    uninterrupted(|| Ok(fsync(file)?))
}

/// Makes the content and the length durable, also in the device. File systems of others, as SMB, may have no such
/// command: there `fsync` is all that can be asked for.
pub(in super::super) fn make_durable(file: &File) -> io::Result<()> {
    uninterrupted(|| match fcntl_fullfsync(file) {
        Err(Errno::NOTSUP | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOTTY | Errno::NODEV) => {
            Ok(fsync(file)?)
        }
        result => Ok(result?),
    })
}

/// Reserves so many bytes for the file in all, without changing its length; the last close gives back what is not
/// used. False where the file system can't.
pub(in super::super) fn reserve(file: &File, bytes: u64) -> io::Result<bool> {
    let missing = bytes.saturating_sub(file.metadata()?.blocks() * 512);
    let Some(missing) = libc::off_t::try_from(missing).ok().filter(|missing| *missing > 0) else {
        return Ok(true);
    };
    let mut wanted = libc::fstore_t {
        fst_flags: libc::F_ALLOCATEALL,
        // From where the file's space ends.
        fst_posmode: libc::F_PEOFPOSMODE,
        fst_offset: 0,
        fst_length: missing,
        fst_bytesalloc: 0,
    };
    // SAFETY: the descriptor is open, and the structure is the one that F_PREALLOCATE reads and writes.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_PREALLOCATE, &raw mut wanted) };
    if result != -1 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    match Errno::from_io_error(&error) {
        Some(Errno::NOTSUP | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOTTY) => Ok(false),
        _ => Err(error),
    }
}

/// Gives a file another name that is free, in one step. File systems without that (SMB) refuse.
pub(in super::super) fn rename_to_free(
    directory: &OwnedFd,
    old: &OsStr,
    new: &OsStr,
) -> io::Result<()> {
    Ok(renameat_with(directory, old, directory, new, RenameFlags::NOREPLACE)?)
}

/// The number of the device that a file is on, as the standard library has it.
#[expect(clippy::cast_sign_loss, reason = "a number that is only compared")]
pub(in super::super) fn device_number(stat: &Stat) -> u64 {
    stat.st_dev as u64
}
