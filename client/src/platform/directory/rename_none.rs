//! The other Unixes: there is no such flag.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

pub(super) fn to_free(_directory: &OwnedFd, _old: &OsStr, _new: &OsStr) -> rustix::io::Result<()> {
    Err(Errno::NOSYS)
}
