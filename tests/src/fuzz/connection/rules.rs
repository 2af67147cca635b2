//! The rules of the wire, written down a second time: what a daemon has to make of the bytes that a peer has sent
//! on one connection. It shares the decoding of frames with the daemon, which has a target of its own, and nothing
//! of what decides whether a command is allowed and what it means.

use std::ops::Range;
use std::path::PathBuf;

use freemkvd_proto::hello::{ClientHello, DaemonHello, HELLO_BYTES};
use freemkvd_proto::limits::{
    LABEL_BYTES_MAX, OFFSET_MAX, PATH_BYTES_MAX, SLOT_BYTES, SLOT_PARTS_MAX, WEIGHTS,
    WRITE_BYTES_MAX,
};
use freemkvd_proto::{
    Command, ErrorCode, HEADER_BYTES, Header, Kind, Leftover, OpenFile, OpenGiven, Resume, Sender,
    SlotPart, Token, Transfer,
};

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
    position: u64,
    content: u64,
}

/// Why the daemon has to end a connection; without a code where several are right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Violation(pub(super) Option<ErrorCode>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Hello,
    First,
    Stream,
    Requests,
    Over,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Rules {
    stage: Stage,
    /// What is not yet a message, and where on the connection it begins.
    pending: Vec<u8>,
    at: u64,
    version: u16,
    /// Descriptors, and the byte that they came with.
    given: Vec<(u64, Vec<Given>)>,
    /// A `Write` whose content is to come.
    writes: Option<Header>,
    pub(super) asked: Option<Asked>,
    pub(super) violation: Option<Violation>,
    /// Numbers of streams that it wants aborted.
    pub(super) aborts: Vec<u64>,
    pub(super) wants_end: bool,
}

impl Rules {
    pub(super) fn new() -> Self {
        Self {
            stage: Stage::Hello,
            pending: Vec::new(),
            at: 0,
            version: 0,
            given: Vec::new(),
            writes: None,
            asked: None,
            violation: None,
            aborts: Vec::new(),
            wants_end: false,
        }
    }

    /// These bytes were sent, and with the first of them descriptors.
    pub(super) fn sent(&mut self, bytes: &[u8], given: &[Given]) {
        if bytes.is_empty() {
            return;
        }
        if !given.is_empty() {
            self.given.push((self.at + self.pending.len() as u64, given.to_vec()));
        }
        self.pending.extend_from_slice(bytes);
        while self.stage != Stage::Over && self.message() {}
    }

    /// Nothing more is sent.
    pub(super) fn end(&mut self) {
        let cut = std::mem::take(&mut self.pending);
        if let (Some(_), Some(asked), false) = (self.writes, &mut self.asked, cut.is_empty()) {
            if self.stage == Stage::Stream {
                asked.cut = Some(Change::Write(asked.position, cut));
            }
        }
        self.stage = Stage::Over;
    }

    fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        if self.pending.len() < count {
            return None;
        }
        self.at += count as u64;
        let rest = self.pending.split_off(count);
        Some(std::mem::replace(&mut self.pending, rest))
    }

    fn violates(&mut self, code: impl Into<Option<ErrorCode>>) {
        self.violation = Some(Violation(code.into()));
        self.stage = Stage::Over;
    }

    /// True when descriptors have come with these bytes of the connection.
    fn is_given_in(&self, bytes: Range<u64>) -> bool {
        self.given.iter().any(|(at, _)| bytes.contains(at))
    }

    /// Reads one message, if there is a whole one. Descriptors that come with any but the first frame are a
    /// violation as soon as they come, and what they come with has no effect.
    fn message(&mut self) -> bool {
        if self.stage == Stage::Hello {
            return self.hello();
        }
        if let Some(header) = self.writes {
            if self.is_given_in(self.at..self.at + u64::from(header.body_bytes())) {
                let content = std::mem::take(&mut self.pending);
                if let Some(asked) = &mut self.asked {
                    asked.cut = Some(Change::Write(asked.position, content));
                }
                self.violates(ErrorCode::BAD_SLOTS);
                return false;
            }
            let Some(content) = self.take(header.body_bytes() as usize) else { return false };
            self.writes = None;
            if let Some(asked) = &mut self.asked {
                let change = Change::Write(asked.position, content);
                asked.moved(u64::from(header.body_bytes()));
                asked.did(change);
            }
            return true;
        }
        let is_later = self.stage != Stage::First;
        let head = self.at..self.at + HEADER_BYTES as u64;
        if is_later && self.is_given_in(head.clone()) {
            self.violates(ErrorCode::BAD_SLOTS);
            return false;
        }
        let Some(bytes) = self.pending.first_chunk::<HEADER_BYTES>() else { return false };
        let header = match Header::decode(bytes, Sender::Client) {
            Ok(header) => header,
            Err(error) => {
                self.violates(self.code(error.code()));
                return false;
            }
        };
        let body = head.end..head.end + u64::from(header.body_bytes());
        if is_later && header.kind() != Kind::Write && self.is_given_in(body) {
            self.violates(ErrorCode::BAD_SLOTS);
            return false;
        }
        if header.kind() == Kind::Write {
            return self.write(header);
        }
        let whole = HEADER_BYTES + header.body_bytes() as usize;
        let begin = self.at;
        let Some(frame) = self.take(whole) else { return false };
        if header.kind().since() > self.version {
            self.violates(self.code(ErrorCode::UNKNOWN_KIND));
            return false;
        }
        match Command::decode(&header, &frame[HEADER_BYTES..]) {
            Ok(command) => self.command(header.sequence(), command, begin..self.at),
            Err(error) => self.violates(self.code(error.code())),
        }
        true
    }

    /// Too many descriptors with the first frame are another reason.
    fn code(&self, code: ErrorCode) -> Option<ErrorCode> {
        (self.stage != Stage::First || self.given.is_empty()).then_some(code)
    }

    fn hello(&mut self) -> bool {
        if self.is_given_in(0..HELLO_BYTES as u64) {
            self.stage = Stage::Over;
            return false;
        }
        let Some(bytes) = self.take(HELLO_BYTES) else { return false };
        let bytes: &[u8; HELLO_BYTES] = bytes.first_chunk().expect("so many were taken");
        match ClientHello::decode(bytes).map(ClientHello::answer) {
            Ok(DaemonHello::Accepted { version }) => {
                (self.stage, self.version) = (Stage::First, version);
            }
            Ok(DaemonHello::Refused { .. }) | Err(_) => self.stage = Stage::Over,
        }
        true
    }

    fn write(&mut self, header: Header) -> bool {
        if self.stage != Stage::Stream {
            self.violates(self.code(ErrorCode::OUT_OF_SEQUENCE));
            return false;
        }
        let asked = self.asked.as_mut().expect("there is a stream");
        let len = u64::from(header.body_bytes());
        match asked.number(header.sequence()).and_then(|()| asked.can_move(len)) {
            Ok(()) => {
                let _ = self.take(HEADER_BYTES);
                self.writes = Some(header);
                true
            }
            Err(code) => {
                self.violates(code);
                false
            }
        }
    }

    fn command(&mut self, sequence: u64, command: Command, frame: Range<u64>) {
        match self.stage {
            Stage::First => {
                let came = self.given.iter().filter(|(at, _)| frame.contains(at));
                let given = came.flat_map(|(_, given)| given.iter().copied()).collect();
                self.first(sequence, command, given);
            }
            Stage::Stream => self.of_stream(sequence, &command),
            Stage::Requests => self.request(&command),
            Stage::Hello | Stage::Over => unreachable!("no command is read then"),
        }
    }

    fn first(&mut self, sequence: u64, command: Command, given: Vec<Given>) {
        let plain =
            |token, open| OpenFile { token, open, publish: false, leftover: Leftover::Keep };
        let first = match command {
            Command::Open(open) if sequence == 0 => First::Open(plain(None, open)),
            Command::OpenResumable(open) if sequence == 0 => {
                First::Open(plain(Some(open.token), open.open))
            }
            Command::OpenFile(open) if sequence == 0 => First::Open(open),
            Command::OpenGiven(given) if sequence == 0 => First::Give(given),
            Command::Resume(resume) if sequence == 0 => First::Resume(resume),
            _ if !given.is_empty() => return self.violates(None),
            command if is_request(&command) => {
                self.stage = Stage::Requests;
                return self.request(&command);
            }
            _ => return self.violates(ErrorCode::OUT_OF_SEQUENCE),
        };
        self.stage = Stage::Stream;
        self.asked = Some(Asked::new(first, given));
    }

    fn request(&mut self, command: &Command) {
        match command {
            Command::AbortStream(abort) => self.aborts.push(abort.stream),
            Command::Drain => {
                self.wants_end = true;
                self.stage = Stage::Over;
            }
            command if is_request(command) => {}
            _ => self.violates(ErrorCode::OUT_OF_SEQUENCE),
        }
    }

    fn of_stream(&mut self, sequence: u64, command: &Command) {
        let asked = self.asked.as_mut().expect("there is a stream");
        if let Err(code) = asked.command(sequence, command) {
            return self.violates(code);
        }
        if asked.last.is_some() {
            self.stage = Stage::Over;
        }
    }
}

/// One byte at least, so many at most, and no NUL.
fn is_text(bytes: &[u8], most: usize) -> bool {
    (1..=most).contains(&bytes.len()) && !bytes.contains(&0)
}

fn is_request(command: &Command) -> bool {
    use Command::{AbortStream, Drain, SetWeight, Status};
    matches!(command, Status | SetWeight(_) | Drain | AbortStream(_))
}

impl Asked {
    fn new(first: First, given: Vec<Given>) -> Self {
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

    fn number(&mut self, sequence: u64) -> Result<(), ErrorCode> {
        if self.sequence.checked_add(1) != Some(sequence) {
            return Err(ErrorCode::OUT_OF_SEQUENCE);
        }
        self.sequence = sequence;
        Ok(())
    }

    fn can_move(&self, len: u64) -> Result<(), ErrorCode> {
        let fits = |from: u64| from.checked_add(len).is_some_and(|end| end <= OFFSET_MAX);
        if fits(self.position) && fits(self.content) {
            Ok(())
        } else {
            Err(ErrorCode::OFFSET_RANGE)
        }
    }

    fn moved(&mut self, len: u64) {
        self.position += len;
        self.content += len;
    }

    fn did(&mut self, change: Change) {
        let Self { sequence, position, content, .. } = *self;
        self.done.push(Done { sequence, change, position, content });
    }

    fn command(&mut self, sequence: u64, command: &Command) -> Result<(), ErrorCode> {
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
