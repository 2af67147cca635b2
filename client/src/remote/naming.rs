//! What becomes of the name of a file that this process has opened for the daemon: what the daemon makes of
//! one that it has opened itself.
//!
//! 1. Nothing happens to it before the stream has ended: until then the daemon may go on with it.
//! 2. A complete file is never removed.
//! 3. It happens in the directory in which the file was opened, wherever its path leads by then. Only the file itself is renamed or removed, not one that somebody has put in its place; and it is not
//!    removed if somebody has given it another name.
//! 4. It may wait for a disk, and for a daemon: it happens in a thread of its own, which goes on when nobody
//!    waits any more.

use std::io;
use std::sync::Arc;

use freemkvd_proto::{ErrorCode, Failure};

use crate::Error;
use crate::connection::io_error;
use crate::ending::Ending;
use crate::given::Given;

/// See the module's page.
#[derive(Debug)]
pub(super) struct Naming {
    ending: Ending,
    given: Arc<Given>,
}

impl Naming {
    /// `None` when the file keeps the name that it has.
    pub(super) fn of(ending: Ending, given: &Arc<Given>) -> Option<Self> {
        let given = Arc::clone(given);
        ending.is_work().then_some(Self { ending, given })
    }

    /// The file is complete and durable, and gets its name.
    pub(super) fn publish(self) -> Result<(), Error> {
        let publish = || {
            self.check()?;
            if self.ending.publish(self.given.directory())? {
                self.given.sync_name()?;
            }
            Ok(())
        };
        publish().map_err(|cause| not_published(&self.ending, &cause))
    }

    /// The file will not be complete.
    pub(super) fn dispose(self) -> Result<(), Error> {
        let dispose = || {
            self.check()?;
            if self.ending.removes() && !self.given.has_no_other_name() {
                return Err(io::Error::other("somebody has given it another name, too"));
            }
            self.ending.dispose(self.given.directory())
        };
        let disposed = dispose();
        disposed.map_err(|cause| io_error(&self.ending.opened_path(), "dispose of", cause))
    }

    /// Rule 3.
    fn check(&self) -> io::Result<()> {
        if self.given.has_its_name() {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::NotFound, "somebody has taken its name away"))
    }
}

fn not_published(ending: &Ending, cause: &io::Error) -> Error {
    let path = ending.opened_path();
    let name = ending.path().display();
    let what = match cause.kind() {
        io::ErrorKind::AlreadyExists => format!("{name} exists by now; choose one of the two"),
        io::ErrorKind::NotFound => {
            "somebody has taken its name away; unless it was renamed, write it again".to_owned()
        }
        _ => format!("it can't be renamed to {name} for good: {cause}; rename it by hand"),
    };
    let message = format!("{} is complete and durable, but {what}", path.display());
    let errno = cause.raw_os_error();
    let failure = Failure { errno, ..Failure::new(ErrorCode::NOT_PUBLISHED, message) };
    Error::Failed { path, operation: "publish", failure }
}
