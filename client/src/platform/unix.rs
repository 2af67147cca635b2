//! What differs on Unix: ending a connection from outside, and who a socket belongs to.

use std::io;
use std::net::Shutdown;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use interprocess::local_socket::{ConnectOptions, GenericFilePath, Stream, ToFsName};

/// Connects to the socket at this path.
pub(crate) fn dial(socket: &Path) -> io::Result<Stream> {
    let name = socket.to_fs_name::<GenericFilePath>()?;
    ConnectOptions::new().name(name).connect_sync()
}

/// Ends both directions, so that a thread blocked in a read or write of this connection returns.
pub(crate) fn hang_up(stream: &Stream) {
    let Stream::UdSocket(socket) = stream;
    // Best effort: it fails only when the connection is over already.
    let _ = socket.inner().shutdown(Shutdown::Both);
}

/// True when the system has no memory for what was to be sent, or too many descriptors are on their way
/// already (`ETOOMANYREFS`): nothing was sent, and later it may be.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::NOBUFS | Errno::NOMEM | Errno::TOOMANYREFS))
}

/// The user that this process acts as.
pub(crate) fn uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// True when the socket and the directory it is in are ours and nobody else can put another there.
/// Anybody may create names below `/tmp`; without this check they could read our rips.
pub(crate) fn is_private(socket: &Path) -> bool {
    // Not following links: a link could point at a directory that is somebody else's tomorrow.
    let owned = |path: &Path| path.symlink_metadata().ok().filter(|m| m.uid() == uid());
    let directory = socket.parent().and_then(owned);
    directory.is_some_and(|m| m.is_dir() && m.mode() & 0o022 == 0) && owned(socket).is_some()
}

/// Makes the directory's entries durable: without it a power cut can forget a new file's name.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    std::fs::File::open(directory)?.sync_all()
}
