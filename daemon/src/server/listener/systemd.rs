//! The socket that systemd has passed, and who is at the other end of one that is in the way.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use interprocess::local_socket::tokio::Listener;
use tracing::warn;

use super::ListenError;
use crate::config::Config;
use crate::supervisor::Passed;

/// The socket that was passed, if one was, and where it is.
pub(super) fn adopt(
    config: &Config,
    passed: &mut Passed,
) -> Result<Option<(Listener, PathBuf)>, ListenError> {
    let Some(socket) = passed.socket.take() else { return Ok(None) };
    let (listener, path) = take(socket).map_err(ListenError::Passed)?;
    warn_of_another_way_in(config, &path);
    Ok(Some((listener, path)))
}

fn take(socket: std::os::fd::OwnedFd) -> io::Result<(Listener, PathBuf)> {
    use interprocess::os::unix::uds_local_socket::tokio::Listener as UnixListener;

    // Of another family it has no such address; connected, it could only fail to accept, again and again.
    if !rustix::net::sockopt::socket_acceptconn(&socket)? {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it does not listen"));
    }
    // Clients are told who has called this, from now on it is no longer systemd. As many may wait as the
    // system allows.
    rustix::net::listen(&socket, i32::MAX)?;
    let listener = std::os::unix::net::UnixListener::from(socket);
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let path = address.as_pathname().unwrap_or(Path::new("an unnamed socket")).to_owned();
    let listener = UnixListener::try_from(std::os::fd::OwnedFd::from(listener))?;
    Ok((listener.into(), path))
}

/// The socket of systemd is as its unit says. Whoever configures something else here would wait in vain for it
/// to make a difference.
fn warn_of_another_way_in(config: &Config, path: &Path) {
    use std::os::unix::fs::MetadataExt;

    // One that is not in the file system is a matter of its unit alone.
    let Ok(found) = std::fs::metadata(path) else { return };
    let mode = found.mode() & 0o7777;
    if let Some(wanted) = config.socket_mode.filter(|wanted| *wanted != mode) {
        warn!(
            "access.socket_mode is {wanted:04o}, and the socket that systemd has made has {mode:04o}, which counts; \
             change SocketMode= of freemkvd.socket, or remove the key"
        );
    }
    if let Some(wanted) = config.socket_group.as_ref().filter(|wanted| wanted.id != found.gid()) {
        warn!(
            "access.socket_group is {}, and the socket that systemd has made has group {}, which counts; change \
             SocketGroup= of freemkvd.socket, or remove the key",
            wanted.name,
            found.gid()
        );
    }
}

/// True when the process that listens has no main thread any more.
pub(super) fn is_of_the_dead(connection: &UnixStream) -> bool {
    let peer = rustix::net::sockopt::socket_peercred(connection);
    let process = peer.map(|peer| peer.pid.as_raw_pid());
    let stat =
        process.ok().and_then(|process| procfs::process::Process::new(process).ok()?.stat().ok());
    stat.is_some_and(|stat| stat.state == 'Z')
}
