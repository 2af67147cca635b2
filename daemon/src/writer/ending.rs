//! What becomes of a stream's file when the stream ends: chosen by its client at open, and the same for
//! every daemon that has it.
//!
//! 1. A file that is to be published is written under its name and `.partial`, and gets its own name in one
//!    step, after all of it is durable.
//! 2. A file that is complete is never removed, whatever was chosen for one that is not.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use freemkvd_proto::{Leftover, OpenFile, OpenMode, PARTIAL, partial_path};
use serde::{Deserialize, Serialize};

use crate::platform;

/// See the module's documentation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// It gets its name when it is complete.
    publish: bool,
    /// It then replaces what has that name.
    replaces: bool,
    /// What becomes of it if it never is.
    leftover: Leftover,
}

impl Ending {
    /// As a client has asked for.
    #[must_use]
    pub fn of(open: &OpenFile) -> Self {
        let replaces = open.open.mode == OpenMode::Create;
        Self { publish: open.publish, replaces, leftover: open.leftover }
    }

    /// What is opened for a file that the client calls `path`.
    #[must_use]
    pub fn opened_path(&self, path: PathBuf) -> PathBuf {
        if self.publish { partial_path(&path) } else { path }
    }

    /// The name that the file of `path`, as it was opened, gets when it is complete; `None` for the one that
    /// it has.
    #[must_use]
    pub fn published_name<'a>(&self, path: &'a Path) -> Option<&'a OsStr> {
        let name = path.file_name().filter(|_| self.publish)?;
        let stem = name.as_encoded_bytes().len().checked_sub(PARTIAL.len())?;
        platform::name_prefix(name, stem)
    }

    /// The same as a path.
    #[must_use]
    pub fn published_path(&self, path: &Path) -> Option<PathBuf> {
        self.published_name(path).map(|name| path.with_file_name(name))
    }

    /// The name of what is left of it, if it is to have another than it has.
    #[must_use]
    pub fn leftover_name(&self, path: &Path) -> Option<OsString> {
        let name = path.file_name().filter(|_| self.leftover == Leftover::Partial)?;
        if self.publish || name.as_encoded_bytes().ends_with(PARTIAL.as_bytes()) {
            return None;
        }
        partial_path(path).file_name().map(OsStr::to_owned)
    }

    /// True when what is left of it is to be removed.
    #[must_use]
    pub fn removes(&self) -> bool {
        self.leftover == Leftover::Remove
    }

    /// True when what is left of it does not simply stay.
    #[must_use]
    pub fn disposes(&self) -> bool {
        self.removes() || self.leftover == Leftover::Partial && !self.publish
    }

    /// True when another name of it replaces what has that name.
    #[must_use]
    pub fn replaces(&self) -> bool {
        self.replaces
    }

    /// True when it gets its name when it is complete.
    #[must_use]
    pub fn publishes(&self) -> bool {
        self.publish
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ending(publish: bool, leftover: Leftover) -> Ending {
        Ending { publish, replaces: false, leftover }
    }

    #[test]
    fn a_file_to_be_published_is_partial_until_then() {
        let published = ending(true, Leftover::Partial);
        let opened = published.opened_path("/rips/film.mkv".into());
        assert_eq!(opened, Path::new("/rips/film.mkv.partial"));
        assert_eq!(published.published_path(&opened), Some("/rips/film.mkv".into()));
        assert_eq!(published.leftover_name(&opened), None);
        assert_eq!(published.opened_path("/rips/film/".into()), Path::new("/rips/film.partial"));
        let plain = Ending::default();
        assert_eq!(plain.opened_path("/rips/film.mkv".into()), Path::new("/rips/film.mkv"));
        assert_eq!(plain.published_path(Path::new("/rips/film.mkv")), None);
    }

    #[test]
    fn a_leftover_is_called_partial_once() {
        let partial = ending(false, Leftover::Partial);
        let name = |path| partial.leftover_name(Path::new(path));
        assert_eq!(name("/rips/film.mkv"), Some("film.mkv.partial".into()));
        assert_eq!(name("/rips/film.mkv.partial"), None);
        assert_eq!(Ending::default().leftover_name(Path::new("/rips/film.mkv")), None);
    }
}
