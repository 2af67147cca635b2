//! With which modes files and directories are made, when they are opened by path, and how many directories.

use std::fmt;
use std::io;

/// The modes of what is new, before the umask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Creation {
    /// Of a file.
    pub file_mode: u32,
    /// Of a directory that is missing on the way; `None`: then the file is refused.
    pub directory_mode: Option<u32>,
}

impl fmt::Display for Creation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mode {:04o}, ", self.file_mode)?;
        match self.directory_mode {
            Some(mode) => write!(f, "directories made with mode {mode:04o}"),
            None => f.write_str("no directories made"),
        }
    }
}

impl Default for Creation {
    fn default() -> Self {
        Self { file_mode: 0o666, directory_mode: None }
    }
}

/// Most directories that are made for one file: more than anybody has a use for, and each costs a sync, for which a
/// disk that is busy takes its time.
pub(super) const DIRECTORIES_MADE_MAX: usize = 16;

/// More are missing.
pub(super) fn too_many_missing() -> io::Error {
    io::Error::other(format!(
        "more than {DIRECTORIES_MADE_MAX} directories are missing, and no more are made for one file; make some of \
         them first"
    ))
}
