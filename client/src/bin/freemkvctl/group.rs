//! Which group somebody has to join to use a socket.

#[cfg_attr(unix, path = "group/unix.rs")]
#[cfg_attr(not(unix), path = "group/none.rs")]
mod platform;

use std::path::Path;

/// The name of the group that may use the socket, or its number where it has no name here. `None` where no group may, or
/// nobody tells.
pub(crate) fn of_socket(socket: &Path) -> Option<String> {
    platform::of_socket(socket)
}
