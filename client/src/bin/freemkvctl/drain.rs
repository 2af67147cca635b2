//! `freemkvctl drain`: the daemon writes what it has accepted, and stops.

use std::path::Path;
use std::time::Duration;

use freemkvd_client::control::Control;

use crate::exit::{Exit, Failed};

/// The answer says that it has begun, so it comes as fast as that to a status.
const TIMEOUT: Duration = Duration::from_secs(1);

pub(crate) fn run(socket: Option<&Path>) -> Result<Exit, Failed> {
    Control::connect(socket, TIMEOUT)?.drain()?;
    Ok(Exit::Fine)
}
