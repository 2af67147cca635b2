//! Which daemon: an explicit socket, else the environment's, else the user's own daemon if one is
//! there, else the system's.

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use freemkvd_proto::socket::{SOCKET_ENV, system_socket, user_socket};

use crate::{Error, platform};

/// Where to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Through the daemon at this socket.
    Socket(PathBuf),
    /// Without one, because the environment says `off`.
    Off,
}

impl Place {
    /// The socket, for those who can't do without a daemon.
    pub(crate) fn socket(self) -> Result<PathBuf, Error> {
        match self {
            Self::Socket(socket) => Ok(socket),
            Self::Off => Err(Error::NoDaemon {
                socket: system_socket(),
                source: Arc::new(io::Error::new(
                    io::ErrorKind::NotFound,
                    format!("{SOCKET_ENV} is `off`"),
                )),
            }),
        }
    }
}

/// Finds the place.
pub(crate) fn locate(explicit: Option<&Path>) -> Place {
    if let Some(socket) = explicit {
        return Place::Socket(socket.to_owned());
    }
    match env::var_os(SOCKET_ENV) {
        Some(value) if value == "off" => return Place::Off,
        Some(value) if !value.is_empty() => return Place::Socket(value.into()),
        _ => {}
    }
    let runtime_dir = env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    let user = user_socket(runtime_dir.as_deref(), platform::uid());
    // A runtime directory is the user's by definition; a name below /tmp is anybody's.
    let trusted = runtime_dir.is_some() || platform::is_private(&user);
    if trusted && user.exists() {
        return Place::Socket(user);
    }
    Place::Socket(system_socket())
}
