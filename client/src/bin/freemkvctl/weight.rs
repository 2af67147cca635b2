//! `freemkvctl weight`: how much of its device's speed a stream gets beside the others there.

use std::path::Path;

use freemkvd_client::control::Control;

use crate::cli::WeightOptions;
use crate::exit::{Exit, Failed};
use crate::status::TIMEOUT;

pub(crate) fn run(socket: Option<&Path>, options: &WeightOptions) -> Result<Exit, Failed> {
    Control::connect(socket, TIMEOUT)?.set_weight(options.stream, options.weight)?;
    Ok(Exit::Fine)
}
