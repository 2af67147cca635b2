//! The other Unixes: a file has no name but its own, and no file system can be synced by itself.

use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::fs::OFlags;
use rustix::io::Errno;

pub(super) const SYNCS_FILESYSTEMS: bool = false;

pub(super) fn open_again(_file: &File, _flags: OFlags) -> rustix::io::Result<OwnedFd> {
    Err(Errno::NOENT)
}

pub(super) fn sync_filesystem(_file: &File) -> rustix::io::Result<()> {
    Err(Errno::ACCESS)
}
