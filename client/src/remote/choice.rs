//! Who opens the file of a stream, and opening it where that is this process.
//!
//! 1. What this process opens, it opens once for a stream, however often the daemon is asked.
//! 2. The daemon is asked to open in place of this process only what this process can't or the daemon does not
//!    take, and only where the path is known to lead to the same place.
//! 3. Opening may take as long as a disk takes to spin up, or for ever on a dead mount: it happens in a
//!    thread of its own.

use std::io;
use std::path::Path;
use std::sync::{Arc, Once};
use std::time::Duration;

use freemkvd_proto::{ErrorCode, Kind, OpenMode};

use super::Opening;
use super::open::{self, Attempt, greet};
use crate::connection::{Connection, io_error};
use crate::ending::Ending;
use crate::given::Given;
use crate::outlet::Patience;
use crate::peer::Peer;
use crate::{Error, OpenBy, OpenedBy, aside};

/// Who opens the file.
#[derive(Clone, Debug)]
pub(super) enum Choice {
    /// The daemon; in place of this process if there is an error that says why not that.
    Daemon { instead_of: Option<Error> },
    /// This process has. The daemon may open it instead if it does not take it.
    Client { given: Arc<Given>, or_daemon: bool },
}

impl Choice {
    const DAEMON: Self = Self::Daemon { instead_of: None };

    /// Leaves it to the daemon to open what it did not take, where that is possible.
    pub(super) fn instead(&self, error: &Error) -> Option<Self> {
        match self {
            Self::Client { given, or_daemon: true } if is_about_passing(error) => {
                take_back(Arc::clone(given));
                Some(Self::Daemon { instead_of: Some(error.clone()) })
            }
            _ => None,
        }
    }

    /// It was as chosen.
    pub(super) fn opened_by(&self) -> OpenedBy {
        match self {
            Self::Client { .. } => OpenedBy::Descriptor,
            Self::Daemon { instead_of: None } => OpenedBy::Path,
            Self::Daemon { instead_of: Some(error) } => {
                say_once(error);
                OpenedBy::PathInstead
            }
        }
    }

    /// Nothing came of it. Leaves nothing behind, and says why.
    pub(super) fn undo(self, error: Error) -> Error {
        match self {
            Self::Client { given, .. } => {
                take_back(given);
                error
            }
            // The daemon has nothing to do with it, and no more to say than this process.
            Self::Daemon { instead_of: Some(first) }
                if matches!(
                    error.code(),
                    Some(ErrorCode::OUTSIDE_ROOTS | ErrorCode::NOT_FOUND)
                ) =>
            {
                first
            }
            Self::Daemon { .. } => error,
        }
    }
}

/// What came of opening it here.
struct Opened {
    here: io::Result<Given>,
    /// The path leads to the same place for the daemon, so that it could open it.
    or_daemon: bool,
}

/// Chooses, and opens the file if it comes to that. The connection is one that names the daemon then, and may
/// be another one than before.
pub(super) fn choose(
    opening: &Opening<'_>,
    connection: &mut Connection,
    patience: &Patience,
) -> Result<Choice, Attempt> {
    let is_able = cfg!(unix) && connection.version >= Kind::OpenGiven.since();
    let peer = match opening.open_by {
        OpenBy::Path => return Ok(Choice::DAEMON),
        OpenBy::Descriptor if is_able => None,
        OpenBy::Descriptor => {
            return Err(too_old(opening.path, connection.version).into());
        }
        OpenBy::Auto if !is_able => return Ok(Choice::DAEMON),
        OpenBy::Auto => Some(meet(opening, connection)?),
    };
    if peer.is_some_and(|peer| !peer.is_foreign()) {
        return Ok(Choice::DAEMON);
    }
    let ending = opening.ending();
    let (path, mode) = (ending.opened_path(), opening.mode);
    let open_by = opening.open_by;
    let open = move || open_here(&ending, mode, open_by, peer);
    let undo = |late: Opened| late.here.iter().for_each(Given::take_back);
    let Opened { here, or_daemon } = aside::run("freemkv-open", &path, patience, open, undo)?;
    match here {
        Ok(given) => Ok(Choice::Client { given: Arc::new(given), or_daemon }),
        Err(cause) => {
            let is_for_daemon = or_daemon && may_help(&cause, opening.mode);
            // Where somebody else might see something else, it matters who has looked.
            let error = io_error(&path, "open, in this process,", cause);
            if is_for_daemon {
                Ok(Choice::Daemon { instead_of: Some(error) })
            } else {
                Err(error.into())
            }
        }
    }
}

/// Takes a file away again that was made in vain. Not for long: what was opened in time may hang now.
fn take_back(given: Arc<Given>) {
    const SHORT: Duration = Duration::from_secs(1);
    let patience = Patience::new("removing", None).with_timeout(SHORT);
    let path = given.path().to_owned();
    // If not, an empty file is left.
    let _ = aside::run("freemkv-undo", &path, &patience, move || given.take_back(), drop);
}

/// Who the daemon is. It is there now, so that another connection names it for certain.
fn meet(opening: &Opening<'_>, connection: &mut Connection) -> Result<Peer, Attempt> {
    let peer = Peer::of(&connection.stream);
    if !peer.is_of_before() {
        return Ok(peer);
    }
    *connection = greet(opening)?;
    Ok(Peer::of(&connection.stream))
}

fn open_here(ending: &Ending, mode: OpenMode, open_by: OpenBy, peer: Option<Peer>) -> Opened {
    let path = ending.opened_path();
    let here = ending.check().and_then(|()| Given::open(&path, mode, open_by));
    // Rule 2.
    Opened { here, or_daemon: peer.is_some_and(|peer| peer.finds_the_same(&path)) }
}

/// Another user may be able to do it, or be configured to: to make the directories that a new file is to be in.
fn may_help(cause: &io::Error, mode: OpenMode) -> bool {
    match cause.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => true,
        io::ErrorKind::NotFound => mode != OpenMode::Existing,
        _ => false,
    }
}

/// It takes no such file, or none from this user; by path it may.
fn is_about_passing(error: &Error) -> bool {
    matches!(error.code(), Some(ErrorCode::BAD_FILE | ErrorCode::NOT_ALLOWED))
}

/// Who wants to own his files is to hear of it, and not for every title of a disc.
fn say_once(error: &Error) {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        eprintln!("freemkvd-client: freemkvd opens files itself instead: {error}; it does so by path, as its own user");
    });
}

/// A wish that the daemon does not know is not passed over in silence.
pub(super) fn too_old(path: &Path, version: u16) -> Error {
    open::too_old(
        path,
        version,
        "take a file that its client has opened; upgrade it, or have it opened by path",
    )
}
