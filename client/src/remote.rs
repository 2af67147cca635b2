//! [`Remote`]: an [`Outlet`] through the daemon.
//!
//! 1. Writing waits for a free slot and nothing else; everything is handed to the sender at once.
//! 2. No more than [`COMMANDS_MAX`] commands are kept. Slots bound those with content, this the rest.
//! 3. The name of a file that this process has opened is this process' business (`naming`): what is to become of
//!    it does once the stream has ended.

mod choice;
mod naming;
mod open;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use self::naming::Naming;
pub(crate) use self::open::Opening;
use crate::journal::Journal;
use crate::link::{Command, Link, Part};
use crate::outlet::{Outlet, Patience, TICK};
use crate::progress::Progress;
use crate::pump::Shared;
use crate::slot::Slot;
use crate::window::Leaving;
use crate::{Error, OpenedBy, aside};

/// Most commands kept at once. A command without content is 64 bytes here; nobody has a reason to
/// queue thousands of them, but a loop of `set_len` must not eat the muxer's memory.
pub(crate) const COMMANDS_MAX: usize = 4096;

/// A stream of the daemon.
#[derive(Debug)]
pub(crate) struct Remote {
    shared: Arc<Shared>,
    path: PathBuf,
    opened_by: OpenedBy,
    /// `None` where nothing is to be done, or it has begun.
    naming: Option<Naming>,
    halt: Option<Arc<AtomicBool>>,
}

impl Remote {
    fn patience(&self, operation: &'static str) -> Patience {
        Patience::new(operation, self.halt.as_ref())
    }

    /// Waits until `ended` has something. Where this process has to do something with the file's name then, it
    /// is done by `name`, or what becomes of a file that is not complete is, in a thread that waits as long as it
    /// takes.
    fn end<T: Copy + Send + 'static>(
        &mut self,
        patience: &Patience,
        ended: impl FnMut(&mut Link) -> Option<T> + Send + 'static,
        name: impl FnOnce(Naming, T) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let Some(naming) = self.naming.take() else {
            return self.shared.wait(patience, ended);
        };
        let (shared, operation) = (Arc::clone(&self.shared), patience.operation());
        let work = move || match shared.wait(&Patience::new(operation, None), ended) {
            Ok(value) => name(naming, value),
            Err(error) => {
                // The first failure is the one to tell.
                let _ = naming.dispose();
                Err(error)
            }
        };
        aside::run("freemkv-name", &self.path, patience, work, drop)?
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
        let patience = self.patience("finishing").with_timeout(timeout);
        let mut is_asked = false;
        let finished = move |link: &mut Link| {
            if !is_asked {
                is_asked = true;
                link.push(Command::Finish);
            }
            link.finished.map(|finished| finished.len_bytes)
        };
        let publish = |naming: Naming, len| naming.publish().map(|()| len);
        self.end(&patience, finished, publish)
    }

    fn abort(&mut self, timeout: Duration) -> Result<(), Error> {
        // Not the halt flag: a muxer that was halted is the one that aborts.
        let patience = Patience::new("aborting", None).with_timeout(timeout);
        let mut is_asked = false;
        let aborted = move |link: &mut Link| {
            if !is_asked {
                is_asked = true;
                link.abort();
            }
            // It has also ended when this thread waits no longer.
            (link.aborted || link.ended).then_some(())
        };
        let result = self.end(&patience, aborted, |naming, ()| naming.dispose());
        self.shared.give_up();
        result
    }

    fn close(&mut self, timeout: Duration) {
        // Not the halt flag: bytes that were taken are handed over also when a rip is stopped.
        let patience = Patience::new("closing", None).with_timeout(timeout);
        let mut asked = None;
        let written = move |link: &mut Link| {
            let sequence = *asked.get_or_insert_with(|| link.close());
            (link.is_written(sequence) || link.ended).then_some(())
        };
        // Nobody is left to tell. What is late is handed over by the threads.
        let _ = self.end(&patience, written, |naming, ()| naming.dispose());
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

    fn opened_by(&self) -> OpenedBy {
        self.opened_by
    }
}
