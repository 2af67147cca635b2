//! Who opens the file of a stream, and opening it where that is this process.
//!
//! 1. What this process opens, it opens once for a stream, however often the daemon is asked.
//! 2. The daemon is asked to open in place of this process only what this process may not open, and only
//!    where the path is known to lead to the same place.
//! 3. Opening may take as long as a disk takes to spin up, or for ever on a dead mount: it happens in a
//!    thread of its own.

use std::io;
use std::path::Path;
use std::sync::{Arc, Once};

use freemkvd_proto::{Kind, OpenMode};

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
    /// The daemon, as this says.
    Daemon(OpenedBy),
    /// This process has.
    Client(Arc<Given>),
}

/// What came of opening it here.
enum Opened {
    Here(Given),
    /// This process may not, and the daemon is to.
    There(io::Error),
    Failed(io::Error),
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
        OpenBy::Path => return Ok(Choice::Daemon(OpenedBy::Path)),
        OpenBy::Descriptor if is_able => None,
        OpenBy::Descriptor => {
            return Err(too_old(opening.path, connection.version).into());
        }
        OpenBy::Auto if !is_able => return Ok(Choice::Daemon(OpenedBy::Path)),
        OpenBy::Auto => Some(meet(opening, connection)?),
    };
    if peer.is_some_and(|peer| !peer.is_foreign()) {
        return Ok(Choice::Daemon(OpenedBy::Path));
    }
    let ending = opening.ending();
    let (path, mode) = (ending.opened_path(), opening.mode);
    let undo = |late| {
        if let Opened::Here(given) = late {
            given.take_back();
        }
    };
    let open = move || attempt(&ending, mode, peer);
    match aside::run("freemkv-open", &path, patience, open, undo)? {
        Opened::Here(given) => Ok(Choice::Client(Arc::new(given))),
        Opened::There(cause) => {
            say_once(&path, &cause);
            Ok(Choice::Daemon(OpenedBy::PathInstead))
        }
        // Where somebody else might see something else, it matters who has looked.
        Opened::Failed(cause) => Err(io_error(&path, "open, in this process,", cause).into()),
    }
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

fn attempt(ending: &Ending, mode: OpenMode, peer: Option<Peer>) -> Opened {
    let path = ending.opened_path();
    let opened = ending.check().and_then(|()| Given::open(&path, mode));
    match opened {
        Ok(given) => Opened::Here(given),
        // Rule 2.
        Err(cause)
            if is_about_rights(&cause) && peer.is_some_and(|peer| peer.finds_the_same(&path)) =>
        {
            Opened::There(cause)
        }
        Err(cause) => Opened::Failed(cause),
    }
}

fn is_about_rights(cause: &io::Error) -> bool {
    matches!(cause.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

/// Who wants to own his files is to hear of it, and not for every title of a disc.
fn say_once(path: &Path, cause: &io::Error) {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        eprintln!(
            "freemkvd-client: freemkvd opens files that this process may not open: {}: {cause}",
            path.display()
        );
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
