//! Why a file could not be opened, in the words and the codes that its client is told.

use std::io;
use std::path::PathBuf;

use freemkvd_proto::{ErrorCode, Failure};

use crate::{platform, supervisor};

/// Why a file could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Not below a root, by its name or by a link on the way.
    #[error(
        "{path} is outside the daemon's roots ({roots}); write below one of them, or add a root to the configuration"
    )]
    OutsideRoots {
        /// The path that was asked for.
        path: PathBuf,
        /// The roots, separated by commas.
        roots: String,
    },
    /// Not something that can be written at an offset.
    #[error("{path} is {what}, not a regular file; choose another name")]
    NotAFile {
        /// The path that was asked for.
        path: PathBuf,
        /// What it is, with its article.
        what: &'static str,
    },
    /// A file that has other names, too.
    #[error(
        "{path} has {names} names (hard links), and what is written to it by one shows by all; remove this name first, \
         write to another and have it published, or choose another"
    )]
    Linked {
        /// The path that was asked for.
        path: PathBuf,
        /// How many.
        names: u64,
    },
    /// A file that runs as somebody else.
    #[error(
        "{path} has a set-user-id or set-group-id bit, which a write of freemkvd's might leave where one of yours \
         would take it away; take the bit away first, or choose another name"
    )]
    SetId {
        /// What the client calls it.
        path: PathBuf,
    },
    /// The descriptors that came for it are not those of one regular file, opened twice to be written.
    #[error(
        "{path} can't be written by the descriptors that came for it: {what}; open the file twice, for writing and \
         nothing else, and pass both"
    )]
    BadGiven {
        /// What the client calls it.
        path: PathBuf,
        /// What is wrong with them.
        what: &'static str,
    },
    /// Not the file that it was.
    #[error(
        "{path} {what} while no freemkvd ran, so its stream can't go on; nothing was written since; \
         write the file again"
    )]
    Changed {
        /// The path that was asked for.
        path: PathBuf,
        /// What happened to it.
        what: &'static str,
    },
    /// An operating system error.
    #[error("cannot {operation} {path}: {source}{}", advice(source))]
    Io {
        /// The path that was asked for.
        path: PathBuf,
        /// What was tried.
        operation: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

fn advice(source: &io::Error) -> &'static str {
    match source.kind() {
        _ if is_held_by_another(source) => {
            "; another program has it open and does not share it; close it there, or choose another name"
        }
        _ if is_shortage(source) => supervisor::HOW_TO_MAKE_ROOM,
        io::ErrorKind::NotFound => "; create its directory, or correct the name",
        io::ErrorKind::NotADirectory => "; a file is where a directory should be: correct the name",
        io::ErrorKind::PermissionDenied => supervisor::HOW_TO_ALLOW,
        io::ErrorKind::AlreadyExists => "; choose another name, or ask for overwriting",
        io::ErrorKind::ReadOnlyFilesystem => supervisor::HOW_TO_MAKE_WRITABLE,
        // A lease, which Samba takes for an oplock.
        io::ErrorKind::WouldBlock => {
            "; another program has it open and wants to be asked first; close it there, or choose another name"
        }
        _ => "",
    }
}

/// True for what freeing some space helps against, on the file system or in a quota.
#[must_use]
pub fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// True when nothing is wrong with the file: this process, or the host, has no room for one more.
fn is_shortage(source: &io::Error) -> bool {
    platform::is_short_of_files(source)
}

/// True when another process holds the file in a way that keeps this one out, as on Windows every process may
/// (`ERROR_SHARING_VIOLATION`).
fn is_held_by_another(source: &io::Error) -> bool {
    platform::is_sharing_violation(source)
}

impl OpenError {
    /// What the client is told.
    #[must_use]
    pub fn failure(&self) -> Failure {
        let (code, errno) = match self {
            Self::OutsideRoots { .. } => (ErrorCode::OUTSIDE_ROOTS, None),
            Self::NotAFile { .. } => (ErrorCode::NOT_A_FILE, None),
            Self::Linked { .. } => (ErrorCode::LINKED, None),
            Self::SetId { .. } | Self::BadGiven { .. } => (ErrorCode::BAD_FILE, None),
            Self::Changed { .. } => (ErrorCode::FILE_CHANGED, None),
            Self::Io { source, .. } => {
                let code = match source.kind() {
                    _ if is_held_by_another(source) => ErrorCode::IN_USE,
                    _ if is_shortage(source) => ErrorCode::NO_RESOURCES,
                    _ if is_no_space(source) => ErrorCode::NO_SPACE_AHEAD,
                    io::ErrorKind::NotFound => ErrorCode::NOT_FOUND,
                    io::ErrorKind::PermissionDenied => ErrorCode::PERMISSION,
                    io::ErrorKind::AlreadyExists => ErrorCode::EXISTS,
                    io::ErrorKind::ReadOnlyFilesystem => ErrorCode::READ_ONLY,
                    _ => ErrorCode::OPEN_FAILED,
                };
                (code, source.raw_os_error())
            }
        };
        Failure { code, errno, offset: None, message: self.to_string() }
    }
}
