//! Where no slots are shared.

use std::fs::File;
use std::io::{self, Read};

use freemkvd_proto::WriteSlots;
use interprocess::local_socket::Stream;

/// Reads what is there.
pub(crate) fn read(
    mut stream: &Stream,
    space: &mut [u8],
    _passed: &mut Vec<File>,
) -> io::Result<usize> {
    stream.read(space)
}

/// There is none.
pub(crate) fn content(_slots: Option<&File>, write: &WriteSlots) -> io::Result<Vec<u8>> {
    panic!("nobody shares slots here: {write:?}")
}
