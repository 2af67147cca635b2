//! `freemkvctl abort`: give up a stream whose muxer can't, or whose disk never answers.

use std::path::Path;
use std::time::Duration;

use freemkvd_client::control::Control;

use crate::cli::AbortOptions;
use crate::exit::{Exit, Failed};

/// As for the status: a daemon answers from memory.
const TIMEOUT: Duration = Duration::from_secs(1);

pub(crate) fn run(socket: Option<&Path>, options: &AbortOptions) -> Result<Exit, Failed> {
    Control::connect(socket, TIMEOUT)?.abort(options.stream)?;
    Ok(Exit::Fine)
}
