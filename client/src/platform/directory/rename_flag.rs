//! Linux and macOS: a flag keeps a name that is taken.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;

use rustix::fs::{RenameFlags, renameat_with};

pub(super) fn to_free(directory: &OwnedFd, old: &OsStr, new: &OsStr) -> rustix::io::Result<()> {
    renameat_with(directory, old, directory, new, RenameFlags::NOREPLACE)
}
