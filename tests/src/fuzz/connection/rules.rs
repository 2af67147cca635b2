//! The rules of the wire, written down a second time: what a daemon has to make of the bytes that a peer has sent
//! on one connection. It shares the decoding of frames with the daemon, which has a target of its own, and nothing
//! of what decides whether a command is allowed and what it means.

use std::ops::Range;

use freemkvd_proto::hello::{ClientHello, DaemonHello, HELLO_BYTES};
use freemkvd_proto::{Command, ErrorCode, HEADER_BYTES, Header, Kind, Leftover, OpenFile, Sender};

use super::asked::{Asked, First};
use super::content::Change;
use super::given::Given;

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

fn is_request(command: &Command) -> bool {
    use Command::{AbortStream, Drain, Metrics, PauseStream, Reload, SetWeight, Status, Why};
    matches!(
        command,
        Status | Why(_) | Metrics | SetWeight(_) | Drain | AbortStream(_) | PauseStream(_) | Reload
    )
}
