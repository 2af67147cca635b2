//! The bytes of a connection's first frame, and the descriptors that come with them.
//!
//! 1. What came and nobody takes is closed.
//! 2. No peer makes the daemon hold more than [`DESCRIPTORS_MAX`] of them.
//!
//! Reads of later frames ask for no descriptors; the kernel closes those that come all the same.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;

use interprocess::local_socket::tokio::Stream;
use rustix::cmsg_space;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};
use tokio::io::Interest;

use super::socket::Passed;
use crate::descriptors::WITH_FIRST_FRAME;

/// More than any first frame has a use for, so that too many are noticed.
const DESCRIPTORS_MAX: usize = WITH_FIRST_FRAME as usize;

/// Reads what is there into `space`, and puts the descriptors that come with it into `passed`.
pub(in crate::server) async fn read(
    socket: &Stream,
    space: &mut [u8],
    passed: &mut Passed,
) -> io::Result<usize> {
    let Stream::UdSocket(socket) = socket;
    let socket = socket.inner();
    socket.async_io(Interest::READABLE, || receive(socket, space, passed)).await
}

fn receive(
    socket: &tokio::net::UnixStream,
    space: &mut [u8],
    passed: &mut Passed,
) -> io::Result<usize> {
    let mut memory = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut memory);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(socket, &mut [IoSliceMut::new(space)], &mut ancillary, flags)?;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            passed.descriptors.extend(descriptors);
        }
    }
    // The kernel drops what this process has no free descriptor for, and only hints at it.
    passed.is_cut |= received.flags.contains(ReturnFlags::CTRUNC);
    passed.descriptors.truncate(DESCRIPTORS_MAX);
    Ok(received.bytes)
}
