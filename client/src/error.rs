//! [`Error`]: why a call failed, in a form that a program can act on and a person can read.
//!
//! 1. It is `Clone`, so that the first failure of a stream is told again, unchanged, to every later
//!    call.
//! 2. Its text is one sentence: what failed, where, what to do.
//! 3. As an [`io::Error`] it never has the kind `Interrupted`: std's loops (`write_all`, `io::copy`,
//!    `BufWriter`) retry that kind for ever, without looking at anybody's halt flag.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use freemkvd_proto::socket::SOCKET_ENV;
use freemkvd_proto::{ErrorCode, Failure};

/// Why a call failed.
///
/// The methods of [`Write`](io::Write) and [`Seek`](io::Seek) return it inside an [`io::Error`],
/// whose `raw_os_error()` is then `None`. To get the operating system's number out of one:
///
/// ```
/// # use std::io;
/// fn is_disk_full(error: &io::Error) -> bool {
///     match freemkvd_client::Error::inside(error) {
///         Some(error) => error.errno() == Some(28),
///         None => error.raw_os_error() == Some(28),
///     }
/// }
/// # assert!(!is_disk_full(&io::Error::from(io::ErrorKind::Other)));
/// ```
///
/// `error.kind() == ErrorKind::StorageFull` does the same portably.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nobody listens at the socket, or it can't be reached.
    #[error("cannot reach freemkvd at {}; {}", socket.display(), reach_hint(source))]
    NoDaemon {
        /// The socket that was tried.
        socket: PathBuf,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
    /// What answers at the socket does not want this connection, or is not a freemkvd.
    #[error("freemkvd at {} refused the connection: {message}", socket.display())]
    Refused {
        /// The socket.
        socket: PathBuf,
        /// Why, for a program.
        code: ErrorCode,
        /// Why, for a person.
        message: String,
    },
    /// The daemon refused to open the file, or failed to write it.
    #[error("{}", told(path, operation, failure))]
    Failed {
        /// The file, or the socket for a control request.
        path: PathBuf,
        /// What was being done.
        operation: &'static str,
        /// Code, errno, offset and message of the daemon.
        failure: Failure,
    },
    /// The connection ended although the stream had not, and the stream could not go on with another one:
    /// see [`Options::resume_timeout`](crate::Options::resume_timeout).
    #[error(
        "lost freemkvd while writing {}: {cause}; {written_bytes} bytes are known to be written, \
         {durable_bytes} of them durable; write the file again",
        path.display()
    )]
    Lost {
        /// The file, or the socket for a control request.
        path: PathBuf,
        /// Bytes of content, patches counted again, that the daemon had handed to the kernel.
        written_bytes: u64,
        /// Bytes of content that were durable.
        durable_bytes: u64,
        /// How the connection ended.
        cause: Arc<io::Error>,
    },
    /// A call to the operating system failed in this process.
    #[error("cannot {operation} {}{}: {cause}", path.display(), At(*offset))]
    Io {
        /// The file or socket.
        path: PathBuf,
        /// What was being done.
        operation: &'static str,
        /// Where in the file, in bytes, if it was at a place.
        offset: Option<u64>,
        /// What the operating system said.
        cause: Arc<io::Error>,
    },
    /// The deadline passed. Nothing is known to have failed, and nothing to have succeeded: after a
    /// sync the content is *not known to be durable*. The stream goes on, the call may be repeated.
    #[error("{operation} {} took longer than {after:?}, its outcome is unknown; try again", path.display())]
    TimedOut {
        /// The file or socket.
        path: PathBuf,
        /// What was being done.
        operation: &'static str,
        /// The deadline.
        after: Duration,
    },
    /// The halt flag was set while the call had to wait. What was taken before stays taken.
    #[error("{operation} {} was halted", path.display())]
    Halted {
        /// The file.
        path: PathBuf,
        /// What was being done.
        operation: &'static str,
    },
    /// The request makes no sense: an option out of range, an offset beyond what a file can have.
    #[error("{}: {message}", path.display())]
    Invalid {
        /// The file or socket.
        path: PathBuf,
        /// What is wrong with it.
        message: &'static str,
    },
}

impl Error {
    /// The error inside an [`io::Error`] that a method of this crate returned.
    #[must_use]
    pub fn inside(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// The operating system's error number, if it was the one that failed.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::NoDaemon { source, .. } => source.raw_os_error(),
            Self::Failed { failure, .. } => failure.errno,
            Self::Io { cause, .. } => cause.raw_os_error(),
            _ => None,
        }
    }

    /// Where in the file it failed, in bytes, if that is known.
    #[must_use]
    pub fn offset(&self) -> Option<u64> {
        match self {
            Self::Failed { failure, .. } => failure.offset,
            Self::Io { offset, .. } => *offset,
            _ => None,
        }
    }

    /// The daemon's code, if it was the daemon that failed or refused.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::Failed { failure, .. } => Some(failure.code),
            _ => None,
        }
    }

    /// The file, or the socket when it was about the connection.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::NoDaemon { socket, .. } | Self::Refused { socket, .. } => socket,
            Self::Failed { path, .. }
            | Self::Lost { path, .. }
            | Self::Io { path, .. }
            | Self::TimedOut { path, .. }
            | Self::Halted { path, .. }
            | Self::Invalid { path, .. } => path,
        }
    }

    /// The kind that it has as an [`io::Error`]. Halted is `Other` (rule 3).
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        let kind = match self {
            Self::NoDaemon { source, .. } => source.kind(),
            Self::Refused { code, .. } => kind_of_code(*code),
            Self::Failed { failure, .. } => match failure.errno {
                Some(errno) => io::Error::from_raw_os_error(errno).kind(),
                None => kind_of_code(failure.code),
            },
            Self::Lost { .. } => io::ErrorKind::ConnectionAborted,
            Self::Io { cause, .. } => cause.kind(),
            Self::TimedOut { .. } => io::ErrorKind::TimedOut,
            Self::Halted { .. } => io::ErrorKind::Other,
            Self::Invalid { .. } => io::ErrorKind::InvalidInput,
        };
        match kind {
            io::ErrorKind::Interrupted => io::ErrorKind::Other,
            kind => kind,
        }
    }

    /// True when no daemon listens at all, which is when a caller may do without one. A daemon that
    /// is there and refuses is not absent.
    #[must_use]
    pub fn is_absent_daemon(&self) -> bool {
        let Self::NoDaemon { source, .. } = self else {
            return false;
        };
        is_absent(source)
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(error.kind(), error)
    }
}

/// `ConnectionRefused` is a socket that nobody listens at any more, or a directory that a container
/// runtime made where a socket should have been.
fn is_absent(source: &io::Error) -> bool {
    matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

fn reach_hint(source: &io::Error) -> String {
    if is_absent(source) {
        format!("start it, name its socket in {SOCKET_ENV}, or set that to `off` to do without it")
    } else if source.kind() == io::ErrorKind::PermissionDenied {
        "only members of the socket's group may write through it".to_owned()
    } else {
        format!("check the socket, or name another in {SOCKET_ENV}")
    }
}

fn reason(failure: &Failure) -> String {
    if failure.message.is_empty() { failure.code.to_string() } else { failure.message.clone() }
}

/// What the daemon said, which is a sentence that names the file, or at least a reason.
fn told(path: &Path, operation: &str, failure: &Failure) -> String {
    let path = path.display().to_string();
    if let Some(what) = of_descriptors(failure) {
        return format!("{path} can't be opened here and passed to freemkvd: {what}");
    }
    if failure.message.contains(&path) {
        return failure.message.clone();
    }
    let at = At(failure.offset);
    format!("cannot {operation} {path}{at}: {}", reason(failure))
}

/// Why it takes no descriptors. Its advice is for those who speak the protocol themselves, and here that is this library.
fn of_descriptors(failure: &Failure) -> Option<&str> {
    let (_, said) = failure.message.split_once(" by the descriptors that came for it: ")?;
    let what = said.split_once("; open the file twice").map_or(said, |(what, _)| what);
    (failure.code == ErrorCode::BAD_FILE).then_some(what)
}

fn kind_of_code(code: ErrorCode) -> io::ErrorKind {
    match code {
        ErrorCode::VERSION => io::ErrorKind::Unsupported,
        ErrorCode::OFFSET_RANGE | ErrorCode::BAD_PATH | ErrorCode::NOT_A_FILE => {
            io::ErrorKind::InvalidInput
        }
        ErrorCode::NOT_FOUND => io::ErrorKind::NotFound,
        ErrorCode::IN_USE => io::ErrorKind::ResourceBusy,
        ErrorCode::EXISTS => io::ErrorKind::AlreadyExists,
        ErrorCode::NOT_ALLOWED
        | ErrorCode::OUTSIDE_ROOTS
        | ErrorCode::PERMISSION
        | ErrorCode::NOT_YOURS => io::ErrorKind::PermissionDenied,
        ErrorCode::READ_ONLY => io::ErrorKind::ReadOnlyFilesystem,
        ErrorCode::NO_SPACE | ErrorCode::NO_SPACE_AHEAD => io::ErrorKind::StorageFull,
        ErrorCode::HANDSHAKE_TIMEOUT => io::ErrorKind::TimedOut,
        ErrorCode::TOO_MANY_CONNECTIONS
        | ErrorCode::TOO_MANY_STREAMS
        | ErrorCode::NO_RESOURCES
        | ErrorCode::GOING_AWAY => io::ErrorKind::ConnectionRefused,
        ErrorCode(100..=199) => io::ErrorKind::InvalidData,
        _ => io::ErrorKind::Other,
    }
}

/// ` at byte N`, or nothing.
struct At(Option<u64>);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(offset) => write!(f, " at byte {offset}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(code: ErrorCode, errno: Option<i32>) -> Error {
        Error::Failed {
            path: "/rips/film.mkv".into(),
            operation: "write",
            failure: Failure {
                code,
                errno,
                offset: Some(4096),
                message: "no space left on device; free some".into(),
            },
        }
    }

    #[test]
    fn errno_offset_and_path_survive_the_way_through_io_error() {
        let error = io::Error::from(failed(ErrorCode::NO_SPACE, Some(28)));
        let inside = Error::inside(&error).unwrap();
        assert_eq!(inside.errno(), Some(28));
        assert_eq!(inside.offset(), Some(4096));
        assert_eq!(inside.path(), Path::new("/rips/film.mkv"));
        assert_eq!(
            error.to_string(),
            "cannot write /rips/film.mkv at byte 4096: no space left on device; free some"
        );
    }

    #[test]
    fn what_is_wrong_with_descriptors_is_said_to_those_who_have_passed_none() {
        let message = "/rips/film.mkv can't be written by the descriptors that came for it: it lies in memory, which \
                       would count as freemkvd's; open the file twice, for writing and nothing else, and pass both";
        let failure = Failure::new(ErrorCode::BAD_FILE, message.to_owned());
        let error = Error::Failed { path: "/rips/film.mkv".into(), operation: "open", failure };
        assert_eq!(
            error.to_string(),
            "/rips/film.mkv can't be opened here and passed to freemkvd: it lies in memory, which would count as \
             freemkvd's"
        );
    }

    #[test]
    fn the_kind_comes_from_the_code_where_there_is_no_errno() {
        let kind = |code| io::Error::from(failed(code, None)).kind();
        assert_eq!(kind(ErrorCode::NO_SPACE), io::ErrorKind::StorageFull);
        assert_eq!(kind(ErrorCode::IN_USE), io::ErrorKind::ResourceBusy);
        assert_eq!(kind(ErrorCode::BAD_FRAME), io::ErrorKind::InvalidData);
        assert_eq!(kind(ErrorCode(999)), io::ErrorKind::Other);
    }

    #[cfg(unix)]
    #[test]
    fn the_kind_comes_from_errno_but_is_never_interrupted() {
        let kind = |errno| io::Error::from(failed(ErrorCode::IO, Some(errno))).kind();
        assert_eq!(kind(28), io::ErrorKind::StorageFull);
        assert_eq!(kind(30), io::ErrorKind::ReadOnlyFilesystem);
        assert_eq!(kind(4), io::ErrorKind::Other);
    }
}
