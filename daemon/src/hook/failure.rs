//! Why a run of the program is worth a warning.

use std::io;
use std::process::ExitStatus;

use crate::config::Span;

/// See the module's documentation. As a sentence about the program goes on.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// There was no run.
    #[error("cannot be run: {0}")]
    Start(#[source] io::Error),
    /// It says so itself, or somebody has killed it.
    #[error("failed with {0}")]
    Status(ExitStatus),
    /// It has ended, and somebody else has heard how: whoever started the daemon has SIGCHLD ignored.
    #[error("has ended, and it is not known how: {0}")]
    Lost(#[source] io::Error),
    /// It was ended.
    #[error("was ended, as it ran for more than {0} (hook.timeout)")]
    TooLong(Span),
    /// It was ended.
    #[error("was ended, as the daemon ends")]
    DaemonEnds,
}
