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

use rustix::fs::{AtFlags, Mode, OFlags, linkat, open, openat, renameat, statat, unlinkat};
use rustix::io::Errno;

#[cfg_attr(target_os = "linux", path = "held_linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "held_unix.rs")]
mod held;
#[cfg(target_os = "linux")]
mod own;
#[cfg_attr(any(target_os = "linux", target_vendor = "apple"), path = "rename_flag.rs")]
#[cfg_attr(not(any(target_os = "linux", target_vendor = "apple")), path = "rename_none.rs")]
mod rename;

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Directory(OwnedFd);

impl Directory {
    /// The one at `path`, through whatever links.
    ///
    /// # Errors
    /// Those of the system.
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        Ok(Self(open(path, held::HELD, Mode::empty())?))
    }

    /// The one at `path`, through own links (rule 1).
    ///
    /// # Errors
    /// Those of the system, and `InvalidInput` for a link of somebody else's.
    pub(crate) fn at_own(path: &Path) -> io::Result<Self> {
        held::open_own(path).map(Self)
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
        Ok(unlinkat(&self.0, name, AtFlags::empty())?)
    }

    /// Gives a file another name, which may be another file's.
    ///
    /// # Errors
    /// Those of the system.
    pub(crate) fn rename(&self, old: &OsStr, new: &OsStr) -> io::Result<()> {
        Ok(renameat(&self.0, old, &self.0, new)?)
    }

    /// Gives a file another name that is free (rule 2).
    ///
    /// # Errors
    /// Those of the system, `AlreadyExists` above all.
    pub(crate) fn rename_to_free(&self, old: &OsStr, new: &OsStr) -> io::Result<()> {
        let linked = || {
            // For a moment the file has both names.
            linkat(&self.0, old, &self.0, new, AtFlags::empty())?;
            Ok(unlinkat(&self.0, old, AtFlags::empty()))
        };
        let looked = || match statat(&self.0, new, AtFlags::SYMLINK_NOFOLLOW) {
            // Who takes the name between the two is replaced.
            Err(Errno::NOENT) => renameat(&self.0, old, &self.0, new),
            Err(errno) => Err(errno),
            Ok(_) => Err(Errno::EXIST),
        };
        Ok(strictest(|| rename::to_free(&self.0, old, new), linked, looked)?)
    }
}

/// The first of these that the file system has: NFS and some FUSE file systems have no flags, and FAT no links.
fn strictest(
    by_flag: impl FnOnce() -> rustix::io::Result<()>,
    linked: impl FnOnce() -> rustix::io::Result<rustix::io::Result<()>>,
    looked: impl FnOnce() -> rustix::io::Result<()>,
) -> rustix::io::Result<()> {
    const NO_FLAGS: [Errno; 4] = [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP, Errno::NOTSUP];
    const NO_LINKS: [Errno; 4] = [Errno::PERM, Errno::NOSYS, Errno::OPNOTSUPP, Errno::NOTSUP];
    match by_flag() {
        Err(errno) if NO_FLAGS.contains(&errno) => {}
        result => return result,
    }
    match linked() {
        Err(errno) if NO_LINKS.contains(&errno) => looked(),
        result => result?,
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_system_without_flags_and_links_gives_free_names_too() {
        let none = |errno| move || Err(errno);
        for no_flags in [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP] {
            assert_eq!(strictest(none(no_flags), || Ok(Ok(())), || panic!("it has links")), Ok(()));
            for no_links in [Errno::PERM, Errno::OPNOTSUPP, Errno::NOSYS] {
                let by = |last| strictest(none(no_flags), || Err(no_links), || last);
                assert_eq!(by(Ok(())), Ok(()));
                assert_eq!(by(Err(Errno::EXIST)), Err(Errno::EXIST));
            }
        }
        // All else is an answer.
        let unasked = || panic!("it was answered");
        let by_link =
            || -> rustix::io::Result<rustix::io::Result<()>> { panic!("it was answered") };
        assert_eq!(strictest(|| Ok(()), by_link, unasked), Ok(()));
        assert_eq!(strictest(none(Errno::EXIST), by_link, unasked), Err(Errno::EXIST));
        let linked = |end| strictest(none(Errno::INVAL), || end, unasked);
        assert_eq!(linked(Err(Errno::EXIST)), Err(Errno::EXIST));
        // It has the name then, and the old one, too.
        assert_eq!(linked(Ok(Err(Errno::PERM))), Err(Errno::PERM));
    }

    #[test]
    fn names_are_changed_in_the_directory_that_is_held() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        for directory in ["films", "others"] {
            fs::create_dir(path(directory)).unwrap();
            for name in ["a", "b", "c"] {
                fs::write(path(directory).join(name), directory).unwrap();
            }
        }
        let held = Directory::at_own(&path("films")).unwrap();
        fs::rename(path("films"), path("moved")).unwrap();
        std::os::unix::fs::symlink("others", path("films")).unwrap();
        let name = OsStr::new;
        let error = held.rename_to_free(name("a"), name("b")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        held.rename_to_free(name("a"), name("free")).unwrap();
        held.rename(name("b"), name("c")).unwrap();
        held.remove(name("c")).unwrap();
        let count = |directory: &str| fs::read_dir(path(directory)).unwrap().count();
        assert_eq!((count("moved"), count("others")), (1, 3));
        assert_eq!(fs::read(path("moved/free")).unwrap(), b"films");
    }
}
