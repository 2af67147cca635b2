//! macOS and the other Unixes: links are followed as by any program.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, open};

/// Enough to name files in it.
pub(super) const HELD: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

pub(super) fn open_own(path: &Path) -> io::Result<OwnedFd> {
    Ok(open(path, HELD, Mode::empty())?)
}
