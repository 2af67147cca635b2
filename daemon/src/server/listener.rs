//! The socket: passed by systemd, or made here.

use std::io;
use std::path::{Path, PathBuf};

use interprocess::local_socket::tokio::Listener;
use interprocess::local_socket::{GenericFilePath, ListenerOptions, ToFsName};
#[cfg(target_os = "linux")]
use tracing::warn;

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
        let (listener, path) = adopt(socket).map_err(ListenError::Passed)?;
        warn_of_another_way_in(config, &path);
        return Ok((listener, path));
    }
    #[cfg(not(target_os = "linux"))]
    let _ = passed;
    let path = config.socket();
    match bind(&path, config) {
        Ok(listener) => Ok((listener, path)),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(ListenError::InUse(path)),
        Err(source) => Err(ListenError::Io { path, source }),
    }
}

/// Stops listening; a socket's file that was made here is gone then. With the last descriptor of it go the connections
/// that nobody has accepted, and what was sent on them, which may take for ever to be closed ([`crate::foreign`]): that
/// is for a thread for which nobody waits.
pub(super) fn close(listener: Listener) {
    #[cfg(unix)]
    {
        use std::os::fd::AsFd;

        let Listener::UdSocket(socket) = &listener;
        let last = socket.as_fd().try_clone_to_owned();
        drop(listener);
        // Without a descriptor or a thread to spare it is done here after all.
        let _ = std::thread::Builder::new().name("close:listener".into()).spawn(|| drop(last));
    }
    #[cfg(not(unix))]
    drop(listener);
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

/// The socket of systemd is as its unit says. Whoever configures something else here would wait in vain for it
/// to make a difference.
#[cfg(target_os = "linux")]
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

#[cfg(unix)]
fn bind(path: &Path, config: &Config) -> io::Result<Listener> {
    use interprocess::os::unix::local_socket::ListenerOptionsExt;

    let is_default = config.socket.is_none();
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
    let mode = config.socket_mode.unwrap_or(if private { 0o600 } else { 0o660 });
    let name = path.to_fs_name::<GenericFilePath>()?;
    // For nobody else until it has its group. (The two modes have different types on macOS.)
    let listener = ListenerOptions::new().name(name).mode(0o600).create_tokio()?;
    if let Some(group) = &config.socket_group {
        std::os::unix::fs::chown(path, None, Some(group.id))
            .map_err(|error| of_the_group(&group.name, &error))?;
    }
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))?;
    Ok(listener)
}

/// Only root gives a file to a group that it is not in.
#[cfg(unix)]
fn of_the_group(group: &str, error: &io::Error) -> io::Error {
    let message = format!("it cannot be given to group {group} (access.socket_group): {error}");
    io::Error::new(error.kind(), message)
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
fn bind(path: &Path, _config: &Config) -> io::Result<Listener> {
    let name = path.to_fs_name::<GenericFilePath>()?;
    ListenerOptions::new().name(name).create_tokio()
}
