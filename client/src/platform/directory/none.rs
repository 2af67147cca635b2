//! The directory that a file lies in, by its path: nothing is held open.
//!
//! A name is given without replacing anything by a link where the file system has links; else it is looked for
//! first, and who takes it between the two is replaced.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Directory(PathBuf);

impl Directory {
    /// The one at `path`.
    #[expect(clippy::unnecessary_wraps, reason = "the same surface as on Unix")]
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        Ok(Self(path.to_owned()))
    }

    /// Removes a name that is none of a directory.
    pub(crate) fn remove(&self, name: &OsStr) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }

    /// Gives a file another name, which may be another file's.
    pub(crate) fn rename(&self, old: &OsStr, new: &OsStr) -> io::Result<()> {
        fs::rename(self.0.join(old), self.0.join(new))
    }

    /// Gives a file another name that is free.
    pub(crate) fn rename_to_free(&self, old: &OsStr, new: &OsStr) -> io::Result<()> {
        let (from, to) = (self.0.join(old), self.0.join(new));
        match fs::hard_link(&from, &to) {
            // For a moment the file has both names.
            Ok(()) => return fs::remove_file(from),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
            Err(_) => {}
        }
        match to.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => fs::rename(from, to),
            Err(error) => Err(error),
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        }
    }
}
