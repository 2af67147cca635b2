//! Who the daemon is, as far as a client can see: its user, and whether a path leads to the same place for it.
//!
//! 1. The kernel tells who called `listen`, and keeps that with every connection from the moment of its
//!    connect. Behind a socket of systemd's that is systemd until a daemon has taken it over, and between two
//!    daemons it is the one before. So the first connection may name somebody else; once it was answered,
//!    another one names the daemon.
//! 2. What is not known is different.

#[cfg_attr(target_os = "linux", path = "process_linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "process_none.rs")]
mod process;

use std::path::Path;

use interprocess::local_socket::Stream;
use interprocess::local_socket::traits::StreamCommon as _;

use crate::platform;

/// See the module's page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    user: Option<u32>,
    /// Unknown in another pid namespace.
    process: Option<i32>,
}

impl Peer {
    pub(crate) fn of(stream: &Stream) -> Self {
        let creds = stream.peer_creds().ok();
        Self {
            user: creds.as_ref().and_then(|creds| creds.euid()),
            process: creds.as_ref().and_then(|creds| creds.pid()).filter(|process| *process > 0),
        }
    }

    /// True when this is nobody who could have answered (rule 1): init, or a process that is gone.
    pub(crate) fn is_of_before(self) -> bool {
        self.process.is_some_and(process::is_of_before)
    }

    /// True when the daemon has other rights than this process, or may see other files.
    pub(crate) fn is_foreign(self) -> bool {
        self.user != Some(platform::uid()) || !process::has_our_mounts(self.process)
    }

    /// True when `path` is known to lead to the same file for the daemon, whatever namespace that is in.
    pub(crate) fn finds_the_same(self, path: &Path) -> bool {
        process::finds_the_same(self.process, path)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn peer(process: u32) -> Peer {
        Peer { user: Some(platform::uid()), process: process.try_into().ok() }
    }

    #[test]
    fn init_and_the_dead_have_not_answered() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert!(peer(child.id()).is_of_before());
        assert!(peer(1).is_of_before());
        assert!(!peer(std::process::id()).is_of_before());
        assert!(!Peer { user: None, process: None }.is_of_before(), "who knows");
    }

    #[test]
    fn whoever_is_not_known_to_be_the_same_is_foreign() {
        let ours = peer(std::process::id());
        assert!(!ours.is_foreign());
        assert!(Peer { user: Some(platform::uid() + 1), ..ours }.is_foreign());
        assert!(Peer { user: None, ..ours }.is_foreign());
        assert!(Peer { process: None, ..ours }.is_foreign());
        let dir = tempfile::tempdir().unwrap();
        assert!(ours.finds_the_same(&dir.path().join("film")));
        assert!(!Peer { process: None, ..ours }.finds_the_same(dir.path()));
    }
}
