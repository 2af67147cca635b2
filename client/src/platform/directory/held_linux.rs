//! Linux: a directory is held without the right to read it, and every link on the way is looked at.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::OFlags;

use super::own;

/// Enough to name files in it: its entries need not be readable.
pub(super) const HELD: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

pub(super) fn open_own(path: &Path) -> io::Result<OwnedFd> {
    own::walk(path)
}
