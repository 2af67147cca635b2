//! Bytes to messages and back, without I/O. The [`Decoder`] tells its caller which memory to fill
//! next and never asks for more than the frame at hand:
//!
//! 1. A header is checked before memory is set aside for its body.
//! 2. The body of `Write` never enters the decoder: its caller reads it to where it is needed.
//! 3. After an error the decoder is done; the connection must end.

use serde::{Serialize, de::DeserializeOwned};

use crate::frame::{FrameError, HEADER_BYTES, Header, Kind, Sender};
use crate::message::{Command, Reply};
use crate::status::{Since6, Since9, Status};

/// Assembles the frames of one direction.
#[derive(Debug)]
pub struct Decoder {
    from: Sender,
    /// The frame whose body is being read; `None` while it is the header.
    body_of: Option<Header>,
    header: [u8; HEADER_BYTES],
    body: Vec<u8>,
    /// Bytes of the header or the body that are there.
    filled: usize,
}

/// What the bytes so far amount to.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Not yet a frame.
    More,
    /// A `Write`: its body, [`Header::body_bytes`] long, is next on the connection, and must be read
    /// by the caller before [`Decoder::space`] is used again.
    Write(Header),
    /// Any other frame, whole.
    Control(Header, &'a [u8]),
}

impl Decoder {
    /// A decoder for what `from` sends after the hello.
    #[must_use]
    pub fn new(from: Sender) -> Self {
        Self { from, body_of: None, header: [0; HEADER_BYTES], body: Vec::new(), filled: 0 }
    }

    /// The memory to read into next. Never empty. It ends where the header or the body ends, so that
    /// a read never takes bytes of what follows.
    pub fn space(&mut self) -> &mut [u8] {
        if self.body_of.is_none() {
            return &mut self.header[self.filled..];
        }
        &mut self.body[self.filled..]
    }

    /// True between frames: an end of the connection here cuts nothing in two.
    #[must_use]
    pub fn is_between_frames(&self) -> bool {
        self.body_of.is_none() && self.filled == 0
    }

    /// Takes note of `count` more bytes in [`Decoder::space`].
    ///
    /// # Errors
    /// Any [`FrameError`] of the header.
    ///
    /// # Panics
    /// When `count` is more than the space was.
    pub fn advance(&mut self, count: usize) -> Result<Step<'_>, FrameError> {
        assert!(count <= self.space().len(), "more bytes were read than there was space");
        self.filled += count;
        if self.body_of.is_none() {
            if self.filled < HEADER_BYTES {
                return Ok(Step::More);
            }
            self.filled = 0;
            let header = Header::decode(&self.header, self.from)?;
            if header.kind() == Kind::Write {
                return Ok(Step::Write(header));
            }
            self.body.clear();
            self.body.resize(header.body_bytes() as usize, 0);
            self.body_of = Some(header);
        }
        match self.body_of {
            Some(header) if self.filled == self.body.len() => {
                self.body_of = None;
                self.filled = 0;
                Ok(Step::Control(header, &self.body))
            }
            _ => Ok(Step::More),
        }
    }
}

impl Command {
    /// The command's kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Open(_) => Kind::Open,
            Self::Seek(_) => Kind::Seek,
            Self::WriteZeroes(_) => Kind::WriteZeroes,
            Self::SetLen(_) => Kind::SetLen,
            Self::Flush => Kind::Flush,
            Self::Sync => Kind::Sync,
            Self::Finish => Kind::Finish,
            Self::Abort => Kind::Abort,
            Self::Status => Kind::Status,
            Self::WriteSlots(_) => Kind::WriteSlots,
            Self::SetWeight(_) => Kind::SetWeight,
            Self::Resume(_) => Kind::Resume,
            Self::OpenResumable(_) => Kind::OpenResumable,
            Self::Drain => Kind::Drain,
            Self::OpenFile(_) => Kind::OpenFile,
            Self::AbortStream(_) => Kind::AbortStream,
            Self::Why(_) => Kind::Why,
            Self::PauseStream(_) => Kind::PauseStream,
            Self::Metrics => Kind::Metrics,
            Self::Reload => Kind::Reload,
            Self::OpenGiven(_) => Kind::OpenGiven,
        }
    }

    /// The whole frame.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`] when a path does not fit.
    pub fn encode(&self, sequence: u64) -> Result<Vec<u8>, FrameError> {
        let kind = self.kind();
        match self {
            Self::Open(body) => encode(kind, sequence, body),
            Self::Seek(body) => encode(kind, sequence, body),
            Self::WriteZeroes(body) => encode(kind, sequence, body),
            Self::SetLen(body) => encode(kind, sequence, body),
            Self::WriteSlots(body) => encode(kind, sequence, body),
            Self::SetWeight(body) => encode(kind, sequence, body),
            Self::Resume(body) => encode(kind, sequence, body),
            Self::OpenResumable(body) => encode(kind, sequence, body),
            Self::OpenFile(body) => encode(kind, sequence, body),
            Self::AbortStream(body) => encode(kind, sequence, body),
            Self::Why(body) => encode(kind, sequence, body),
            Self::PauseStream(body) => encode(kind, sequence, body),
            Self::OpenGiven(body) => encode(kind, sequence, body),
            Self::Flush
            | Self::Sync
            | Self::Finish
            | Self::Abort
            | Self::Status
            | Self::Drain
            | Self::Metrics
            | Self::Reload => Ok(Header::new(kind, 0, sequence)?.encode().to_vec()),
        }
    }

    /// Reads the body of a control frame.
    ///
    /// # Errors
    /// [`FrameError::Body`] when it is not what the kind says; [`FrameError::UnknownKind`] for a
    /// kind that is not a command, or is `Write`.
    pub fn decode(header: &Header, body: &[u8]) -> Result<Self, FrameError> {
        let kind = header.kind();
        Ok(match kind {
            Kind::Open => Self::Open(decode(kind, body)?),
            Kind::Seek => Self::Seek(decode(kind, body)?),
            Kind::WriteZeroes => Self::WriteZeroes(decode(kind, body)?),
            Kind::SetLen => Self::SetLen(decode(kind, body)?),
            Kind::Flush => Self::Flush,
            Kind::Sync => Self::Sync,
            Kind::Finish => Self::Finish,
            Kind::Abort => Self::Abort,
            Kind::Status => Self::Status,
            Kind::WriteSlots => Self::WriteSlots(decode(kind, body)?),
            Kind::SetWeight => Self::SetWeight(decode(kind, body)?),
            Kind::Resume => Self::Resume(decode(kind, body)?),
            Kind::OpenResumable => Self::OpenResumable(decode(kind, body)?),
            Kind::OpenFile => Self::OpenFile(decode(kind, body)?),
            Kind::AbortStream => Self::AbortStream(decode(kind, body)?),
            Kind::Why => Self::Why(decode(kind, body)?),
            Kind::PauseStream => Self::PauseStream(decode(kind, body)?),
            Kind::Metrics => Self::Metrics,
            Kind::Reload => Self::Reload,
            Kind::OpenGiven => Self::OpenGiven(decode(kind, body)?),
            Kind::Drain => Self::Drain,
            _ => {
                return Err(FrameError::UnknownKind { number: kind as u16 });
            }
        })
    }
}

impl Reply {
    /// The answer's kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Opened(_) => Kind::Opened,
            Self::Progress(_) => Kind::Progress,
            Self::Synced => Kind::Synced,
            Self::Finished(_) => Kind::Finished,
            Self::Aborted => Kind::Aborted,
            Self::Failed(_) => Kind::Failed,
            Self::GoingAway(_) => Kind::GoingAway,
            Self::StatusReport(_) => Kind::StatusReport,
            Self::FullReport(_) => Kind::FullReport,
            Self::Waits(_) => Kind::Waits,
            Self::MetricsText(_) => Kind::MetricsText,
            Self::Reloaded(_) => Kind::Reloaded,
            Self::Done => Kind::Done,
            Self::Resumable => Kind::Resumable,
            Self::Resumed(_) => Kind::Resumed,
        }
    }

    /// The whole frame.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`] when a status report has too many streams for one frame.
    pub fn encode(&self, sequence: u64) -> Result<Vec<u8>, FrameError> {
        let kind = self.kind();
        match self {
            Self::Opened(body) => encode(kind, sequence, body),
            Self::Progress(body) => encode(kind, sequence, body),
            Self::Finished(body) => encode(kind, sequence, body),
            Self::Failed(body) => encode(kind, sequence, body),
            Self::GoingAway(body) => encode(kind, sequence, body),
            Self::StatusReport(body) => encode(kind, sequence, body),
            Self::FullReport(body) => match Since9::of(body) {
                Some(block) => encode(kind, sequence, &(body, Since6::of(body), block)),
                None => encode(kind, sequence, &(body, Since6::of(body))),
            },
            Self::Resumed(body) => encode(kind, sequence, body),
            Self::Waits(body) => encode(kind, sequence, body),
            Self::MetricsText(body) => encode(kind, sequence, body),
            Self::Reloaded(body) => encode(kind, sequence, body),
            Self::Synced | Self::Aborted | Self::Done | Self::Resumable => {
                Ok(Header::new(kind, 0, sequence)?.encode().to_vec())
            }
        }
    }

    /// Reads the body of an answer.
    ///
    /// # Errors
    /// [`FrameError::Body`] when it is not what the kind says; [`FrameError::UnknownKind`] for a
    /// kind that is not an answer.
    pub fn decode(header: &Header, body: &[u8]) -> Result<Self, FrameError> {
        let kind = header.kind();
        Ok(match kind {
            Kind::Opened => Self::Opened(decode(kind, body)?),
            Kind::Progress => Self::Progress(decode(kind, body)?),
            Kind::Synced => Self::Synced,
            Kind::Finished => Self::Finished(decode(kind, body)?),
            Kind::Aborted => Self::Aborted,
            Kind::Failed => Self::Failed(decode(kind, body)?),
            Kind::GoingAway => Self::GoingAway(decode(kind, body)?),
            Kind::StatusReport => Self::StatusReport(decode(kind, body)?),
            Kind::FullReport => {
                Self::FullReport(full_report(body).ok_or(FrameError::Body { kind })?)
            }
            Kind::Waits => Self::Waits(decode(kind, body)?),
            Kind::MetricsText => Self::MetricsText(decode(kind, body)?),
            Kind::Reloaded => Self::Reloaded(decode(kind, body)?),
            Kind::Done => Self::Done,
            Kind::Resumable => Self::Resumable,
            Kind::Resumed => Self::Resumed(decode(kind, body)?),
            _ => {
                return Err(FrameError::UnknownKind { number: kind as u16 });
            }
        })
    }
}

fn encode<T: Serialize>(kind: Kind, sequence: u64, body: &T) -> Result<Vec<u8>, FrameError> {
    let body = postcard::to_allocvec(body).map_err(|_| FrameError::Body { kind })?;
    let mut frame = Vec::with_capacity(HEADER_BYTES + body.len());
    frame.extend_from_slice(&Header::new(kind, body.len(), sequence)?.encode());
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// A report, and the blocks of the versions that are in it.
fn full_report(body: &[u8]) -> Option<Status> {
    let ((mut status, block), rest) = postcard::take_from_bytes::<(Status, Since6)>(body).ok()?;
    let is_whole = block.put_into(&mut status)
        && match rest {
            [] => true,
            rest => match postcard::take_from_bytes::<Since9>(rest).ok()? {
                (block, []) => block.put_into(&mut status),
                _ => false,
            },
        };
    is_whole.then_some(status)
}

fn decode<T: DeserializeOwned>(kind: Kind, body: &[u8]) -> Result<T, FrameError> {
    // Leftover bytes are refused: they are fields of a version that was not agreed on.
    match postcard::take_from_bytes(body) {
        Ok((message, [])) => Ok(message),
        _ => Err(FrameError::Body { kind }),
    }
}

#[cfg(test)]
mod tests;
