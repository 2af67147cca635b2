//! The file that is written to. It has no name, so nothing can be left of it, however this process ends. Where that can't
//! be, it has one for a moment, and whoever waits knows which.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;

use crate::table::plain;

/// The name that the file has or may get, while it may.
#[derive(Debug, Default)]
pub(super) struct Name(Mutex<Option<PathBuf>>);

impl Name {
    pub(super) fn now(&self) -> Option<PathBuf> {
        self.lock().clone()
    }

    fn set(&self, name: Option<&Path>) {
        *self.lock() = name.map(Path::to_owned);
    }

    fn lock(&self) -> MutexGuard<'_, Option<PathBuf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes as long as the file system does.
///
/// # Errors
/// A sentence.
pub(super) fn open(directory: &Path, name: &Name) -> Result<File, String> {
    let (flags, mode) = (OFlags::RDWR | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR);
    match openat(CWD, directory, flags | OFlags::TMPFILE, mode) {
        Ok(file) => Ok(file.into()),
        // The file system has no files without a name, as NFS and FUSE.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOSYS | Errno::NOENT) => {
            let unlink = |path: &Path| unlinkat(CWD, path, AtFlags::empty());
            named_for_a_moment(directory, flags, mode, name, unlink)
        }
        Err(errno) => Err(refused(directory, errno)),
    }
}

fn named_for_a_moment(
    directory: &Path,
    flags: OFlags,
    mode: Mode,
    name: &Name,
    unlink: impl FnOnce(&Path) -> rustix::io::Result<()>,
) -> Result<File, String> {
    let number = getrandom::u64().map_err(|_| "no random number".to_owned())?;
    let path = directory.join(format!(".freemkvctl-doctor-{number:016x}"));
    let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    name.set(Some(&path));
    let file = openat(CWD, &path, flags, mode).map_err(|errno| {
        name.set(None);
        refused(directory, errno)
    })?;
    unlink(&path).map_err(|errno| {
        let (shown, error) = (path.display().to_string(), io::Error::from(errno));
        format!("cannot remove {} again: {error}; it is empty, and stays there", plain(&shown))
    })?;
    name.set(None);
    Ok(file.into())
}

fn refused(directory: &Path, errno: Errno) -> String {
    let shown = directory.display().to_string();
    format!("cannot write a file in {}: {}", plain(&shown), io::Error::from(errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODE: Mode = Mode::RUSR.union(Mode::WUSR);

    fn entries(directory: &Path) -> Vec<PathBuf> {
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    #[test]
    fn both_ways_leave_no_name() {
        let (dir, name) = (tempfile::tempdir().unwrap(), Name::default());
        let unlink = |path: &Path| {
            assert_eq!(name.now().as_deref(), Some(path), "whoever is interrupted now says so");
            unlinkat(CWD, path, AtFlags::empty())
        };
        let files = [
            open(dir.path(), &name),
            named_for_a_moment(dir.path(), OFlags::RDWR, MODE, &name, unlink),
        ];
        assert!(files.iter().all(Result::is_ok), "{files:?}");
        assert_eq!((entries(dir.path()), name.now()), (vec![], None));
        let gone = dir.path().join("gone");
        assert!(open(&gone, &name).unwrap_err().starts_with("cannot write a file in "));
        assert_eq!(name.now(), None);
    }

    #[test]
    fn a_file_that_stays_is_told_with_its_path() {
        let (dir, name) = (tempfile::tempdir().unwrap(), Name::default());
        let refuse = |_: &Path| Err(Errno::STALE);
        let error = named_for_a_moment(dir.path(), OFlags::RDWR, MODE, &name, refuse).unwrap_err();
        let stays = name.now().unwrap();
        assert_eq!(entries(dir.path()), std::slice::from_ref(&stays));
        assert!(
            error.starts_with(&format!("cannot remove {} again: ", stays.display())),
            "{error}"
        );
    }
}
