//! Who is at the other end of a connection, as the kernel noted it when they connected. What they have become
//! since then does not matter, and nobody is asked who might not answer.
//!
//! The groups are those of the process itself (`SO_PEERGROUPS`), and not what the user database has for the
//! user: a membership that was given since the last login is not there yet, one that a container or a service
//! manager has added is, and no directory service is between.

use interprocess::local_socket::tokio::{Stream, prelude::*};

use crate::access::Peer;

#[cfg(unix)]
pub(super) fn peer(socket: &Stream) -> Peer {
    let Ok(known) = socket.peer_creds() else {
        return Peer::default();
    };
    let mut groups: Vec<_> = known.egid().into_iter().collect();
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsFd;
        let Stream::UdSocket(socket) = socket;
        // A kernel that does not know the question (before 4.13) leaves a peer with the one group.
        groups.extend(crate::storage::peer_groups(socket.inner().as_fd()).unwrap_or_default());
    }
    #[cfg(not(target_os = "linux"))]
    groups.extend(known.groups().into_iter().flatten());
    let pid = known.pid().and_then(|pid| u32::try_from(pid).ok());
    Peer { pid, uid: known.euid(), groups }
}

#[cfg(not(unix))]
pub(super) fn peer(socket: &Stream) -> Peer {
    let pid = socket.peer_creds().ok().and_then(|known| known.pid());
    Peer { pid, ..Peer::default() }
}
