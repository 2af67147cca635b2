//! The bytes of a connection's first frame, where no descriptors come with them.

use std::io;

use interprocess::local_socket::tokio::Stream;
use tokio::io::AsyncReadExt;

use super::socket::Passed;

/// More than there ever are.
pub(in crate::server) const DESCRIPTORS_MAX: usize = usize::MAX;

/// Reads what is there into `space`.
pub(in crate::server) async fn read(
    socket: &Stream,
    space: &mut [u8],
    _passed: &mut Passed,
) -> io::Result<usize> {
    (&*socket).read(space).await
}
