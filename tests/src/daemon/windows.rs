//! What can be done to a daemon on Windows.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use super::{Daemon, PATIENCE};
use freemkvd_client::control::Control;

/// Where a daemon listens that has `home` to itself: its random name is the pipe's, too.
pub(super) fn new_socket(home: &Path) -> PathBuf {
    let name = home.file_name().unwrap_or_default().to_string_lossy();
    PathBuf::from(format!(r"\\.\pipe\freemkvd-{}", name.trim_start_matches('.')))
}

impl Daemon {
    /// Has it drain and stop, and returns how it ended and what it logged.
    ///
    /// # Panics
    /// When it does not answer, or does not end.
    pub fn stop(self) -> (ExitStatus, String) {
        let mut control =
            Control::connect(Some(self.socket()), PATIENCE).expect("freemkvd answers");
        control.drain().expect("it is asked to stop");
        self.wait()
    }
}
