//! What becomes of a file that this process has opened itself: the same as the daemon makes of one.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use freemkvd_proto::{Leftover, OpenMode, partial_path};

use crate::directory::Directory;

/// See the module's documentation.
#[derive(Clone, Debug)]
pub(crate) struct Ending {
    /// The file's own name.
    path: PathBuf,
    publish: bool,
    leftover: Leftover,
    mode: OpenMode,
}

impl Ending {
    pub(crate) fn new(path: &Path, mode: OpenMode, publish: bool, leftover: Leftover) -> Self {
        Self { path: path.to_owned(), publish, leftover, mode }
    }

    /// The file's own name.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// False when the file is not to have another name at its end than it has, however that comes.
    pub(crate) fn is_work(&self) -> bool {
        self.publish || self.leftover != Leftover::Keep
    }

    /// True when what is left of it is to be removed.
    pub(crate) fn removes(&self) -> bool {
        self.leftover == Leftover::Remove
    }

    /// What the file is called until it is complete.
    pub(crate) fn opened_path(&self) -> PathBuf {
        if self.publish { partial_path(&self.path) } else { self.path.clone() }
    }

    /// Whether it may be begun at all.
    pub(crate) fn check(&self) -> io::Result<()> {
        let needs_free_name = self.publish && self.mode == OpenMode::CreateNew;
        if needs_free_name && self.path.symlink_metadata().is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        Ok(())
    }

    /// Gives a complete file its name, in the directory that it is in. True when that has to be synced for it.
    pub(crate) fn publish(&self, directory: &Directory) -> io::Result<bool> {
        if self.publish {
            self.rename(directory, &self.opened_path(), &self.path)?;
        }
        Ok(self.publish)
    }

    /// Makes of a file that will not be complete what was chosen, in the directory that it is in.
    pub(crate) fn dispose(&self, directory: &Directory) -> io::Result<()> {
        let opened = self.opened_path();
        match self.leftover {
            Leftover::Partial if !self.publish => {
                self.rename(directory, &opened, &partial_path(&self.path))
            }
            Leftover::Keep | Leftover::Partial => Ok(()),
            Leftover::Remove => directory.remove(name(&opened)),
        }
    }

    fn rename(&self, directory: &Directory, from: &Path, to: &Path) -> io::Result<()> {
        if self.mode == OpenMode::Create {
            return directory.rename(name(from), name(to));
        }
        directory.rename_to_free(name(from), name(to))
    }
}

/// Of a file that was opened there is one.
fn name(path: &Path) -> &OsStr {
    path.file_name().unwrap_or_default()
}
