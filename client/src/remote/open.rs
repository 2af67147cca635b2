//! Opening a stream of the daemon.
//!
//! 1. An `OpenResumable` that was not answered, because the daemon went away under it, is sent again, with the
//!    same token: the file is opened once. So is one that this process has opened (`choice`), with that file.
//! 2. A file that was made for a stream which then can't begin is taken away again, if nothing was written.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use freemkvd_proto::{
    self as proto, ErrorCode, Failure, Kind, Leftover, OpenMode, Token, Transfer, WirePath, limits,
};

use super::Remote;
use super::choice::{Choice, choose};
use super::naming::Naming;
use crate::connection::{Connection, Limit, connect};
use crate::ending::Ending;
use crate::given::Given;
use crate::link::Link;
use crate::luggage::Luggage;
use crate::memory::Memory;
use crate::outlet::Patience;
use crate::pump::{Backoff, Route, Shared, passes};
use crate::slot::{Pool, SLOT_BYTES};
use crate::{Error, OpenBy, memory};

/// A connection that takes so long from its hello to its first frame is done anew: daemons don't wait for ever.
const PROMPT: Duration = Duration::from_secs(1);

/// Why a try to open did not come to anything.
pub(super) enum Attempt {
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
    pub(crate) open_by: OpenBy,
    pub(crate) publish: bool,
    pub(crate) leftover: Leftover,
    pub(crate) timeout: Duration,
    /// How long another daemon is looked for after one was lost.
    pub(crate) resume_timeout: Duration,
    pub(crate) halt: Option<Arc<AtomicBool>>,
}

impl Opening<'_> {
    /// What becomes of a file that this process opens.
    pub(super) fn ending(&self) -> Ending {
        Ending::new(self.path, self.mode, self.publish, self.leftover)
    }
}

impl Remote {
    /// Connects and opens the file, again where rule 2 says so. With it comes the file's length in bytes.
    pub(crate) fn open(opening: &Opening<'_>) -> Result<(Self, u64), Error> {
        let mut choice: Option<Choice> = None;
        let opened = Self::open_in_time(opening, &mut choice);
        opened.map_err(|error| match choice {
            Some(choice) => choice.undo(error),
            None => error,
        })
    }

    fn open_in_time(
        opening: &Opening<'_>,
        choice: &mut Option<Choice>,
    ) -> Result<(Self, u64), Error> {
        let patience =
            Patience::new("opening", opening.halt.as_ref()).with_timeout(opening.timeout);
        let token = (!opening.resume_timeout.is_zero()).then(token).flatten();
        on_the_wire(opening.path, limits::PATH_BYTES_MAX)?;
        let mut backoff = Backoff::new();
        let mut lost: Option<Error> = None;
        loop {
            match Self::open_once(opening, token, &patience, choice) {
                Ok(opened) => return Ok(opened),
                Err(Attempt::Lost(error)) => {
                    lost.get_or_insert(error);
                }
                // The daemon was there, and will be there again.
                Err(Attempt::Failed(error)) if lost.is_some() && is_away(&error) => {}
                Err(Attempt::Failed(error)) => {
                    let instead = choice.as_ref().and_then(|choice| choice.instead(&error));
                    *choice = Some(instead.ok_or(error)?);
                }
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
        choice: &mut Option<Choice>,
    ) -> Result<(Self, u64), Attempt> {
        let path = opening.path;
        let mut connection = greet(opening)?;
        let since = Instant::now();
        let choice = match choice {
            Some(made) => made,
            None => choice.insert(choose(opening, &mut connection, patience)?),
        };
        if since.elapsed() > PROMPT {
            connection = greet(opening)?;
        }
        let token = token.filter(|_| connection.version >= Kind::OpenResumable.since());
        let (pool, memory) = allocate(opening.slots, opening.shares_slots);
        let transfer = match u32::try_from(opening.slots) {
            Ok(slots) if memory.is_some() => Transfer::Shared { slots },
            _ => Transfer::Inline,
        };
        let (link, given) = begin(opening, choice, connection.version, (token, transfer), pool)?;
        let route = Route {
            socket: opening.socket.to_owned(),
            step_timeout: opening.timeout,
            resume_timeout: opening.resume_timeout,
        };
        let luggage = Luggage::of(memory, given).map(Arc::new);
        let shared = Shared::start(path, connection.stream, luggage, link, route)?;
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
        let naming = match choice {
            Choice::Client { given, .. } => Naming::of(opening.ending(), given),
            Choice::Daemon { .. } => None,
        };
        let opened_by = choice.opened_by();
        let path = path.to_owned();
        let remote = Self { shared, path, opened_by, naming, halt: opening.halt.clone() };
        Ok((remote, opened.len_bytes))
    }
}

/// Connects, and tells a daemon that goes away from one that is not there.
pub(super) fn greet(opening: &Opening<'_>) -> Result<Connection, Attempt> {
    connect(opening.socket, Limit::of(opening.timeout)).map_err(|error| match error {
        // It listened, and went away before it had said hello.
        Error::Io { .. } => Attempt::Lost(error),
        error => Attempt::Failed(error),
    })
}

/// A path as the wire has it.
fn on_the_wire(path: &Path, bytes_max: usize) -> Result<WirePath, Error> {
    WirePath::from_path(path).filter(|wire| wire.0.len() <= bytes_max).ok_or_else(|| {
        Error::Invalid {
            path: path.to_owned(),
            message: "this path can't be sent: too long, or not Unicode",
        }
    })
}

/// What goes over a connection of this version first, and what goes with it.
fn begin(
    opening: &Opening<'_>,
    choice: &Choice,
    version: u16,
    (token, transfer): (Option<Token>, Transfer),
    pool: Pool,
) -> Result<(Link, Option<Arc<Given>>), Error> {
    match choice {
        Choice::Daemon { .. } => {
            let open = by_path(opening, token, transfer)?;
            if !open.is_plain() && version < Kind::OpenFile.since() {
                let what = "publish a file when it is complete, nor rename or remove what is left of one; \
                            upgrade it, or leave these options out";
                return Err(too_old(opening.path, version, what));
            }
            Ok((Link::new(pool, open), None))
        }
        Choice::Client { .. } if version < Kind::OpenGiven.since() => {
            Err(super::choice::too_old(opening.path, version))
        }
        Choice::Client { given, .. } => {
            let open = by_descriptor(opening, token, transfer, given)?;
            Ok((Link::with_file(pool, open), Some(Arc::clone(given))))
        }
    }
}

fn by_path(
    opening: &Opening<'_>,
    token: Option<Token>,
    transfer: Transfer,
) -> Result<proto::OpenFile, Error> {
    let open = proto::Open {
        path: on_the_wire(opening.path, limits::PATH_BYTES_MAX)?,
        mode: opening.mode,
        size_hint_bytes: opening.size_hint_bytes,
        transfer,
        weight: opening.weight,
        window_bytes: opening.daemon_window_bytes,
    };
    let (publish, leftover) = (opening.publish, opening.leftover);
    Ok(proto::OpenFile { token, open, publish, leftover })
}

fn by_descriptor(
    opening: &Opening<'_>,
    token: Option<Token>,
    transfer: Transfer,
    given: &Given,
) -> Result<proto::OpenGiven, Error> {
    Ok(proto::OpenGiven {
        token,
        label: on_the_wire(&opening.ending().opened_path(), limits::LABEL_BYTES_MAX)?,
        empties: opening.mode == OpenMode::Create && !given.is_new(),
        passes_directory: given.has_directory(),
        size_hint_bytes: opening.size_hint_bytes,
        transfer,
        weight: opening.weight,
        window_bytes: opening.daemon_window_bytes,
    })
}

/// A wish that the daemon does not know is not passed over in silence.
pub(super) fn too_old(path: &Path, version: u16, what: &str) -> Error {
    let message = format!("the daemon speaks protocol version {version} and can't {what}");
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
