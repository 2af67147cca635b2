//! A socket in the file system.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use interprocess::local_socket::tokio::Listener;
use interprocess::local_socket::{GenericFilePath, ListenerOptions, ToFsName};

use super::passed;
use crate::config::Config;

/// Makes a socket at `path`, for whom `config` says.
pub(super) fn bind(path: &Path, config: &Config) -> io::Result<Listener> {
    use interprocess::os::unix::local_socket::ListenerOptionsExt as _;

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
    let private = own && crate::user::ours() != Some(0);
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
fn of_the_group(group: &str, error: &io::Error) -> io::Error {
    let message = format!("it cannot be given to group {group} (access.socket_group): {error}");
    io::Error::new(error.kind(), message)
}

/// A socket that nobody listens on is left over from a daemon that was killed. So is one whose daemon was
/// killed while a thread of it hangs in a dead disk: it can be connected to, and nobody will ever answer.
fn remove_stale(path: &Path) -> io::Result<()> {
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(connection) if passed::is_of_the_dead(&connection) => std::fs::remove_file(path),
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

/// Stops listening; a socket's file that was made here is gone then. With the last descriptor of it go the connections
/// that nobody has accepted, and what was sent on them, which may take for ever to be closed ([`crate::foreign`]): that
/// is for a thread for which nobody waits.
pub(in crate::server) fn close(listener: Listener) {
    let Listener::UdSocket(socket) = &listener;
    let last = socket.as_fd().try_clone_to_owned();
    drop(listener);
    // Without a descriptor or a thread to spare it is done here after all.
    let _ = std::thread::Builder::new().name("close:listener".into()).spawn(|| drop(last));
}
