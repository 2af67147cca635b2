//! Who opens a file that the daemon writes: this process, which passes the open file on, or the daemon,
//! which is told the path.

use std::fmt;

/// Who opens the file: see [`Options::open_by`](crate::Options::open_by).
///
/// ```no_run
/// use freemkvd_client::{OpenBy, OpenedBy, RipFile};
///
/// # fn main() -> Result<(), freemkvd_client::Error> {
/// // In a container: the file is this user's, at this place, or it is an error.
/// let file = RipFile::options().open_by(OpenBy::Descriptor).create("/rips/film.mkv")?;
/// assert_eq!(file.opened_by(), OpenedBy::Descriptor);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OpenBy {
    /// By descriptor where the daemon is another user, or in another mount namespace, or where that can't be
    /// told, and it knows how (protocol version 5). Else by path, and also where the daemon can open a file
    /// that this process can't. What somebody else may have planted on the way is refused:
    /// [`Options::open_by`](crate::Options::open_by) says what.
    #[default]
    Auto,
    /// The daemon opens the file, by its path: with the rights of the daemon's user, below the configured roots
    /// alone, and where the path leads for the daemon.
    Path,
    /// This process opens the file and passes it on: with the rights, the umask and the mounts of this process.
    /// Where that is not possible it is an error. A daemon on Linux takes such files. Links are followed, whoever
    /// made them, and a file may have several names, as with any program's own open.
    Descriptor,
}

/// Who has opened a file: see [`RipFile::opened_by`](crate::RipFile::opened_by).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenedBy {
    /// This process, which writes it itself: there is no daemon.
    Local,
    /// This process, which has passed it on to the daemon.
    Descriptor,
    /// The daemon.
    Path,
    /// The daemon, in place of this process: that can't, or the daemon does not take what it has opened.
    PathInstead,
}

impl fmt::Display for OpenedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local => "without a daemon",
            Self::Descriptor => "by descriptor",
            Self::Path => "by path",
            Self::PathInstead => "by path instead of by descriptor",
        })
    }
}
