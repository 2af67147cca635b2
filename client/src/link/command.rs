//! A command as it is kept until it is written, and as it is sent.
//!
//! 1. What it does is absolute: where its content belongs is in it, and not in what was sent before it. So
//!    it can be sent again.

use std::ops::Range;
use std::sync::Arc;

use freemkvd_proto as proto;

use crate::slot::Slot;

/// A command as it is kept.
#[derive(Debug)]
pub(crate) enum Command {
    Open(proto::Open),
    OpenResumable(proto::OpenResumable),
    OpenFile(proto::OpenFile),
    OpenGiven(proto::OpenGiven),
    Write { offset: u64, parts: Vec<Part> },
    WriteZeroes { offset: u64, len: u64 },
    Seek { offset: u64 },
    SetLen { len: u64 },
    Flush,
    Sync,
    Finish,
    Abort,
}

/// `slot[range]`, a piece of a `Write`'s content.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) slot: Arc<Slot>,
    pub(crate) range: Range<usize>,
}

#[derive(Debug)]
pub(super) struct Numbered {
    pub(super) sequence: u64,
    pub(super) command: Command,
}

impl Command {
    /// How many bytes of content the watermarks count for it.
    pub(super) fn content_bytes(&self) -> u64 {
        match self {
            Self::Write { parts, .. } => parts.iter().map(|part| part.range.len() as u64).sum(),
            Self::WriteZeroes { len, .. } => *len,
            _ => 0,
        }
    }

    /// Where the position is after it, if it moves it.
    pub(super) fn moves_to(&self) -> Option<u64> {
        match self {
            Self::Write { offset, .. } | Self::WriteZeroes { offset, .. } => {
                Some(offset + self.content_bytes())
            }
            Self::Seek { offset } => Some(*offset),
            _ => None,
        }
    }

    /// The content that it keeps from being used for anything else.
    pub(super) fn parts(&self) -> &[Part] {
        match self {
            Self::Write { parts, .. } => parts,
            _ => &[],
        }
    }
}

/// Where the content lies. Every slot of a link that shares them has a number.
pub(super) fn in_slots(parts: &[Part]) -> proto::Command {
    let parts = parts.iter().filter_map(|part| {
        let number = |value: usize| u32::try_from(value).ok();
        Some(proto::SlotPart {
            slot: part.slot.number()?,
            start: number(part.range.start)?,
            len: number(part.range.len())?,
        })
    });
    proto::Command::WriteSlots(proto::WriteSlots { parts: parts.collect() })
}

pub(super) fn wire(command: &Command) -> proto::Command {
    match command {
        Command::Open(open) => proto::Command::Open(open.clone()),
        Command::OpenResumable(open) => proto::Command::OpenResumable(open.clone()),
        Command::OpenFile(open) => proto::Command::OpenFile(open.clone()),
        Command::OpenGiven(open) => proto::Command::OpenGiven(open.clone()),
        Command::Seek { offset } => proto::Command::Seek(proto::Seek { offset: *offset }),
        Command::WriteZeroes { len, .. } => {
            proto::Command::WriteZeroes(proto::WriteZeroes { len: *len })
        }
        Command::SetLen { len } => proto::Command::SetLen(proto::SetLen { len: *len }),
        // A `Write` is not a control command; its caller has dealt with it.
        Command::Flush | Command::Write { .. } => proto::Command::Flush,
        Command::Sync => proto::Command::Sync,
        Command::Finish => proto::Command::Finish,
        Command::Abort => proto::Command::Abort,
    }
}
