//! [`Outlet`]: where a stream's bytes go, to the daemon or to a local file.
//!
//! 1. Once an outlet has failed, every later call returns that failure, unchanged.
//! 2. `Ok` from `flush` means written, from `sync` and `finish` durable.
//! 3. `TimedOut` and `Halted` say nothing about the stream; the call may be repeated.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::journal::Journal;
use crate::progress::Progress;
use crate::slot::Slot;
use crate::window::Leaving;
use crate::{Error, OpenedBy};

/// How often a blocked call looks at the halt flag. A halt has to end it within 250 ms.
pub(crate) const TICK: Duration = Duration::from_millis(100);

pub(crate) trait Outlet: Debug + Send {
    /// True once it has failed. Cheap: it is asked before every write.
    fn is_failed(&self) -> bool;
    /// The latched failure.
    fn failure(&self) -> Option<Error>;
    /// A slot, when one is free.
    fn slot(&mut self) -> Result<Arc<Slot>, Error>;
    /// Takes everything that leaves the window, and tells the journal its numbers. Does not wait.
    fn take(
        &mut self,
        leaving: &mut VecDeque<Leaving>,
        journal: Option<&mut Journal>,
    ) -> Result<(), Error>;
    /// Returns its number.
    fn write_zeroes(&mut self, offset: u64, len: u64) -> Result<u64, Error>;
    fn set_len(&mut self, len: u64) -> Result<(), Error>;
    fn flush(&mut self) -> Result<(), Error>;
    fn sync(&mut self, timeout: Duration) -> Result<(), Error>;
    /// Sees to it that everything so far is synced, now or after the sync that is on its way. Does not wait.
    fn sync_soon(&mut self) -> Result<(), Error>;
    /// The highest number that anything was handed over under. They go up with everything that is.
    fn handed(&self) -> u64;
    /// Everything up to this number is durable. Cheap: it is asked after every write.
    fn durable(&self) -> u64;
    /// Completes the file; returns its length in bytes.
    fn finish(&mut self, timeout: Duration) -> Result<u64, Error>;
    fn abort(&mut self, timeout: Duration) -> Result<(), Error>;
    /// Nobody will call again. Waits at most so long for everything to be written.
    fn close(&mut self, timeout: Duration);
    fn progress(&self) -> Progress;
    /// The stream's number at the daemon.
    fn stream_id(&self) -> Option<u64>;
    fn opened_by(&self) -> OpenedBy;
}

/// The patience of one call: its deadline, and the flag that ends it.
#[derive(Clone, Debug)]
pub(crate) struct Patience {
    /// What is being done, as in "writing".
    operation: &'static str,
    deadline: Option<(Instant, Duration)>,
    halt: Option<Arc<AtomicBool>>,
}

impl Patience {
    pub(crate) fn new(operation: &'static str, halt: Option<&Arc<AtomicBool>>) -> Self {
        Self { operation, deadline: None, halt: halt.cloned() }
    }

    pub(crate) fn with_timeout(mut self, timeout: Duration) -> Self {
        // A timeout beyond what the clock can count is none.
        self.deadline = Instant::now().checked_add(timeout).map(|at| (at, timeout));
        self
    }

    pub(crate) fn operation(&self) -> &'static str {
        self.operation
    }

    /// How long to wait before asking again, or why not to wait any longer.
    pub(crate) fn next(&self, path: &Path) -> Result<Duration, Error> {
        let (path, operation) = (path.to_owned(), self.operation);
        if self.halt.as_ref().is_some_and(|h| h.load(Ordering::Relaxed)) {
            return Err(Error::Halted { path, operation });
        }
        let Some((at, after)) = self.deadline else {
            return Ok(TICK);
        };
        match at.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(Error::TimedOut { path, operation, after }),
            left => Ok(left.min(TICK)),
        }
    }
}
