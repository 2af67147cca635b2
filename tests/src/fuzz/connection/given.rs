//! Descriptors that peers pass, of every kind that they might think of. They are open for as long as the process
//! lives, so that whatever else is open was opened, or received, by the daemon.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::LazyLock;

use freemkvd_proto::limits::SLOT_BYTES;
use freemkvd_proto::{SlotPart, Transfer};
use rustix::fs::SealFlags;

use crate::pattern;
use crate::slots::Slots;

/// How many slots the memory has that is as it should be.
pub(super) const SLOTS: u32 = 2;

const SLOT: usize = SLOT_BYTES as usize;

/// A kind of descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Given {
    Slots,
    UnsealedMemory,
    File,
    Directory,
    Device,
    Pipe,
    Socket,
}

impl Given {
    pub(super) const ALL: [Self; 7] = [
        Self::Slots,
        Self::UnsealedMemory,
        Self::File,
        Self::Directory,
        Self::Device,
        Self::Pipe,
        Self::Socket,
    ];

    pub(super) fn descriptor(self) -> BorrowedFd<'static> {
        let all = &*ALL;
        match self {
            Self::Slots => all.slots.descriptor(),
            Self::UnsealedMemory => all.unsealed.descriptor(),
            Self::File => all.file.as_fd(),
            Self::Directory => all.directory.as_fd(),
            Self::Device => all.device.as_fd(),
            Self::Pipe => all.pipe.1.as_fd(),
            Self::Socket => all.socket.0.as_fd(),
        }
    }
}

struct All {
    slots: Slots,
    content: Vec<u8>,
    unsealed: Slots,
    file: File,
    directory: File,
    device: File,
    pipe: (OwnedFd, OwnedFd),
    socket: (UnixStream, UnixStream),
}

static ALL: LazyLock<All> = LazyLock::new(|| {
    let slots = Slots::new(SLOTS);
    let content = pattern::bytes(7, 0, SLOTS as usize * SLOT);
    for slot in 0..SLOTS {
        slots.put(slot, 0, &content[slot as usize * SLOT..][..SLOT]);
    }
    All {
        slots,
        content,
        unsealed: Slots::with(SLOTS, u64::from(SLOTS * SLOT_BYTES), SealFlags::empty()),
        file: tempfile::tempfile().expect("a file"),
        directory: File::open("/").expect("a directory"),
        device: File::open("/dev/null").expect("a device"),
        pipe: rustix::pipe::pipe().expect("a pipe"),
        socket: UnixStream::pair().expect("a socket"),
    }
});

/// Makes all of them.
pub(super) fn prepare() {
    LazyLock::force(&ALL);
}

/// What lies in a part of the slots that there is.
pub(super) fn part(part: &SlotPart) -> &'static [u8] {
    &ALL.content[part.slot as usize * SLOT + part.start as usize..][..part.len as usize]
}

/// True when these are the descriptors of such a transfer, and after them so many of a file.
pub(super) fn fits(transfer: Transfer, given: &[Given], files: usize) -> bool {
    match transfer {
        Transfer::Inline => given.len() == files,
        Transfer::Shared { slots } => {
            slots == SLOTS && given.len() == 1 + files && given[0] == Given::Slots
        }
    }
}
