//! [`Remote`]: an [`Outlet`] through the daemon.
//!
//! 1. Writing waits for a free slot and nothing else; everything is handed to the sender at once.
//! 2. An `OpenResumable` that was not answered, because the daemon went away under it, is sent again, with the
//!    same token: the file is opened once.
//! 3. No more than [`COMMANDS_MAX`] commands are kept. Slots bound those with content, this the rest.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use freemkvd_proto::{
    self as proto, ErrorCode, Failure, Kind, Leftover, OpenMode, Token, Transfer, WirePath, limits,
};

use crate::connection::{Limit, connect};
use crate::journal::Journal;
use crate::link::{Command, Link, Part};
use crate::memory::Memory;
use crate::outlet::{Outlet, Patience, TICK};
use crate::progress::Progress;
use crate::pump::{Backoff, Route, Shared, passes};
use crate::slot::{Pool, SLOT_BYTES, Slot};
use crate::window::Leaving;
use crate::{Error, memory};

/// Most commands kept at once. A command without content is 64 bytes here; nobody has a reason to
/// queue thousands of them, but a loop of `set_len` must not eat the muxer's memory.
pub(crate) const COMMANDS_MAX: usize = 4096;

/// A stream of the daemon.
#[derive(Debug)]
pub(crate) struct Remote {
    shared: Arc<Shared>,
    halt: Option<Arc<AtomicBool>>,
}

/// Why a try to open did not come to anything.
enum Attempt {
    /// The connection was lost before anything came back.
    Lost(Error),
    Failed(Error),
}

/// True for what connecting to a daemon comes to while it is restarted: it is not there, closes what it has
/// just accepted, or says that it takes nobody now.
fn is_away(error: &Error) -> bool {
    match error {
        Error::NoDaemon { .. } | Error::Io { .. } => true,
        Error::Refused { code, .. } => passes(*code),
        _ => false,
    }
}

impl From<Error> for Attempt {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// What a stream is opened with.
#[derive(Debug)]
pub(crate) struct Opening<'a> {
    pub(crate) socket: &'a Path,
    pub(crate) path: &'a Path,
    pub(crate) mode: OpenMode,
    pub(crate) size_hint_bytes: Option<u64>,
    pub(crate) slots: usize,
    /// Whether the slots are offered to the daemon.
    pub(crate) shares_slots: bool,
    pub(crate) weight: u32,
    pub(crate) daemon_window_bytes: Option<u64>,
    pub(crate) publish: bool,
    pub(crate) leftover: Leftover,
    pub(crate) timeout: Duration,
    /// How long another daemon is looked for after one was lost.
    pub(crate) resume_timeout: Duration,
    pub(crate) halt: Option<Arc<AtomicBool>>,
}

impl Remote {
    /// Connects and opens the file, again where rule 2 says so. With it comes the file's length in bytes.
    pub(crate) fn open(opening: &Opening<'_>) -> Result<(Self, u64), Error> {
        let patience =
            Patience::new("opening", opening.halt.as_ref()).with_timeout(opening.timeout);
        let token = (!opening.resume_timeout.is_zero()).then(token).flatten();
        let mut backoff = Backoff::new();
        let mut lost: Option<Error> = None;
        loop {
            match Self::open_once(opening, token, &patience) {
                Ok(opened) => return Ok(opened),
                Err(Attempt::Lost(error)) => {
                    lost.get_or_insert(error);
                }
                // The daemon was there, and will be there again.
                Err(Attempt::Failed(error)) if lost.is_some() && is_away(&error) => {}
                Err(Attempt::Failed(error)) => return Err(error),
            }
            let until = Instant::now() + backoff.wait();
            while let Some(left) = until.checked_duration_since(Instant::now()) {
                match patience.next(opening.path) {
                    Ok(tick) => thread::sleep(left.min(tick)),
                    // Not its own timeout, which would only say that it took long.
                    Err(Error::TimedOut { .. }) => break,
                    Err(halted) => return Err(halted),
                }
            }
            if let (Err(Error::TimedOut { .. }), Some(lost)) = (patience.next(opening.path), &lost)
            {
                return Err(lost.clone());
            }
        }
    }

    fn open_once(
        opening: &Opening<'_>,
        token: Option<Token>,
        patience: &Patience,
    ) -> Result<(Self, u64), Attempt> {
        let path = opening.path;
        let wire_path = WirePath::from_path(path)
            .filter(|wire| wire.0.len() <= limits::PATH_BYTES_MAX)
            .ok_or_else(|| Error::Invalid {
                path: path.to_owned(),
                message: "this path can't be sent: too long, or not Unicode",
            })?;
        let (pool, memory) = allocate(opening.slots, opening.shares_slots);
        let transfer = match u32::try_from(opening.slots) {
            Ok(slots) if memory.is_some() => Transfer::Shared { slots },
            _ => Transfer::Inline,
        };
        let open = proto::Open {
            path: wire_path,
            mode: opening.mode,
            size_hint_bytes: opening.size_hint_bytes,
            transfer,
            weight: opening.weight,
            window_bytes: opening.daemon_window_bytes,
        };
        let connection = connect(opening.socket, Limit::of(opening.timeout)).map_err(|error| {
            match error {
                // It listened, and went away before it had said hello.
                Error::Io { .. } => Attempt::Lost(error),
                error => Attempt::Failed(error),
            }
        })?;
        let token = token.filter(|_| connection.version >= Kind::OpenResumable.since());
        let (publish, leftover) = (opening.publish, opening.leftover);
        let open = proto::OpenFile { token, open, publish, leftover };
        if !open.is_plain() && connection.version < Kind::OpenFile.since() {
            return Err(too_old(path, connection.version).into());
        }
        let route = Route {
            socket: opening.socket.to_owned(),
            step_timeout: opening.timeout,
            resume_timeout: opening.resume_timeout,
        };
        let link = Link::new(pool, open);
        let shared = Shared::start(path, connection.stream, memory.map(Arc::new), link, route)?;
        let opened = shared.wait(patience, |link| link.opened).map_err(|error| {
            shared.give_up();
            let again = shared.with(|link| link.is_to_be_opened_again());
            match error {
                Error::Lost { .. } if again => Attempt::Lost(error),
                Error::Failed { ref failure, .. } if again && passes(failure.code) => {
                    Attempt::Lost(error)
                }
                error => Attempt::Failed(error),
            }
        })?;
        let remote = Self { shared, halt: opening.halt.clone() };
        Ok((remote, opened.len_bytes))
    }

    fn patience(&self, operation: &'static str) -> Patience {
        Patience::new(operation, self.halt.as_ref())
    }

    fn push(&self, operation: &'static str, command: Command) -> Result<u64, Error> {
        let mut command = Some(command);
        let number = self.shared.wait(&self.patience(operation), |link| {
            if link.kept() >= COMMANDS_MAX {
                link.nudge();
                return None;
            }
            Some(link.push(command.take()?))
        })?;
        self.shared.with(|_| ());
        Ok(number)
    }
}

/// A wish that the daemon does not know is not passed over in silence.
fn too_old(path: &Path, version: u16) -> Error {
    let message = format!(
        "the daemon speaks protocol version {version} and can't publish a file when it is complete, nor rename or \
         remove what is left of one; upgrade it, or leave these options out"
    );
    let failure = Failure::new(ErrorCode::VERSION, message);
    Error::Failed { path: path.to_owned(), operation: "open", failure }
}

/// Sixteen bytes that nobody guesses; `None` where the system has none to give.
fn token() -> Option<Token> {
    let mut token = [0; 16];
    getrandom::fill(&mut token).ok()?;
    Some(Token(token))
}

/// The slots of a stream: shared ones where that is wanted and the system has them to give, and at most
/// as many as the wire can name.
fn allocate(slots: usize, shares_slots: bool) -> (Pool, Option<Memory>) {
    if shares_slots && slots <= limits::SLOTS_MAX as usize {
        if let Some((memory, pieces)) = memory::allocate(slots, SLOT_BYTES) {
            return (Pool::shared(pieces), Some(memory));
        }
    }
    (Pool::new(slots), None)
}

impl Outlet for Remote {
    fn is_failed(&self) -> bool {
        self.shared.is_failed()
    }

    fn failure(&self) -> Option<Error> {
        self.shared.with(|link| link.failed.clone())
    }

    fn slot(&mut self) -> Result<Arc<Slot>, Error> {
        let since = Instant::now();
        self.shared.wait(&self.patience("writing"), |link| {
            let slot = link.pool.take();
            if slot.is_none() && since.elapsed() >= TICK {
                link.nudge();
            }
            slot
        })
    }

    fn take(
        &mut self,
        leaving: &mut VecDeque<Leaving>,
        mut journal: Option<&mut Journal>,
    ) -> Result<(), Error> {
        self.shared.with(|link| {
            for item in leaving.drain(..) {
                match item {
                    Leaving::Write { offset, slot, range } => {
                        let end = offset + range.len() as u64;
                        let number = link.push_write(offset, Part { slot, range });
                        if let Some(journal) = journal.as_mut() {
                            journal.send(offset..end, number);
                        }
                    }
                    Leaving::Release(slot) => {
                        link.pool.put(slot);
                    }
                }
            }
            link.failed.clone().map_or(Ok(()), Err)
        })
    }

    fn write_zeroes(&mut self, offset: u64, len: u64) -> Result<u64, Error> {
        self.push("writing", Command::WriteZeroes { offset, len })
    }

    fn set_len(&mut self, len: u64) -> Result<(), Error> {
        self.push("setting the length of", Command::SetLen { len }).map(drop)
    }

    fn flush(&mut self) -> Result<(), Error> {
        let mut asked = None;
        self.shared.wait(&self.patience("flushing"), |link| {
            if asked.is_none() && link.is_all_written() {
                return Some(());
            }
            let sequence = *asked.get_or_insert_with(|| link.flush());
            link.is_written(sequence).then_some(())
        })
    }

    fn sync(&mut self, timeout: Duration) -> Result<(), Error> {
        let mut asked = None;
        let patience = self.patience("syncing").with_timeout(timeout);
        self.shared.wait(&patience, |link| {
            let sequence = *asked.get_or_insert_with(|| link.sync());
            link.is_synced(sequence).then_some(())
        })
    }

    fn sync_soon(&mut self) -> Result<(), Error> {
        self.shared.with(|link| {
            link.sync_soon();
            link.failed.clone().map_or(Ok(()), Err)
        })
    }

    fn handed(&self) -> u64 {
        self.shared.with(|link| link.last_sequence())
    }

    fn durable(&self) -> u64 {
        self.shared.durable()
    }

    fn finish(&mut self, timeout: Duration) -> Result<u64, Error> {
        let mut is_asked = false;
        let patience = self.patience("finishing").with_timeout(timeout);
        self.shared.wait(&patience, |link| {
            if !is_asked {
                is_asked = true;
                link.push(Command::Finish);
            }
            link.finished.map(|finished| finished.len_bytes)
        })
    }

    fn abort(&mut self, timeout: Duration) -> Result<(), Error> {
        let mut is_asked = false;
        // Not the halt flag: a muxer that was halted is the one that aborts.
        let patience = Patience::new("aborting", None).with_timeout(timeout);
        let result = self.shared.wait(&patience, |link| {
            if !is_asked {
                is_asked = true;
                link.abort();
            }
            link.aborted.then_some(())
        });
        self.shared.give_up();
        result
    }

    fn close(&mut self, timeout: Duration) {
        // Not the halt flag: bytes that were taken are handed over also when a rip is stopped.
        let patience = Patience::new("closing", None).with_timeout(timeout);
        let mut asked = None;
        // Nobody is left to tell. What is late is handed over by the threads.
        let _ = self.shared.wait(&patience, |link| {
            let sequence = *asked.get_or_insert_with(|| link.close());
            link.is_written(sequence).then_some(())
        });
        if self.is_failed() {
            self.shared.give_up();
        }
    }

    fn progress(&self) -> Progress {
        self.shared.with(|link| {
            let marks = link.marks();
            Progress {
                accepted_bytes: marks.accepted.bytes,
                written_bytes: link.written_bytes(),
                durable_bytes: link.durable_bytes(),
                frames_sent: link.frames_sent,
                resumes: link.resumes,
                unwatched_restarts: link.unwatched_restarts,
                kept_bytes: link.kept_bytes(),
            }
        })
    }

    fn stream_id(&self) -> Option<u64> {
        self.shared.with(|link| link.opened).map(|opened| opened.stream)
    }
}
