//! The socket: passed by systemd, or made here.

use std::io;
use std::path::{Path, PathBuf};

use interprocess::local_socket::tokio::Listener;
use interprocess::local_socket::{GenericFilePath, ListenerOptions, ToFsName};

use crate::config::Config;
use crate::systemd::Passed;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody answers there.
    #[error(
        "another freemkvd listens on {0}; stop it (systemctl stop freemkvd), or choose another \
         socket with --socket"
    )]
    InUse(PathBuf),
    /// The system said no.
    #[error("cannot listen on {path}: {source}; choose another socket with --socket")]
    Io {
        /// The socket's path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What systemd passed is no listening socket.
    #[error("cannot use the socket that systemd passed: {0}; see freemkvd.socket")]
    Passed(io::Error),
}

/// Listens where `config` says, or on the socket that systemd has passed. Returns also where that is.
///
/// # Errors
/// [`ListenError`].
pub fn listen(config: &Config, passed: &mut Passed) -> Result<(Listener, PathBuf), ListenError> {
    #[cfg(target_os = "linux")]
    if let Some(socket) = passed.socket.take() {
        return adopt(socket).map_err(ListenError::Passed);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = passed;
    let path = config.socket();
    match bind(&path, config.socket.is_none()) {
        Ok(listener) => Ok((listener, path)),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(ListenError::InUse(path)),
        Err(source) => Err(ListenError::Io { path, source }),
    }
}

#[cfg(target_os = "linux")]
fn adopt(socket: std::os::fd::OwnedFd) -> io::Result<(Listener, PathBuf)> {
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

#[cfg(unix)]
fn bind(path: &Path, is_default: bool) -> io::Result<Listener> {
    use interprocess::os::unix::local_socket::ListenerOptionsExt;

    if let (true, Some(directory)) = (is_default, path.parent()) {
        // Anybody can make a directory in /tmp before us.
        if !directory.exists() || directory.starts_with("/tmp") {
            crate::platform::make_private_directory(directory)?;
        }
    }
    remove_stale(path)?;
    // A socket of one's own is for oneself; the system's is for its group.
    let own = is_default && path == crate::platform::user_socket();
    let private = own && crate::platform::uid() != 0;
    let name = path.to_fs_name::<GenericFilePath>()?;
    let options = ListenerOptions::new().name(name);
    let listener = options.mode(if private { 0o600 } else { 0o660 }).create_tokio()?;
    // Again: the umask has taken its part of the mode. (The two take different types on macOS.)
    let mode = std::os::unix::fs::PermissionsExt::from_mode(if private { 0o600 } else { 0o660 });
    std::fs::set_permissions(path, mode)?;
    Ok(listener)
}

/// A socket that nobody listens on is left over from a daemon that was killed. So is one whose daemon was
/// killed while a thread of it hangs in a dead disk: it can be connected to, and nobody will ever answer.
#[cfg(unix)]
fn remove_stale(path: &Path) -> io::Result<()> {
    match std::os::unix::net::UnixStream::connect(path) {
        #[cfg(target_os = "linux")]
        Ok(connection) if is_of_the_dead(&connection) => std::fs::remove_file(path),
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            use std::os::unix::fs::FileTypeExt;
            // A file of another kind that is in the way is not ours to remove.
            if std::fs::symlink_metadata(path)?.file_type().is_socket() {
                std::fs::remove_file(path)
            } else {
                Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file is in the way"))
            }
        }
        Err(_) => Ok(()),
    }
}

/// True when the process that listens has no main thread any more.
#[cfg(target_os = "linux")]
fn is_of_the_dead(connection: &std::os::unix::net::UnixStream) -> bool {
    let peer = rustix::net::sockopt::socket_peercred(connection);
    let process = peer.map(|peer| peer.pid.as_raw_pid());
    let stat =
        process.ok().and_then(|process| procfs::process::Process::new(process).ok()?.stat().ok());
    stat.is_some_and(|stat| stat.state == 'Z')
}

#[cfg(not(unix))]
fn bind(path: &Path, _is_default: bool) -> io::Result<Listener> {
    let name = path.to_fs_name::<GenericFilePath>()?;
    ListenerOptions::new().name(name).create_tokio()
}
