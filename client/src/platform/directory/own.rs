//! A walk to a directory that looks at each link before it follows it.
//!
//! 1. Each step begins at the directory of the one before, which is held open, and a link is read through what
//!    was looked at: nothing that is exchanged meanwhile leads elsewhere.
//! 2. A link is followed if it is root's, or of the user that this process acts as.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, fstat, open, openat, readlinkat};
use rustix::io::Errno;

use super::held::HELD;
use crate::platform;

/// As many links as the kernel follows in one path.
const LINKS_MAX: usize = 40;

/// The directory at `path`, which is absolute.
pub(super) fn walk(path: &Path) -> io::Result<OwnedFd> {
    let top = || open("/", HELD, Mode::empty());
    let (mut at, mut left, mut links) = (top()?, names(path), 0);
    while let Some(name) = left.pop() {
        // As a directory first: what is mounted only when somebody comes is mounted by that.
        match openat(&at, &name, HELD | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(next) => at = next,
            Err(Errno::NOTDIR | Errno::LOOP) => {
                links += 1;
                if links > LINKS_MAX {
                    return Err(Errno::LOOP.into());
                }
                let target = read(&at, &name)?;
                if target.is_absolute() {
                    at = top()?;
                }
                left.append(&mut names(&target));
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(at)
}

/// The steps of a path, the last one first.
fn names(path: &Path) -> Vec<OsString> {
    let steps = path.components().rev();
    let is_step =
        |step: &Component<'_>| matches!(step, Component::Normal(_) | Component::ParentDir);
    steps.filter(is_step).map(|step| step.as_os_str().to_owned()).collect()
}

/// Where a link leads, if it may be followed.
fn read(at: &OwnedFd, name: &OsStr) -> io::Result<PathBuf> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let link = openat(at, name, flags, Mode::empty())?;
    let found = fstat(&link)?;
    if !FileType::from_raw_mode(found.st_mode).is_symlink() {
        return Err(Errno::NOTDIR.into());
    }
    // Rule 2.
    if found.st_uid != 0 && found.st_uid != platform::uid() {
        let message = format!(
            "the link {} on the way to it is user {}'s, and is followed only for OpenBy::Descriptor \
             (freemkvctl write --open-by descriptor)",
            Path::new(name).display(),
            found.st_uid
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let target = readlinkat(&link, "", Vec::new())?;
    Ok(OsStr::from_bytes(target.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    fn is_led_to(path: &Path, there: &Path) {
        let found = fstat(walk(path).unwrap()).unwrap();
        let expected = fs::metadata(there).unwrap();
        assert_eq!((found.st_dev, found.st_ino), (expected.dev(), expected.ino()), "{path:?}");
    }

    #[test]
    fn a_user_s_own_layout_leads_where_it_leads_everybody() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        fs::create_dir_all(path("disk/rips/deep")).unwrap();
        symlink("disk/rips", path("near")).unwrap();
        symlink(path("disk/rips"), path("far")).unwrap();
        symlink("../../near", path("disk/rips/back")).unwrap();
        for name in ["disk/rips", "near", "far", "near/back", "far/back/deep/..", "./near/."] {
            is_led_to(&path(name), &path("disk/rips"));
        }
        is_led_to(Path::new("/"), Path::new("/"));
        is_led_to(Path::new("/../proc/self/../self"), Path::new("/proc/self"));
    }

    #[test]
    fn what_leads_nowhere_is_an_error_of_the_system_s() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        symlink("round", path("round")).unwrap();
        symlink("nothing", path("dangling")).unwrap();
        fs::write(path("file"), "").unwrap();
        for (name, errno) in [
            ("round", Errno::LOOP),
            ("dangling", Errno::NOENT),
            ("nothing", Errno::NOENT),
            ("file", Errno::NOTDIR),
        ] {
            let error = walk(&path(name)).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(errno.raw_os_error()), "{name}");
        }
    }
}
