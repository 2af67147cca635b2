//! Sockets, descriptors and directories of Unix.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, getuid, setrlimit};

/// The socket of the user that this process runs as.
#[must_use]
pub fn user_socket() -> PathBuf {
    let runtime_dir = std::env::var_os("XDG_RUNTIME_DIR");
    freemkvd_proto::socket::user_socket(runtime_dir.as_deref(), getuid().as_raw())
}

/// Where a daemon that listens on `socket` keeps what the next one has to know: beside it, in a directory that a
/// restart leaves alone and a boot does not. `None` for a socket that has no place.
#[must_use]
pub fn ledger_directory(socket: &Path) -> Option<PathBuf> {
    let mut directory = socket.as_os_str().to_owned();
    directory.push(".streams");
    socket.is_absolute().then(|| directory.into())
}

/// Raises the limit of open files as far as it goes; `None` where there is no such limit.
#[must_use]
pub fn raise_descriptor_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX);
    // What can't be raised stays as it is; streams are admitted by it. macOS refuses more than OPEN_MAX, whatever
    // the limit says.
    for current in [limit.maximum, Some(most.min(OPEN_MAX))] {
        if setrlimit(Resource::Nofile, Rlimit { current, maximum: limit.maximum }).is_ok() {
            break;
        }
    }
    getrlimit(Resource::Nofile).current
}

/// `OPEN_MAX` of macOS's sys/syslimits.h.
const OPEN_MAX: u64 = 10_240;

/// True when the system has no memory for what was to be sent: nothing was, and later it may be.
#[must_use]
pub fn is_short_of_buffers(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOBUFS | Errno::NOMEM))
}

/// True when this process or the system can have no more files open, or no more memory.
#[must_use]
pub fn is_short_of_files(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM))
}

/// Nobody keeps a file from others here.
#[must_use]
pub fn is_sharing_violation(_error: &io::Error) -> bool {
    false
}

/// Makes the directory of a socket below `/tmp` or a runtime directory, ours alone.
///
/// # Errors
/// It can't be made, or it is somebody else's.
pub fn make_private_directory(path: &Path) -> io::Result<()> {
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        result => return result,
    }
    let metadata = std::fs::symlink_metadata(path)?;
    let ours =
        metadata.is_dir() && metadata.uid() == getuid().as_raw() && metadata.mode() & 0o022 == 0;
    if !ours {
        let message = "the directory is not one that this user owns and nobody else can write";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
    }
    Ok(())
}

/// The first `len` bytes of a name.
#[must_use]
pub fn name_prefix(name: &OsStr, len: usize) -> Option<&OsStr> {
    name.as_bytes().get(..len).map(OsStr::from_bytes)
}
