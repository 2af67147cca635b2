//! The slots that a client shares with the fake daemon, which reads them through the descriptor.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::unix::fs::FileExt;

use freemkvd_proto::WriteSlots;
use freemkvd_proto::limits::{DESCRIPTORS_MAX, SLOT_BYTES};
use interprocess::local_socket::Stream;
use rustix::cmsg_space;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

/// Reads what is there, and keeps what came with it.
pub(crate) fn read(stream: &Stream, space: &mut [u8], passed: &mut Vec<File>) -> io::Result<usize> {
    let Stream::UdSocket(socket) = stream;
    let mut memory = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut memory);
    let mut bytes = [IoSliceMut::new(space)];
    let received = recvmsg(socket.inner(), &mut bytes, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            passed.extend(descriptors.map(File::from));
        }
    }
    Ok(received.bytes)
}

/// The content that a command names.
pub(crate) fn content(slots: Option<&File>, write: &WriteSlots) -> io::Result<Vec<u8>> {
    let slots = slots.expect("slots were shared");
    let mut content = Vec::new();
    for part in &write.parts {
        assert!(part.len > 0 && part.start + part.len <= SLOT_BYTES, "{part:?}");
        let begin = content.len();
        content.resize(begin + part.len as usize, 0);
        let at = u64::from(part.slot) * u64::from(SLOT_BYTES) + u64::from(part.start);
        slots.read_exact_at(&mut content[begin..], at)?;
    }
    Ok(content)
}
