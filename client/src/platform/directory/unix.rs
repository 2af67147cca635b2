//! The directory that a file lies in, held open: what is done to a name in it is done there, wherever the path
//! leads by then.
//!
//! 1. Whoever was told to open a file itself follows links as any program does. Whoever was not follows
//!    only those of root and of its own user (Linux; elsewhere as any program). Somebody who may make names in a
//!    directory on the way could otherwise lead another user, root above all, to a file of that user's.
//! 2. A name is given without replacing anything in the strictest way that the file system has.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, open, openat};

#[cfg(target_os = "linux")]
mod own;

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Directory(OwnedFd);

/// Enough to name files in it: on Linux its entries need not be readable.
#[cfg(target_os = "linux")]
const HELD: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
#[cfg(not(target_os = "linux"))]
const HELD: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Directory {
    /// The one at `path`, through whatever links.
    ///
    /// # Errors
    /// Those of the system.
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        Ok(Self(open(path, HELD, Mode::empty())?))
    }

    /// The one at `path`, through own links (rule 1).
    ///
    /// # Errors
    /// Those of the system, and `InvalidInput` for a link of somebody else's.
    pub(crate) fn at_own(path: &Path) -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        return own::walk(path).map(Self);
        #[cfg(not(target_os = "linux"))]
        Self::at(path)
    }

    /// Itself, to be synced.
    pub(crate) fn read(&self) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(&self.0, ".", flags, Mode::empty())
    }

    /// Removes a name that is none of a directory.
    ///
    /// # Errors
    /// Those of the system.
    pub(crate) fn remove(&self, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.0, name, rustix::fs::AtFlags::empty())?)
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
