//! `freemkvctl drain`: the daemon writes what it has accepted, and stops.

use std::path::Path;

use freemkvd_client::control::Control;

use crate::exit::{Exit, Failed};
use crate::status::TIMEOUT;

pub(crate) fn run(socket: Option<&Path>) -> Result<Exit, Failed> {
    Control::connect(socket, TIMEOUT)?.drain()?;
    Ok(Exit::Fine)
}
