//! The walk where the kernel has no `openat2`: before 5.6, and under an emulator of its calls.
//!
//! Each step is made from the descriptor of the one before. A link is refused whatever it leads to, and so is a step
//! up: without the kernel's help nobody can tell where they lead, and be sure of it a moment later.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, fstat, openat, statat};
use rustix::io::{Errno, retry_on_intr};

const STEP: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens `path` below `start`; fails as `openat2` with `RESOLVE_BENEATH` does.
pub(super) fn open(
    start: &OwnedFd,
    path: &Path,
    flags: OFlags,
    mode: Mode,
) -> rustix::io::Result<OwnedFd> {
    let mut steps = path.components().filter(|step| *step != Component::CurDir).peekable();
    let mut above = None;
    while let Some(step) = steps.next() {
        let Component::Normal(name) = step else { return Err(Errno::XDEV) };
        let from = above.as_ref().unwrap_or(start);
        if steps.peek().is_none() {
            return last(from, name, flags, mode);
        }
        above = Some(enter(from, name)?);
    }
    openat(start, ".", flags, mode)
}

fn enter(above: &OwnedFd, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    // What is called ENOTDIR may be a link that is not followed.
    retry_on_intr(|| openat(above, name, STEP, Mode::empty())).map_err(|errno| {
        if errno == Errno::NOTDIR && is_link(above, name) { Errno::LOOP } else { errno }
    })
}

fn last(above: &OwnedFd, name: &OsStr, flags: OFlags, mode: Mode) -> rustix::io::Result<OwnedFd> {
    let opened = retry_on_intr(|| openat(above, name, flags | OFlags::NOFOLLOW, mode));
    match opened {
        Err(Errno::NOTDIR) if is_link(above, name) => Err(Errno::LOOP),
        // With O_PATH a link is opened itself.
        Ok(found) if flags.contains(OFlags::PATH) && !flags.contains(OFlags::NOFOLLOW) => {
            let what = FileType::from_raw_mode(fstat(&found)?.st_mode);
            if what == FileType::Symlink { Err(Errno::LOOP) } else { Ok(found) }
        }
        opened => opened,
    }
}

fn is_link(above: impl AsFd, name: &OsStr) -> bool {
    statat(above, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Symlink)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use rustix::fs::CWD;

    use super::*;

    const LOOK: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

    #[test]
    fn what_is_below_is_opened_and_no_link_is_followed() {
        let dir = tempfile::tempdir_in(".").unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/b/film"), b"film").unwrap();
        fs::write(dir.path().join("secret"), b"secret").unwrap();
        symlink("a", root.join("to_directory")).unwrap();
        symlink("a/b/film", root.join("to_file")).unwrap();
        symlink("../secret", root.join("out")).unwrap();
        symlink("/", root.join("a/slash")).unwrap();
        let start = openat(CWD, &root, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let beneath = |name: &str, flags| open(&start, Path::new(name), flags, Mode::empty());
        let directory = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        for flags in [LOOK, LOOK | OFlags::NOFOLLOW, OFlags::RDONLY] {
            let found = beneath("./a/b/film", flags).unwrap();
            assert_eq!(fstat(found).unwrap().st_size, 4);
            for name in ["to_directory/b/film", "a/slash/etc/passwd"] {
                assert_eq!(beneath(name, flags).unwrap_err(), Errno::LOOP, "{name}");
            }
            for name in ["../secret", "a/../../secret", "a/../a/b/film", "/etc/passwd"] {
                assert_eq!(beneath(name, flags).unwrap_err(), Errno::XDEV, "{name}");
            }
            assert_eq!(beneath("a/c/film", flags).unwrap_err(), Errno::NOENT);
            assert_eq!(beneath("a/b/film/x", flags).unwrap_err(), Errno::NOTDIR);
        }
        for name in ["to_file", "out"] {
            assert_eq!(beneath(name, LOOK).unwrap_err(), Errno::LOOP, "{name}");
            assert_eq!(beneath(name, OFlags::RDONLY).unwrap_err(), Errno::LOOP, "{name}");
            // The link itself, to see that it is one.
            let link = beneath(name, LOOK | OFlags::NOFOLLOW).unwrap();
            assert!(FileType::from_raw_mode(fstat(link).unwrap().st_mode).is_symlink());
        }
        for name in ["to_directory", "a/slash"] {
            assert_eq!(beneath(name, directory).unwrap_err(), Errno::LOOP, "{name}");
        }
        assert!(beneath("a/b", directory).is_ok());
        assert!(beneath("", directory).is_ok());
    }
}
