//! The other Unixes: links are followed as by any program, and no flag keeps a name that is taken.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

/// Enough to name files in it.
pub(super) const HELD: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

pub(super) fn open_own(path: &Path) -> io::Result<OwnedFd> {
    Ok(open(path, HELD, Mode::empty())?)
}

pub(super) fn rename_to_free(
    _directory: &OwnedFd,
    _old: &OsStr,
    _new: &OsStr,
) -> rustix::io::Result<()> {
    Err(Errno::NOSYS)
}
