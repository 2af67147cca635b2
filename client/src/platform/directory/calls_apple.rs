//! macOS: links are followed as by any program.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, RenameFlags, open, renameat_with};

/// Enough to name files in it.
pub(super) const HELD: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

pub(super) fn open_own(path: &Path) -> io::Result<OwnedFd> {
    Ok(open(path, HELD, Mode::empty())?)
}

pub(super) fn rename_to_free(
    directory: &OwnedFd,
    old: &OsStr,
    new: &OsStr,
) -> rustix::io::Result<()> {
    renameat_with(directory, old, directory, new, RenameFlags::NOREPLACE)
}
