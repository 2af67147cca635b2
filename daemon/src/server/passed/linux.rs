//! The bytes of a connection's first frame, and the descriptors that come with them.
//!
//! 1. What came and nobody takes is closed, and not by the thread that reads here ([`Foreign`]).
//! 2. No peer makes the daemon hold more than [`DESCRIPTORS_MAX`] of them at once, also not for a moment.
//!
//! Reads of later frames ask for no descriptors; the kernel closes those that come all the same.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::RawFd;

use interprocess::local_socket::tokio::Stream;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};
use tokio::io::Interest;

use super::socket::Passed;
use crate::descriptors::WITH_FIRST_FRAME;

/// More than any first frame has a use for, so that too many are noticed.
pub(in crate::server) const DESCRIPTORS_MAX: usize = WITH_FIRST_FRAME as usize;

/// Memory for so many and not one more: the kernel fills all that there is.
#[repr(align(8))]
struct Space([MaybeUninit<u8>; space_bytes(DESCRIPTORS_MAX)]);

const fn space_bytes(descriptors: usize) -> usize {
    size_of::<libc::cmsghdr>() + descriptors * size_of::<RawFd>()
}

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
    let mut memory = Space([MaybeUninit::uninit(); space_bytes(DESCRIPTORS_MAX)]);
    let free = space_bytes(DESCRIPTORS_MAX.saturating_sub(passed.files.count()));
    let mut ancillary = RecvAncillaryBuffer::new(&mut memory.0[..free]);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(socket, &mut [IoSliceMut::new(space)], &mut ancillary, flags)?;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            passed.files.extend(descriptors);
        }
    }
    // The kernel drops what this process has no free descriptor for, and only hints at it.
    passed.is_cut |= received.flags.contains(ReturnFlags::CTRUNC);
    Ok(received.bytes)
}
