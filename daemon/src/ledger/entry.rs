//! What is kept of one stream, and its bytes.

use freemkvd_proto::{Failure, Finished, Token, WirePath};
use serde::{Deserialize, Serialize};

use crate::budget::StreamId;
use crate::thread::Thread;
use crate::user::UserId;
use crate::writer::Ending;

/// Before the entry: what it is, and the version of its form. Another version is not read: a daemon that
/// guesses could write into the wrong file.
const MAGIC: [u8; 10] = *b"FREEMKVS\x03\0";

/// What the next daemon has to know of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its number.
    pub stream: StreamId,
    /// What its client resumes it by.
    pub token: Token,
    /// The file, as it was opened; or what its client calls it.
    pub path: WirePath,
    /// Process id of its muxer.
    pub client_pid: Option<u32>,
    /// User id of its muxer: nobody else may resume it.
    pub client_uid: Option<UserId>,
    /// Its part of the device's speed.
    pub weight: u32,
    /// Newest bytes that stay in the page cache.
    pub window_bytes: u64,
    /// Which file it is: the number of its device.
    pub device: u64,
    /// Which file it is: its number on the device.
    pub inode: u64,
    /// When it was made, where its file system tells.
    pub born: Option<(i64, u32)>,
    /// How long it was when it was opened, in bytes.
    pub len_bytes: u64,
    /// Up to where space was reserved.
    pub reserved_bytes: u64,
    /// Its client has opened it itself, and brings it again if nobody has kept it.
    pub is_given: bool,
    /// What becomes of it at the end.
    pub ending: Ending,
    /// The thread that writes it. Until that is gone nobody else may write to the file: a call that hangs in
    /// the kernel survives a SIGKILL, and ends in a write of old bytes to their old place.
    pub thread: Option<Thread>,
    /// Its file was closed at some time, and its client has not heard of that yet.
    pub is_unwatched: bool,
    /// What came of it, while its client may not have heard.
    pub outcome: Option<Outcome>,
    /// Somebody has paused it.
    pub is_paused: bool,
}

/// What came of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Its file is complete and durable.
    Finished(Finished),
    /// It failed.
    Failed(Failure),
}

impl Entry {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        // Nothing in it has no form, and a vector takes whatever comes.
        bytes.extend(postcard::to_allocvec(self).unwrap_or_default());
        bytes
    }

    /// The same in so many bytes, where that needs no more than fewer words about a failure.
    pub(super) fn encode_within(&self, room_bytes: usize) -> Vec<u8> {
        let bytes = self.encode();
        let over_bytes = bytes.len().saturating_sub(room_bytes);
        match &self.outcome {
            Some(Outcome::Failed(failure)) if over_bytes > 0 => {
                let mut cut = failure.clone();
                let most = cut.message.len().saturating_sub(over_bytes);
                let end = (0..=most).rev().find(|end| cut.message.is_char_boundary(*end));
                cut.message.truncate(end.unwrap_or(0));
                Self { outcome: Some(Outcome::Failed(cut)), ..self.clone() }.encode()
            }
            _ => bytes,
        }
    }

    /// `None` for bytes that are not one whole entry of this version, and zeros behind it.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        // A daemon that knew no pauses ended an entry before that, and a zero says that there is none.
        let bytes = [bytes.strip_prefix(&MAGIC)?, &[0]].concat();
        match postcard::take_from_bytes(&bytes) {
            Ok((entry, rest)) if rest.iter().all(|byte| *byte == 0) => Some(entry),
            _ => None,
        }
    }
}
