//! A named pipe. Its access list is explicit, because the system's own lets everybody read:
//!
//! 1. The user that the daemon runs as, the system, and administrators may do everything.
//! 2. The users and groups that the configuration names may read and write, and not add another end to the pipe:
//!    whoever may could be taken for the daemon.
//! 3. Nobody comes over the network. The first end has to be the first (`FILE_FLAG_FIRST_PIPE_INSTANCE`), so that
//!    nobody else has made the pipe before, with another list.

use std::io;
use std::path::Path;

use freemkvd_proto::socket::PIPE_ACCESS;
use interprocess::ConnectWaitMode;
use interprocess::local_socket::tokio::Listener;
use interprocess::os::windows::named_pipe::pipe_mode::Bytes;
use interprocess::os::windows::named_pipe::{PipeListenerOptions, local_socket};
use interprocess::os::windows::security_descriptor::SecurityDescriptor;
use widestring::U16CString;

use crate::access::Named;
use crate::config::Config;
use crate::user;

/// What the system keeps of each direction while nobody reads it. A few frames: the queue is in the daemon.
const BUFFER_BYTES: u32 = 256 << 10;

/// `ERROR_ACCESS_DENIED`: the pipe is there, and somebody else's.
const ERROR_ACCESS_DENIED: i32 = 5;

/// Makes the pipe `path`, for whom `config` says.
pub(super) fn bind(path: &Path, config: &Config) -> io::Result<Listener> {
    check(path)?;
    refuse_a_second(path)?;
    let list = access_list(config)?;
    let list = U16CString::from_str(list).map_err(io::Error::other)?;
    let options = PipeListenerOptions::new()
        .path(path)
        .security_descriptor(Some(SecurityDescriptor::deserialize(&list)?))
        .input_buffer_size_hint(BUFFER_BYTES)
        .output_buffer_size_hint(BUFFER_BYTES);
    match options.create_tokio_duplex::<Bytes>() {
        Ok(listener) => Ok(Listener::NamedPipe(local_socket::tokio::Listener::from(listener))),
        Err(error) if error.raw_os_error() == Some(ERROR_ACCESS_DENIED) => {
            Err(io::ErrorKind::AddrInUse.into())
        }
        Err(error) => Err(error),
    }
}

/// Stops listening.
pub(in crate::server) fn close(listener: Listener) {
    drop(listener);
}

/// Pipes have a directory of their own, and no other.
fn check(path: &Path) -> io::Result<()> {
    if freemkvd_proto::socket::is_pipe(path) {
        return Ok(());
    }
    let message = format!(
        r"it is not the name of a pipe; on Windows that is \\.\pipe\ and a name, as in {}",
        freemkvd_proto::socket::system_socket().display()
    );
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}

/// Another daemon answers. (Making the pipe would tell, too; but not on every system that runs programs of Windows.)
fn refuse_a_second(path: &Path) -> io::Result<()> {
    let wait = ConnectWaitMode::Timeout(std::time::Duration::ZERO);
    match interprocess::os::windows::named_pipe::DuplexPipeStream::<Bytes>::connect_by_path_with_wait_mode(path, wait) {
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(io::ErrorKind::AddrInUse.into()),
        Err(_) => Ok(()),
    }
}

/// In the language of security descriptors (SDDL).
fn access_list(config: &Config) -> io::Result<String> {
    let Some(ours) = user::ours() else {
        return Err(io::Error::other("the system does not tell which user freemkvd runs as"));
    };
    let mut list = format!("D:P(D;;GA;;;NU)(A;;GA;;;{ours})(A;;GA;;;SY)(A;;GA;;;BA)");
    let access = &config.access;
    let named = access.users.iter().chain(&access.groups).chain(&access.admin_group);
    for Named { id, .. } in named {
        list += &format!("(A;;{PIPE_ACCESS:#x};;;{id})");
    }
    Ok(list)
}
