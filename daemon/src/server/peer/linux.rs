//! `SO_PEERCRED` and `SO_PEERGROUPS`.

use std::os::fd::AsFd;

use interprocess::local_socket::tokio::{Stream, prelude::*};

use crate::access::Peer;

/// Who has connected.
pub(in crate::server) fn peer(socket: &Stream) -> Peer {
    let Ok(known) = socket.peer_creds() else {
        return Peer::default();
    };
    let mut groups: Vec<_> = known.egid().into_iter().collect();
    let Stream::UdSocket(socket) = socket;
    // A kernel that does not know the question (before 4.13) leaves a peer with the one group.
    groups.extend(crate::storage::peer_groups(socket.inner().as_fd()).unwrap_or_default());
    let pid = known.pid().and_then(|pid| u32::try_from(pid).ok());
    Peer { pid, uid: known.euid(), groups }
}

/// Known already.
pub(in crate::server) fn heard(peer: Peer, _socket: &Stream) -> Peer {
    peer
}
