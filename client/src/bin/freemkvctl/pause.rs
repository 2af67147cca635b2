//! `freemkvctl pause` and `resume`: have a stream written no further for now, and have it go on.

use std::path::Path;

use freemkvd_client::control::Control;

use crate::cli::{PauseOptions, ResumeOptions};
use crate::exit::{Exit, Failed};
use crate::status::TIMEOUT;

pub(crate) fn pause(socket: Option<&Path>, options: &PauseOptions) -> Result<Exit, Failed> {
    Control::connect(socket, TIMEOUT)?.pause(options.stream)?;
    Ok(Exit::Fine)
}

pub(crate) fn resume(socket: Option<&Path>, options: &ResumeOptions) -> Result<Exit, Failed> {
    Control::connect(socket, TIMEOUT)?.resume(options.stream)?;
    Ok(Exit::Fine)
}
