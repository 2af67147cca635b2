//! One connection of a run: what was sent on it, by the rules, and what was answered.
//!
//! It never waits for the daemon to read without reading what the daemon says, unless it is told not to listen. An
//! answer that breaks the protocol is a panic: watermarks that go back or are out of order, something after the
//! last answer, more accepted than was sent.

use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use freemkvd_proto::hello::HELLO_BYTES;
use freemkvd_proto::{Decoder, Failure, Finished, Kind, Opened, Progress, Reply, Sender, Step};
use rustix::cmsg_space;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use super::asked::Asked;
use super::given::Given;
use super::rules::Rules;

/// Longer than any answer takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// As many descriptors as the kernel takes at once.
pub(super) const GIVEN_MAX: usize = 253;

/// What the daemon has said.
#[derive(Debug, Default)]
pub(super) struct Told {
    hello: Vec<u8>,
    pub(super) opened: Option<Opened>,
    pub(super) is_resumable: bool,
    pub(super) is_resumed: bool,
    pub(super) progress: Progress,
    pub(super) failure: Option<Failure>,
    pub(super) finished: Option<Finished>,
    pub(super) is_aborted: bool,
    pub(super) is_going_away: bool,
    /// Answers of any kind.
    pub(super) answers: u64,
}

/// See the module's documentation.
pub(super) struct Peer {
    /// `None` when it has hung up.
    socket: Option<UnixStream>,
    decoder: Decoder,
    pub(super) rules: Rules,
    pub(super) told: Told,
    /// It reads no answers.
    pub(super) is_deaf: bool,
    /// It has hung up without reading all of them.
    pub(super) was_rude: bool,
    /// The daemon has stopped meanwhile.
    pub(super) was_stopped: bool,
    /// The number that its next command should have.
    pub(super) next: u64,
    /// What goes with the next bytes.
    pub(super) passes: Vec<Given>,
    /// It sends single bytes.
    pub(super) is_slow: bool,
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rules, told, is_deaf, was_rude, was_stopped, .. } = self;
        let ways = format!("deaf: {is_deaf}, rude: {was_rude}, stopped: {was_stopped}");
        let (asked, violation) = (&rules.asked, &rules.violation);
        write!(f, "asked {asked:?}; {violation:?}; {told:?}; {ways}")
    }
}

impl Peer {
    /// `None` when nobody listens.
    pub(super) fn connect(socket: &Path) -> Option<Self> {
        let socket = UnixStream::connect(socket).ok()?;
        socket.set_nonblocking(true).expect("a socket needs not block");
        Some(Self {
            socket: Some(socket),
            decoder: Decoder::new(Sender::Daemon),
            rules: Rules::new(),
            told: Told::default(),
            is_deaf: false,
            was_rude: false,
            was_stopped: false,
            next: 0,
            passes: Vec::new(),
            is_slow: false,
        })
    }

    /// Sends what it can: all, unless the daemon has hung up or this peer does not listen.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        // As long as a frame with a path in single bytes; content would take for ever.
        let (singly, at_once) = bytes.split_at(if self.is_slow { bytes.len().min(64) } else { 0 });
        for piece in singly.chunks(1).chain([at_once]) {
            let mut left = piece;
            while !left.is_empty() {
                let Some(count) = self.send_some(left) else { return };
                left = &left[count..];
            }
        }
    }

    fn send_some(&mut self, bytes: &[u8]) -> Option<usize> {
        let passes = std::mem::take(&mut self.passes);
        let mut waits = 0;
        loop {
            match send_with(self.socket.as_ref()?, bytes, &passes) {
                Ok(count) => {
                    self.rules.sent(&bytes[..count], &passes);
                    return Some(count);
                }
                Err(Errno::AGAIN) if self.is_deaf => return None,
                Err(Errno::AGAIN) => {
                    self.listen();
                    self.wait(PollFlags::IN | PollFlags::OUT);
                }
                // Of descriptors that are on their way nobody may have more than a process may have open.
                Err(Errno::TOOMANYREFS) if waits < 1000 => {
                    waits += 1;
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(_) => {
                    self.listen();
                    return None;
                }
            }
        }
    }

    fn wait(&self, what: PollFlags) {
        let Some(socket) = &self.socket else { return };
        let patience = Timespec::try_from(PATIENCE).expect("some seconds");
        let ready = poll(&mut [PollFd::new(socket, what)], Some(&patience));
        assert!(ready != Ok(0), "the daemon neither reads nor answers: {self:?}");
    }

    /// Reads what there is. False when the daemon has hung up.
    pub(super) fn listen(&mut self) -> bool {
        while let Some(mut socket) = self.socket.as_ref() {
            let mut hello = [0; HELLO_BYTES];
            let is_hello = self.told.hello.len() < HELLO_BYTES;
            let space = match is_hello {
                true => &mut hello[self.told.hello.len()..],
                false => self.decoder.space(),
            };
            match socket.read(space) {
                Ok(0) => return false,
                Ok(count) if is_hello => {
                    let from = self.told.hello.len();
                    self.told.hello.extend_from_slice(&hello[from..from + count]);
                }
                Ok(count) => {
                    let step = self.decoder.advance(count).expect("the daemon sends frames");
                    if let Step::Control(header, body) = step {
                        let reply = Reply::decode(&header, body).expect("the daemon sends answers");
                        self.told.hear(&reply);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        false
    }

    /// Listens until it has heard what came of its first frame, or nothing can come.
    pub(super) fn listen_for_first(&mut self) {
        let expects = |peer: &Self| {
            let is_open = peer.rules.asked.is_some() || peer.rules.violation.is_some();
            let before = [peer.told.is_resumable, peer.told.is_going_away].map(u64::from);
            is_open && peer.told.answers == before.iter().sum::<u64>()
        };
        while expects(self) && self.listen() && expects(self) {
            self.wait(PollFlags::IN);
        }
    }

    /// Listens until nothing is said any more that the last command has to be answered by.
    pub(super) fn listen_to_the_end(&mut self) {
        while self.listen() {
            self.wait(PollFlags::IN);
        }
    }

    /// Says that nothing more comes, and reads to the end.
    pub(super) fn hang_up(&mut self) {
        if let Some(socket) = &self.socket {
            // It fails when the daemon was first.
            let _ = socket.shutdown(Shutdown::Write);
            self.listen_to_the_end();
        }
        self.rules.end();
        self.socket = None;
    }

    /// Hangs up, whatever is on its way. One that has come back for its stream does it politely: nobody would know
    /// when it waits for its client again.
    pub(super) fn vanish(&mut self) {
        if self.rules.asked.as_ref().is_some_and(Asked::is_resumed) {
            return self.hang_up();
        }
        self.was_rude |= self.socket.is_some();
        self.rules.end();
        self.socket = None;
    }
}

impl Told {
    fn hear(&mut self, reply: &Reply) {
        self.answers += 1;
        let is_over = self.finished.is_some() || self.is_aborted || self.failure.is_some();
        let is_request = matches!(
            reply.kind(),
            Kind::StatusReport
                | Kind::FullReport
                | Kind::Waits
                | Kind::MetricsText
                | Kind::Reloaded
                | Kind::Done
                | Kind::Failed
        );
        assert!(!is_over || is_request, "{reply:?} after the last answer of {self:?}");
        match reply {
            Reply::Opened(opened) => {
                // Only that the daemon is about to stop may have come before.
                let before = [self.is_resumable, self.is_going_away].map(u64::from);
                let is_first = self.answers == 1 + before.iter().sum::<u64>();
                assert!(is_first && self.opened.is_none(), "opened late: {self:?}");
                self.opened = Some(*opened);
            }
            Reply::Resumable => self.is_resumable = true,
            Reply::Resumed(_) => self.is_resumed = true,
            Reply::Progress(progress) => self.hear_progress(progress),
            Reply::Finished(finished) => {
                let Progress { accepted, written, durable } = finished.progress;
                assert!(accepted == written && written == durable, "{finished:?}");
                self.finished = Some(*finished);
            }
            Reply::Aborted => self.is_aborted = true,
            Reply::Failed(failure) => self.failure = Some(failure.clone()),
            Reply::GoingAway(_) => self.is_going_away = true,
            Reply::Synced | Reply::Done => {}
            Reply::StatusReport(_) | Reply::FullReport(_) | Reply::Reloaded(_) => {}
            Reply::MetricsText(text) => {
                assert!(text.ends_with("\n# EOF\n"), "a text without its end: {text}");
            }
            Reply::Waits(waits) => {
                let sum: u64 = waits.parts.iter().map(|part| part.ns).sum();
                assert_eq!(sum, waits.lifetime_ns, "the parts add up to the whole: {waits:?}");
            }
        }
    }

    fn hear_progress(&mut self, new: &Progress) {
        let old = &self.progress;
        let is_in_order = |one: &freemkvd_proto::Mark, other: &freemkvd_proto::Mark| {
            one.sequence <= other.sequence && one.bytes <= other.bytes
        };
        let forward = [
            is_in_order(&new.durable, &new.written),
            is_in_order(&new.written, &new.accepted),
            is_in_order(&old.durable, &new.durable),
            is_in_order(&old.written, &new.written),
            is_in_order(&old.accepted, &new.accepted),
        ];
        assert!(!forward.contains(&false), "{new:?} after {old:?}");
        self.progress = *new;
    }
}

fn send_with(socket: &UnixStream, bytes: &[u8], passes: &[Given]) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(GIVEN_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors: Vec<_> = passes.iter().map(|given| given.descriptor()).collect();
    if !descriptors.is_empty() {
        let fits = ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        assert!(fits, "more than {GIVEN_MAX} descriptors");
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    sendmsg(socket, &[io::IoSlice::new(bytes)], &mut ancillary, flags)
}

/// Looks until `wanted` is true.
///
/// # Panics
/// When it never is.
pub(super) fn until(what: &str, wanted: impl FnMut() -> bool) {
    assert!(until_or(wanted), "never {what}");
}

/// Looks until `wanted` is true; false when it never was.
pub(super) fn until_or(mut wanted: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    let mut looks = 0;
    while !wanted() {
        looks += 1;
        if begun.elapsed() > PATIENCE {
            return false;
        }
        // Nearly always it is a matter of microseconds.
        match looks {
            0..50 => std::thread::yield_now(),
            _ => std::thread::sleep(Duration::from_micros(50)),
        }
    }
    true
}
