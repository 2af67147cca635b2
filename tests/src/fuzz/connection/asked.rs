//! What one connection asks of its stream: the first frame, and the commands after it, as far as they are allowed.

use std::path::PathBuf;

use freemkvd_proto::limits::{
    LABEL_BYTES_MAX, OFFSET_MAX, PATH_BYTES_MAX, SLOT_BYTES, SLOT_PARTS_MAX, WEIGHTS,
    WRITE_BYTES_MAX,
};
use freemkvd_proto::{Command, ErrorCode, OpenFile, OpenGiven, Resume, SlotPart, Token, Transfer};

use super::content::Change;
use super::given::{self, Given};

/// A command that counts, and what it does to the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) sequence: u64,
    pub(super) change: Change,
    /// The position after it.
    pub(super) position: u64,
    /// Bytes of content up to it.
    pub(super) content: u64,
}

/// How a stream's commands end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Last {
    Finish,
    Abort,
}

/// What the first frame asks for.
#[derive(Clone, Debug)]
pub(super) enum First {
    Open(OpenFile),
    /// On a file that comes with it, and is called so. Here that is the one of this path.
    Give(OpenGiven),
    Resume(Resume),
}

/// What one connection asks of its stream.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) first: First,
    /// What came with it.
    pub(super) given: Vec<Given>,
    pub(super) done: Vec<Done>,
    /// The content of a `Write` that was cut off, and where it belongs.
    pub(super) cut: Option<Change>,
    pub(super) last: Option<Last>,
    slots: u32,
    sequence: u64,
    pub(super) position: u64,
    content: u64,
}

impl Asked {
    pub(super) fn new(first: First, given: Vec<Given>) -> Self {
        let mut asked = Self {
            first,
            given,
            done: Vec::new(),
            cut: None,
            last: None,
            slots: 0,
            sequence: 0,
            position: 0,
            content: 0,
        };
        let transfer = match &asked.first {
            First::Open(open) => open.open.transfer,
            First::Give(open) => open.transfer,
            First::Resume(resume) => {
                asked.sequence = resume.written.sequence;
                asked.content = resume.written.bytes;
                asked.position = resume.position;
                resume.transfer
            }
        };
        if let Transfer::Shared { slots } = transfer {
            asked.slots = slots;
        }
        asked
    }

    /// True when the daemon has to refuse it, whatever there is on the disk.
    pub(super) fn is_refused(&self) -> bool {
        match &self.first {
            First::Open(open) => {
                let open = &open.open;
                let path = &open.path.0;
                let is_path = path.starts_with(b"/") && is_text(path, PATH_BYTES_MAX);
                let is_outside = !self.path().is_some_and(|path| path.starts_with(super::ROOT));
                let is_good = is_path && !is_outside && WEIGHTS.contains(&open.weight);
                !is_good || !given::fits(open.transfer, &self.given, 0)
            }
            First::Give(open) => {
                let files = if open.passes_directory { 3 } else { 2 };
                let is_good =
                    is_text(&open.label.0, LABEL_BYTES_MAX) && WEIGHTS.contains(&open.weight);
                !is_good || !given::fits(open.transfer, &self.given, files)
            }
            // What it has to bring depends on the stream.
            First::Resume(_) => false,
        }
    }

    pub(super) fn is_resumed(&self) -> bool {
        matches!(self.first, First::Resume(_))
    }

    /// As the client calls its file.
    pub(super) fn path(&self) -> Option<PathBuf> {
        match &self.first {
            First::Open(open) => open.open.path.clone().into_path(),
            First::Give(open) => open.label.clone().into_path(),
            First::Resume(_) => None,
        }
    }

    pub(super) fn token(&self) -> Option<Token> {
        match &self.first {
            First::Open(open) => open.token,
            First::Give(open) => open.token,
            First::Resume(resume) => Some(resume.token),
        }
    }

    pub(super) fn number(&mut self, sequence: u64) -> Result<(), ErrorCode> {
        if self.sequence.checked_add(1) != Some(sequence) {
            return Err(ErrorCode::OUT_OF_SEQUENCE);
        }
        self.sequence = sequence;
        Ok(())
    }

    pub(super) fn can_move(&self, len: u64) -> Result<(), ErrorCode> {
        let fits = |from: u64| from.checked_add(len).is_some_and(|end| end <= OFFSET_MAX);
        if fits(self.position) && fits(self.content) {
            Ok(())
        } else {
            Err(ErrorCode::OFFSET_RANGE)
        }
    }

    pub(super) fn moved(&mut self, len: u64) {
        self.position += len;
        self.content += len;
    }

    pub(super) fn did(&mut self, change: Change) {
        let Self { sequence, position, content, .. } = *self;
        self.done.push(Done { sequence, change, position, content });
    }

    pub(super) fn command(&mut self, sequence: u64, command: &Command) -> Result<(), ErrorCode> {
        use Command::{Abort, Finish, Flush, Seek, SetLen, Sync, WriteSlots, WriteZeroes};
        if !matches!(
            command,
            Seek(_) | WriteZeroes(_) | SetLen(_) | WriteSlots(_) | Flush | Sync | Finish | Abort
        ) {
            return Err(ErrorCode::OUT_OF_SEQUENCE);
        }
        self.number(sequence)?;
        let change = match command {
            Seek(seek) if seek.offset > OFFSET_MAX => return Err(ErrorCode::OFFSET_RANGE),
            Seek(seek) => {
                self.position = seek.offset;
                Change::None
            }
            SetLen(set) if set.len > OFFSET_MAX => return Err(ErrorCode::OFFSET_RANGE),
            SetLen(set) => Change::SetLen(set.len),
            WriteZeroes(zeroes) if zeroes.len == 0 => Change::None,
            WriteZeroes(zeroes) => {
                self.can_move(zeroes.len)?;
                self.moved(zeroes.len);
                Change::Zero(self.position - zeroes.len..self.position)
            }
            WriteSlots(write) => {
                let bytes = self.in_slots(&write.parts)?;
                let (at, len) = (self.position, bytes.len() as u64);
                self.can_move(len)?;
                self.moved(len);
                Change::Write(at, bytes)
            }
            Finish => {
                self.last = Some(Last::Finish);
                Change::None
            }
            Abort => {
                self.last = Some(Last::Abort);
                Change::None
            }
            _ => Change::None,
        };
        self.did(change);
        Ok(())
    }

    fn in_slots(&self, parts: &[SlotPart]) -> Result<Vec<u8>, ErrorCode> {
        if self.slots == 0 {
            return Err(ErrorCode::OUT_OF_SEQUENCE);
        }
        if parts.is_empty() || parts.len() > SLOT_PARTS_MAX {
            return Err(ErrorCode::BAD_SLOT);
        }
        let fits = |part: &SlotPart| {
            let end = u64::from(part.start) + u64::from(part.len);
            part.slot < self.slots && part.len > 0 && end <= u64::from(SLOT_BYTES)
        };
        let total: u64 = parts.iter().map(|part| u64::from(part.len)).sum();
        if !parts.iter().all(fits) || total > u64::from(WRITE_BYTES_MAX) {
            return Err(ErrorCode::BAD_SLOT);
        }
        Ok(parts.iter().flat_map(given::part).copied().collect())
    }
}

/// One byte at least, so many at most, and no NUL.
fn is_text(bytes: &[u8], most: usize) -> bool {
    (1..=most).contains(&bytes.len()) && !bytes.contains(&0)
}
