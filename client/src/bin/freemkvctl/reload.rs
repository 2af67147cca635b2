//! `freemkvctl reload`: the daemon reads its configuration again, and says what has changed.

use std::path::Path;
use std::time::Duration;

use freemkvd_client::control::Control;

use crate::exit::{Exit, Failed};
use crate::status::print;
use crate::table::plain;

/// The file may name users and groups whom a server has to be asked for.
const TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) fn run(socket: Option<&Path>) -> Result<Exit, Failed> {
    let reloaded = Control::connect(socket, TIMEOUT)?.reload()?;
    let list = |title: &str, changes: &[String]| match changes {
        [] => format!("{title}: nothing\n"),
        changes => format!("{title}: {}\n", plain(&changes.join("; "))),
    };
    let changed = list("changed", &reloaded.changed);
    print(&(changed + &list("needs a restart", &reloaded.needs_restart)))?;
    Ok(Exit::Fine)
}
