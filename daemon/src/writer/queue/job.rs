//! What a writer thread can be given to do.

use std::ops::Range;

use super::Segment;

/// Content that lies in memory which the client shares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotsWrite {
    /// Where in the file it begins.
    pub offset: u64,
    /// Where it lies in the shared memory, one part after the other; checked.
    pub parts: Vec<Range<u64>>,
    /// The command's number.
    pub sequence: u64,
    /// How many bytes.
    pub content_bytes: u64,
}

/// One thing for the writer to do.
#[derive(Debug)]
pub enum Job {
    /// Write content.
    Write(Segment),
    /// Write content that is in shared slots.
    WriteSlots(SlotsWrite),
    /// Make a range read as zeros.
    WriteZeroes {
        /// The range.
        range: Range<u64>,
        /// The command's number.
        sequence: u64,
    },
    /// Set the file's length.
    SetLen {
        /// The length in bytes.
        len: u64,
        /// The command's number.
        sequence: u64,
    },
    /// Everything before is written once this is reached.
    Flush {
        /// The command's number.
        sequence: u64,
    },
    /// Make everything before durable.
    Sync {
        /// The command's number.
        sequence: u64,
    },
    /// Complete the file.
    Finish {
        /// The command's number.
        sequence: u64,
    },
}

impl Job {
    /// How many bytes of content it carries; `None` for one that somebody waits for.
    pub(super) fn content_bytes(&self) -> Option<u64> {
        match self {
            Self::Write(segment) => Some(segment.content().len() as u64),
            Self::WriteSlots(write) => Some(write.content_bytes),
            _ => None,
        }
    }
}
