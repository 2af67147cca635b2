//! `LOCAL_PEERCRED`, which has all groups.

use interprocess::local_socket::tokio::{Stream, prelude::*};

use crate::access::Peer;

/// Who has connected.
pub(in crate::server) fn peer(socket: &Stream) -> Peer {
    let Ok(known) = socket.peer_creds() else {
        return Peer::default();
    };
    let mut groups: Vec<_> = known.egid().into_iter().collect();
    groups.extend(known.groups().into_iter().flatten());
    let pid = known.pid().and_then(|pid| u32::try_from(pid).ok());
    Peer { pid, uid: known.euid(), groups }
}

/// Known already.
pub(in crate::server) fn heard(peer: Peer, _socket: &Stream) -> Peer {
    peer
}
