//! Where nobody passes a socket.

use std::path::PathBuf;

use interprocess::local_socket::tokio::Listener;

use super::ListenError;
use crate::config::Config;
use crate::supervisor::Passed;

/// None is passed.
#[expect(clippy::unnecessary_wraps, reason = "the same surface as with systemd")]
pub(super) fn adopt(
    _config: &Config,
    _passed: &mut Passed,
) -> Result<Option<(Listener, PathBuf)>, ListenError> {
    Ok(None)
}

/// Not told: whoever answers a connect lives.
#[cfg(unix)]
pub(super) fn is_of_the_dead(_connection: &std::os::unix::net::UnixStream) -> bool {
    false
}
