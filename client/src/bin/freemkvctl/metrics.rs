//! `freemkvctl metrics`: what a monitoring system reads.

use std::path::Path;

use freemkvd_client::control::Control;

use crate::exit::{Exit, Failed};
use crate::status::{TIMEOUT, print};

pub(crate) fn run(socket: Option<&Path>) -> Result<Exit, Failed> {
    print(&Control::connect(socket, TIMEOUT)?.metrics()?)?;
    Ok(Exit::Fine)
}
