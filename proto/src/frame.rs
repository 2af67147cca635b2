//! The frame header: 16 bytes that validate themselves before anybody believes their length.

use crate::{ErrorCode, limits};

/// Length of a header in bytes.
pub const HEADER_BYTES: usize = 16;

/// Which side may send a kind of frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The muxer, or `freemkvctl`.
    Client,
    /// `freemkvd`.
    Daemon,
}

/// What a frame is. Numbers are stable; new kinds get new numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Kind {
    /// Opens the connection's stream.
    Open = 0x01,
    /// File content for the stream's position.
    Write = 0x02,
    /// Moves the position.
    Seek = 0x03,
    /// Zero bytes at the position, without sending them.
    WriteZeroes = 0x04,
    /// Sets the file's length.
    SetLen = 0x05,
    /// Asks for a `Progress` when everything so far is written.
    Flush = 0x06,
    /// Asks for durability.
    Sync = 0x07,
    /// Completes the file.
    Finish = 0x08,
    /// Gives the stream up.
    Abort = 0x09,
    /// File content for the stream's position that lies in shared slots.
    WriteSlots = 0x0A,
    /// Goes on with a stream whose connection was lost.
    Resume = 0x0B,
    /// Opens the connection's stream, which is to outlive the daemon.
    OpenResumable = 0x0C,
    /// Opens the connection's stream, and says what becomes of its file.
    OpenFile = 0x0D,
    /// Opens the connection's stream on a file that comes with it.
    OpenGiven = 0x0E,
    /// Asks for a status report.
    Status = 0x40,
    /// Changes the weight of a stream.
    SetWeight = 0x41,
    /// Asks the daemon to write what it has accepted, and to stop.
    Drain = 0x42,
    /// Gives up a stream of another connection.
    AbortStream = 0x43,
    /// Asks where the time of a stream went.
    Why = 0x44,
    /// Asks for metrics.
    Metrics = 0x45,
    /// Has a stream written no further for now, or again.
    PauseStream = 0x46,
    /// Asks the daemon to read its configuration again.
    Reload = 0x47,
    /// Answers `Open`.
    Opened = 0x81,
    /// The watermarks.
    Progress = 0x82,
    /// Answers `Sync`.
    Synced = 0x83,
    /// Answers `Finish`.
    Finished = 0x84,
    /// Answers `Abort`.
    Aborted = 0x85,
    /// The stream or the request failed.
    Failed = 0x86,
    /// The daemon is about to stop.
    GoingAway = 0x87,
    /// Says that the stream can be resumed.
    Resumable = 0x88,
    /// Answers `Resume`.
    Resumed = 0x89,
    /// Answers `Status`.
    StatusReport = 0xC0,
    /// Answers a control request that has nothing else to say.
    Done = 0xC1,
    /// Answers `Status` with what later versions have brought, too.
    FullReport = 0xC2,
    /// Answers `Why`.
    Waits = 0xC3,
    /// Answers `Metrics`.
    MetricsText = 0xC4,
    /// Answers `Reload`.
    Reloaded = 0xC5,
}

impl Kind {
    /// Every kind of this version.
    pub const ALL: &'static [Self] = &[
        Self::Open,
        Self::Write,
        Self::Seek,
        Self::WriteZeroes,
        Self::SetLen,
        Self::Flush,
        Self::Sync,
        Self::Finish,
        Self::Abort,
        Self::WriteSlots,
        Self::Resume,
        Self::OpenResumable,
        Self::OpenFile,
        Self::OpenGiven,
        Self::Status,
        Self::SetWeight,
        Self::Drain,
        Self::AbortStream,
        Self::Why,
        Self::PauseStream,
        Self::Metrics,
        Self::Reload,
        Self::Opened,
        Self::Progress,
        Self::Synced,
        Self::Finished,
        Self::Aborted,
        Self::Failed,
        Self::GoingAway,
        Self::Resumable,
        Self::Resumed,
        Self::StatusReport,
        Self::Done,
        Self::FullReport,
        Self::Waits,
        Self::MetricsText,
        Self::Reloaded,
    ];

    /// The kind of this number.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| *kind as u16 == number)
    }

    /// The protocol version that brought it. On a connection that agreed on an older one it is unknown.
    #[must_use]
    pub const fn since(self) -> u16 {
        match self {
            Self::Resume | Self::OpenResumable | Self::Drain | Self::Resumable | Self::Resumed => 3,
            Self::OpenFile | Self::AbortStream => 4,
            Self::OpenGiven => 5,
            Self::FullReport => 6,
            Self::Why | Self::Waits | Self::PauseStream => 7,
            Self::Metrics | Self::MetricsText => 8,
            Self::Reload | Self::Reloaded => 9,
            _ => 2,
        }
    }

    /// Who may send it. The highest bit of the low byte tells.
    #[must_use]
    pub const fn sender(self) -> Sender {
        if self as u16 & 0x80 == 0 { Sender::Client } else { Sender::Daemon }
    }

    /// Longest body of this kind in bytes.
    #[must_use]
    pub const fn body_bytes_max(self) -> u32 {
        match self {
            Self::Write => limits::WRITE_BYTES_MAX,
            Self::Flush | Self::Sync | Self::Finish | Self::Abort => 0,
            Self::Status | Self::Drain | Self::Metrics | Self::Reload => 0,
            Self::Synced | Self::Aborted | Self::Done | Self::Resumable => 0,
            _ => match self.sender() {
                Sender::Client => limits::CONTROL_BYTES_MAX,
                Sender::Daemon => limits::REPLY_BYTES_MAX,
            },
        }
    }
}

/// A frame's header, valid by construction: the kind exists and the length is within its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    kind: Kind,
    length: u32,
    sequence: u64,
}

impl Header {
    /// A header for a body of `length` bytes.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`] when the kind does not allow such a body.
    pub fn new(kind: Kind, length: usize, sequence: u64) -> Result<Self, FrameError> {
        match u32::try_from(length) {
            Ok(length) if length <= kind.body_bytes_max() => Ok(Self { kind, length, sequence }),
            _ => Err(FrameError::TooLarge { kind, length: length as u64 }),
        }
    }

    /// The frame's kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The body's length in bytes.
    #[must_use]
    pub const fn body_bytes(&self) -> u32 {
        self.length
    }

    /// The command's number, or the number of the command that is answered.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The bytes on the wire.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..2].copy_from_slice(&(self.kind as u16).to_le_bytes());
        bytes[4..8].copy_from_slice(&self.length.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        bytes
    }

    /// Reads a header that `from` sent.
    ///
    /// # Errors
    /// Any [`FrameError`] but `Body`: these bytes are checked here, the body is not.
    pub fn decode(bytes: &[u8; HEADER_BYTES], from: Sender) -> Result<Self, FrameError> {
        let number = u16::from_le_bytes([bytes[0], bytes[1]]);
        let flags = u16::from_le_bytes([bytes[2], bytes[3]]);
        let length = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        let mut sequence = [0; 8];
        sequence.copy_from_slice(&bytes[8..16]);
        let kind = Kind::from_number(number)
            .filter(|kind| kind.sender() == from)
            .ok_or(FrameError::UnknownKind { number })?;
        if flags != 0 {
            return Err(FrameError::Flags { kind, flags });
        }
        if kind == Kind::Write && length == 0 {
            return Err(FrameError::EmptyWrite);
        }
        Self::new(kind, length as usize, u64::from_le_bytes(sequence))
    }
}

/// Why a frame is not one. The connection ends with it: after a bad frame nobody knows where the
/// next one begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// No such kind in this version, or not one that this side may send.
    #[error("frame kind {number:#06x} is unknown here")]
    UnknownKind {
        /// The number that was sent.
        number: u16,
    },
    /// Flags are reserved.
    #[error("{kind:?} frame has flags {flags:#06x}, must be 0")]
    Flags {
        /// The frame's kind.
        kind: Kind,
        /// The flags that were sent.
        flags: u16,
    },
    /// The body is longer than its kind allows.
    #[error("{kind:?} frame of {length} bytes, at most {} allowed", kind.body_bytes_max())]
    TooLarge {
        /// The frame's kind.
        kind: Kind,
        /// The announced length in bytes.
        length: u64,
    },
    /// A `Write` must carry something.
    #[error("Write frame without content")]
    EmptyWrite,
    /// The body is not what its kind says.
    #[error("{kind:?} frame with a malformed body")]
    Body {
        /// The frame's kind.
        kind: Kind,
    },
}

impl FrameError {
    /// The code under which a peer is told.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownKind { .. } => ErrorCode::UNKNOWN_KIND,
            Self::TooLarge { .. } => ErrorCode::FRAME_TOO_LARGE,
            Self::Flags { .. } | Self::EmptyWrite | Self::Body { .. } => ErrorCode::BAD_FRAME,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(number: u16, flags: u16, length: u32) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..2].copy_from_slice(&number.to_le_bytes());
        bytes[2..4].copy_from_slice(&flags.to_le_bytes());
        bytes[4..8].copy_from_slice(&length.to_le_bytes());
        bytes
    }

    #[test]
    fn every_kind_round_trips_and_knows_its_sender() {
        for kind in Kind::ALL.iter().copied() {
            let length = kind.body_bytes_max() as usize;
            let header = Header::new(kind, length, u64::MAX - 1).unwrap();
            assert_eq!(Header::decode(&header.encode(), kind.sender()), Ok(header));
            let other = match kind.sender() {
                Sender::Client => Sender::Daemon,
                Sender::Daemon => Sender::Client,
            };
            assert_eq!(
                Header::decode(&header.encode(), other),
                Err(FrameError::UnknownKind { number: kind as u16 })
            );
        }
    }

    #[test]
    fn one_byte_over_the_limit_is_refused() {
        for kind in Kind::ALL.iter().copied() {
            let length = kind.body_bytes_max() + 1;
            assert_eq!(
                Header::decode(&raw(kind as u16, 0, length), kind.sender()),
                Err(FrameError::TooLarge { kind, length: u64::from(length) })
            );
        }
    }

    #[test]
    fn flags_unknown_kinds_and_empty_writes_are_refused() {
        let decode = |bytes| Header::decode(&bytes, Sender::Client);
        assert_eq!(decode(raw(0, 0, 0)), Err(FrameError::UnknownKind { number: 0 }));
        assert_eq!(decode(raw(0x7f, 0, 0)), Err(FrameError::UnknownKind { number: 0x7f }));
        assert_eq!(decode(raw(2, 1, 8)), Err(FrameError::Flags { kind: Kind::Write, flags: 1 }));
        assert_eq!(decode(raw(2, 0, 0)), Err(FrameError::EmptyWrite));
    }
}
