//! Where clients connect: a socket that systemd has passed, or one, or a named pipe, that is made here.

#[cfg_attr(target_os = "linux", path = "systemd.rs")]
#[cfg_attr(not(target_os = "linux"), path = "alone.rs")]
mod passed;
#[cfg_attr(unix, path = "unix.rs")]
#[cfg_attr(windows, path = "windows.rs")]
mod platform;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use interprocess::local_socket::tokio::Listener;

use super::scrape::Endpoint;
use crate::config::Config;
use crate::supervisor::{self, Passed};

pub(super) use platform::close;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody answers there.
    #[error(
        "another freemkvd listens on {0}; stop it ({how}), or choose another socket with --socket",
        how = supervisor::HOW_TO_STOP
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
    /// There is no place for metrics.
    #[error(
        "cannot listen on {address} for metrics: {source}; choose another metrics.listen, or enable \
         freemkvd-metrics.socket where the service has no network"
    )]
    Metrics {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// What systemd passed for metrics is no socket for that.
    #[error(
        "cannot use the socket that systemd passed for metrics: {0}; see freemkvd-metrics.socket"
    )]
    PassedMetrics(io::Error),
    /// What systemd passed is no listening socket.
    #[error("cannot use the socket that systemd passed: {0}; see freemkvd.socket")]
    Passed(io::Error),
}

/// Listens where `config` says, or on the socket that systemd has passed. Returns also where that is.
///
/// # Errors
/// [`ListenError`].
pub fn listen(config: &Config, passed: &mut Passed) -> Result<(Listener, PathBuf), ListenError> {
    if let Some(listening) = passed::adopt(config, passed)? {
        return Ok(listening);
    }
    let path = config.socket();
    match platform::bind(&path, config) {
        Ok(listener) => Ok((listener, path)),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(ListenError::InUse(path)),
        Err(source) => Err(ListenError::Io { path, source }),
    }
}

/// Listens for those who want metrics: on the socket that systemd has passed for that, or where `config` says, if it
/// does.
///
/// # Errors
/// [`ListenError`].
pub fn listen_for_metrics(
    config: &Config,
    passed: &mut Passed,
) -> Result<Option<Endpoint>, ListenError> {
    if let Some(listener) = passed.take_metrics() {
        return Endpoint::adopt(listener).map(Some).map_err(ListenError::PassedMetrics);
    }
    let bind = |address| {
        Endpoint::bind(address).map_err(|source| ListenError::Metrics { address, source })
    };
    config.metrics_listen.map(bind).transpose()
}
