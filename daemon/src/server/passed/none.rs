//! The bytes of a connection's first frame, where no descriptors come with them.

use std::io;

use interprocess::local_socket::tokio::Stream;
use tokio::io::AsyncReadExt;

use super::socket::Passed;

/// Reads what is there into `space`.
pub(in crate::server) async fn read(
    socket: &Stream,
    space: &mut [u8],
    _passed: &mut Passed,
) -> io::Result<usize> {
    (&*socket).read(space).await
}
