//! What becomes of a file that this process has opened itself: the same as the daemon makes of one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use freemkvd_proto::{Leftover, OpenMode, partial_path};

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

    /// Gives a complete file its name. True when its directory has to be synced for that.
    pub(crate) fn publish(&self) -> io::Result<bool> {
        if self.publish {
            self.rename(&self.opened_path(), &self.path)?;
        }
        Ok(self.publish)
    }

    /// Makes of a file that will not be complete what was chosen.
    pub(crate) fn dispose(&self) -> io::Result<()> {
        let opened = self.opened_path();
        match self.leftover {
            Leftover::Partial if !self.publish => self.rename(&opened, &partial_path(&self.path)),
            Leftover::Keep | Leftover::Partial => Ok(()),
            Leftover::Remove => fs::remove_file(&opened),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if self.mode == OpenMode::Create {
            return fs::rename(from, to);
        }
        // A link never replaces anything. For a moment the file has both names.
        fs::hard_link(from, to)?;
        fs::remove_file(from)
    }
}
