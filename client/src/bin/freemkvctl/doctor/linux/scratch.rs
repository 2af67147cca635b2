//! The file that is written to. It has no name, so nothing can be left of it, however this process ends.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;

pub(super) fn open(directory: &Path) -> io::Result<File> {
    let (flags, mode) = (OFlags::RDWR | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR);
    match openat(CWD, directory, flags | OFlags::TMPFILE, mode) {
        Ok(file) => Ok(file.into()),
        // The file system has no files without a name, as NFS and FUSE.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOSYS | Errno::NOENT) => {
            named_for_a_moment(directory, flags, mode)
        }
        Err(errno) => Err(errno.into()),
    }
}

fn named_for_a_moment(directory: &Path, flags: OFlags, mode: Mode) -> io::Result<File> {
    let number = getrandom::u64().map_err(|_| io::Error::other("no random number"))?;
    let name = directory.join(format!(".freemkvctl-doctor-{number:016x}"));
    let file = openat(CWD, &name, flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW, mode)?;
    unlinkat(CWD, &name, AtFlags::empty())?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_leave_no_name() {
        let dir = tempfile::tempdir().unwrap();
        let mode = Mode::RUSR | Mode::WUSR;
        let files = [open(dir.path()), named_for_a_moment(dir.path(), OFlags::RDWR, mode)];
        assert!(files.iter().all(Result::is_ok));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
