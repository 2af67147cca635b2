//! Linux: a directory is held without the right to read it, and every link on the way is looked at.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{OFlags, RenameFlags, renameat_with};

use super::own;

/// Enough to name files in it: its entries need not be readable.
pub(super) const HELD: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

pub(super) fn open_own(path: &Path) -> io::Result<OwnedFd> {
    own::walk(path)
}

pub(super) fn rename_to_free(
    directory: &OwnedFd,
    old: &OsStr,
    new: &OsStr,
) -> rustix::io::Result<()> {
    renameat_with(directory, old, directory, new, RenameFlags::NOREPLACE)
}
