//! The verbs of POSIX.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Stat, fdatasync, fsync, linkat, unlinkat};

use crate::storage::steps::uninterrupted;

#[cfg(not(target_os = "linux"))]
/// See [`Calls`](crate::storage::Calls).
pub const CALLS: crate::storage::Calls =
    crate::storage::Calls { write: "pwrite", drain: "fdatasync", sync: "fsync" };

/// Writes back the file's data and waits for it. It flushes the device's cache as well, where the file system does:
/// there is nothing that does not.
pub(in super::super) fn drain(file: &File) -> io::Result<()> {
    uninterrupted(|| Ok(fdatasync(file)?))
}

/// Makes the content and the length durable.
pub(in super::super) fn make_durable(file: &File) -> io::Result<()> {
    uninterrupted(|| Ok(fsync(file)?))
}

/// Reserves no space: `posix_fallocate` changes the length.
#[expect(clippy::unnecessary_wraps, reason = "the same surface as on macOS")]
pub(in super::super) fn reserve(_file: &File, _bytes: u64) -> io::Result<bool> {
    Ok(false)
}

/// Gives a file another name that is free. A link never replaces anything; for a moment the file has both names.
pub(in super::super) fn rename_to_free(
    directory: &OwnedFd,
    old: &OsStr,
    new: &OsStr,
) -> io::Result<()> {
    linkat(directory, old, directory, new, AtFlags::empty())?;
    Ok(unlinkat(directory, old, AtFlags::empty())?)
}

/// The number of the device that a file is on, as the standard library has it.
pub(in super::super) fn device_number(stat: &Stat) -> u64 {
    stat.st_dev
}
