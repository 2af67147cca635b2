//! Where there is no Unix: a named pipe can't be ended from outside, has no owner to
//! check, and directories can't be opened to be synced.

use std::io;
use std::path::Path;

use interprocess::local_socket::Stream;

/// Nothing to do: a blocked thread returns when the daemon closes its end.
pub(crate) fn hang_up(_stream: &Stream) {}

/// True when the system has no memory for what was to be sent.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::OutOfMemory
}

/// No such number here.
pub(crate) fn uid() -> u32 {
    0
}

/// The pipe's access list decides.
pub(crate) fn is_private(_socket: &Path) -> bool {
    true
}

/// Directories can't be opened for syncing.
#[expect(clippy::unnecessary_wraps, reason = "the same surface as on Unix")]
pub(crate) fn sync_directory(_directory: &Path) -> io::Result<()> {
    Ok(())
}
