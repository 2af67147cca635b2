//! The process at the other end of a pipe, and its user. Not by the process' number: that may be another's by now. The
//! pipe itself lets this thread act as its client for a moment, which is allowed once something was read from it.

use std::os::windows::io::AsHandle;

use interprocess::local_socket::tokio::{Stream, prelude::*};
use interprocess::os::windows::named_pipe::DuplexPipeStream;
use interprocess::os::windows::named_pipe::pipe_mode::Bytes;
use tracing::debug;

use crate::access::Peer;
use crate::user;

/// The process alone.
pub(in crate::server) fn peer(socket: &Stream) -> Peer {
    let pid = socket.peer_creds().ok().and_then(|known| known.pid());
    Peer { pid, ..Peer::default() }
}

/// The same with its user, after its hello.
pub(in crate::server) fn heard(peer: Peer, socket: &Stream) -> Peer {
    match identity(socket) {
        Ok((uid, groups)) => Peer { uid, groups, ..peer },
        Err(error) => {
            debug!(
                client_pid = peer.pid,
                "the system does not tell whose a connection is: {error}"
            );
            peer
        }
    }
}

fn identity(socket: &Stream) -> std::io::Result<(Option<user::UserId>, Vec<user::GroupId>)> {
    let Stream::NamedPipe(pipe) = socket;
    let handle = pipe.as_handle().try_clone_to_owned()?;
    let pipe = DuplexPipeStream::<Bytes>::try_from(handle).map_err(std::io::Error::from)?;
    // It ends with its guard, and nothing is awaited before.
    let acting = pipe.impersonate_client()?;
    let told = user::impersonated();
    drop(acting);
    // Nothing was written by this handle that its drop would have to wait for.
    pipe.evade_limbo();
    told
}
