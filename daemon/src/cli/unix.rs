//! On Unix it only serves; service managers have programs of their own.

use clap::Args;

use super::Said;
use crate::server::Source;

pub(super) const AFTER_HELP: &str = "\
Serve one directory to yourself, in the foreground:  freemkvd --root /srv/rips
As a system service:                                 systemctl enable --now freemkvd.socket
See what it does:                                    freemkvctl status";

/// What else can be done here: nothing.
#[derive(Debug, Args)]
pub struct Other {}

impl Other {
    /// `None`: it is to serve.
    #[must_use]
    pub fn run(self, _source: &Source) -> Option<Said> {
        None
    }
}
