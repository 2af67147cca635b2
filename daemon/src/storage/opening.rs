//! What opening is made of where each kind of opening is a call of its own.

use std::io;
use std::path::Path;

use freemkvd_proto::OpenMode;

use super::{Known, OpenError, Opened};

/// Opens what is there or makes it, as `mode` says; true when it was made.
pub(super) fn by_mode<F>(
    mode: OpenMode,
    new: impl Fn() -> Result<F, OpenError>,
    existing: impl Fn() -> Result<F, OpenError>,
) -> Result<(F, bool), OpenError> {
    let made = match mode {
        OpenMode::Existing => return existing().map(|file| (file, false)),
        OpenMode::CreateNew | OpenMode::Create => new(),
    };
    match made {
        Err(OpenError::Io { source, .. })
            if mode == OpenMode::Create && source.kind() == io::ErrorKind::AlreadyExists =>
        {
            existing().map(|file| (file, false))
        }
        made => made.map(|file| (file, true)),
    }
}

impl Known {
    /// The same as `found`, which was opened by the path that it had or has got.
    pub(super) fn check(&self, found: &Opened, path: &Path) -> Result<(), OpenError> {
        match (found.id, found.born) == (self.id, self.born) {
            true => Ok(()),
            false => {
                let what = "was replaced by another file";
                Err(OpenError::Changed { path: path.to_owned(), what })
            }
        }
    }
}

/// Where a file was, there is none any more.
pub(super) fn removed_if_missing(error: OpenError) -> OpenError {
    match error {
        OpenError::Io { path, source, .. } if source.kind() == io::ErrorKind::NotFound => {
            OpenError::Changed { path, what: "was removed" }
        }
        error => error,
    }
}
