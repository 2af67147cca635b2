//! Where files are opened by path alone, whoever the daemon is.

use std::path::Path;

use interprocess::local_socket::Stream;

/// Nobody in particular.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer;

impl Peer {
    pub(crate) fn of(_stream: &Stream) -> Self {
        Self
    }

    pub(crate) fn is_of_before(self) -> bool {
        false
    }

    pub(crate) fn is_foreign(self) -> bool {
        false
    }

    pub(crate) fn finds_the_same(self, _path: &Path) -> bool {
        true
    }
}
