//! The bytes that a connection has, where no descriptors come with them.

use std::io;

use interprocess::local_socket::tokio::Stream;
use tokio::io::AsyncReadExt;

use super::guarded::Arrived;

/// Nothing comes with an urgent byte here.
#[expect(clippy::unnecessary_wraps, reason = "as on the platform where it can fail")]
pub(in crate::server) fn in_line(_socket: &Stream) -> io::Result<()> {
    Ok(())
}

/// Reads what is there into `space`.
pub(in crate::server) async fn read(
    socket: &Stream,
    space: &mut [u8],
    _is_behind: impl Fn() -> bool,
) -> io::Result<Option<Arrived>> {
    let mut socket = socket;
    let count = socket.read(space).await?;
    Ok(Some(Arrived { count, descriptors: Vec::new(), is_cut: false }))
}

/// Nothing can be left in it that closing it would close.
pub(in crate::server) fn end(_socket: &Stream) -> bool {
    true
}
