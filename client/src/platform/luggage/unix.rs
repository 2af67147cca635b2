//! The descriptors that go with the first frame of a connection, in the order in which the daemon wants them:
//! the memory of shared slots, then the file and what belongs to it.

#[cfg_attr(target_vendor = "apple", path = "flags_apple.rs")]
#[cfg_attr(not(target_vendor = "apple"), path = "flags_unix.rs")]
mod flags;

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use freemkvd_proto::limits::DESCRIPTORS_MAX;
use interprocess::local_socket::Stream;
use rustix::cmsg_space;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, sendmsg};

use crate::given::Given;
use crate::memory::Memory;

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Luggage {
    memory: Option<Memory>,
    given: Option<Arc<Given>>,
}

impl Luggage {
    /// `None` when there is nothing to go with a frame.
    pub(crate) fn of(memory: Option<Memory>, given: Option<Arc<Given>>) -> Option<Self> {
        (memory.is_some() || given.is_some()).then_some(Self { memory, given })
    }

    /// Sends the first of `bytes`, and all of it with them.
    pub(crate) fn send(&self, stream: &Stream, bytes: &[u8]) -> io::Result<usize> {
        let Stream::UdSocket(socket) = stream;
        let memory = self.memory.iter().map(AsFd::as_fd);
        let given = self.given.iter().flat_map(|given| given.descriptors());
        let descriptors: Vec<BorrowedFd<'_>> = memory.chain(given).collect();
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        Ok(sendmsg(socket.inner(), &[IoSlice::new(bytes)], &mut ancillary, flags::FLAGS)?)
    }
}
