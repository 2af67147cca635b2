//! The bytes that a connection has, and the descriptors that come with them.
//!
//! Every read takes in all descriptors that may come with a message: what finds no place is closed by the kernel in
//! the very call, and that may take for ever ([`crate::foreign`]). So does what comes with an urgent byte, unless
//! such a byte is one of the others ([`in_line`]).

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::RawFd;

use interprocess::local_socket::tokio::Stream;
use rustix::net::sockopt::set_socket_oobinline;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};
use rustix::net::{Shutdown, shutdown};
use tokio::io::Interest;

use super::guarded::Arrived;

/// `SCM_MAX_FD` of the kernel: no message has more.
const DESCRIPTORS_MAX: usize = 253;

/// Memory for them, as the kernel fills it: a header, and then one number after the other.
const SPACE_BYTES: usize = size_of::<libc::cmsghdr>() + DESCRIPTORS_MAX * size_of::<RawFd>();

/// Has urgent bytes come in line with all others. Else the next read passes over them, and the kernel closes what
/// came with them. To be called before the first one.
pub(in crate::server) fn in_line(socket: &Stream) -> io::Result<()> {
    let Stream::UdSocket(socket) = socket;
    Ok(set_socket_oobinline(socket.inner(), true)?)
}

/// Reads what is there into `space`. `None` when there is something, and `is_behind` says that it is not to be
/// received yet.
pub(in crate::server) async fn read(
    socket: &Stream,
    space: &mut [u8],
    is_behind: impl Fn() -> bool,
) -> io::Result<Option<Arrived>> {
    let Stream::UdSocket(socket) = socket;
    let socket = socket.inner();
    loop {
        socket.readable().await?;
        // Not before: that may have been long ago.
        if is_behind() {
            return Ok(None);
        }
        match socket.try_io(Interest::READABLE, || receive(socket, space)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            arrived => return arrived.map(Some),
        }
    }
}

fn receive(socket: &tokio::net::UnixStream, space: &mut [u8]) -> io::Result<Arrived> {
    let mut memory = [MaybeUninit::uninit(); SPACE_BYTES.next_multiple_of(8) + 8];
    let mut ancillary = RecvAncillaryBuffer::new(&mut memory);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(socket, &mut [IoSliceMut::new(space)], &mut ancillary, flags)?;
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(came) = message {
            descriptors.extend(came);
        }
    }
    // The kernel drops what this process has no free descriptor for, and only hints at it.
    let is_cut = received.flags.contains(ReturnFlags::CTRUNC);
    Ok(Arrived { count: received.bytes, descriptors, is_cut })
}

/// Ends the connection in both directions. True when nothing is left in it unread: then closing it closes
/// nothing else.
pub(in crate::server) fn end(socket: &Stream) -> bool {
    let Stream::UdSocket(socket) = socket;
    let socket = socket.inner();
    // It fails when the peer was first, which is as good.
    let _ = shutdown(socket, Shutdown::Both);
    rustix::io::ioctl_fionread(socket).is_ok_and(|unread| unread == 0)
}
