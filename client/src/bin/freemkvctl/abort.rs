//! `freemkvctl abort`: give up a stream whose muxer can't, or whose disk never answers.

use std::path::Path;

use freemkvd_client::control::Control;

use crate::cli::AbortOptions;
use crate::exit::{Exit, Failed};
use crate::status::TIMEOUT;

pub(crate) fn run(socket: Option<&Path>, options: &AbortOptions) -> Result<Exit, Failed> {
    Control::connect(socket, TIMEOUT)?.abort(options.stream)?;
    Ok(Exit::Fine)
}
