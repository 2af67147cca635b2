//! Linux: a file is opened again by its descriptor, and a name can be made durable by syncing its file system.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags, open, syncfs};

pub(super) const SYNCS_FILESYSTEMS: bool = true;

/// The same file, whatever has become of its name; `NOENT` where there is no `/proc`.
pub(super) fn open_again(file: &File, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    open(format!("/proc/self/fd/{}", file.as_raw_fd()), flags, Mode::empty())
}

pub(super) fn sync_filesystem(file: &File) -> rustix::io::Result<()> {
    syncfs(file)
}
