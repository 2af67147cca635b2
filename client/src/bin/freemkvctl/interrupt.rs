//! Ctrl-C and its kin, as something that can be waited for.

#[cfg_attr(unix, path = "interrupt/unix.rs")]
#[cfg_attr(not(unix), path = "interrupt/none.rs")]
mod platform;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// Knows when somebody wants the command to end.
pub(crate) struct Interrupt {
    caught: Arc<AtomicBool>,
    signals: Receiver<()>,
}

impl Interrupt {
    /// From now on a signal that wants the process to end no longer ends it; a second one does. Where there are no
    /// such signals, all is as ever.
    pub(crate) fn catch() -> io::Result<Self> {
        let caught = Arc::new(AtomicBool::new(false));
        let signals = platform::catch(&caught)?;
        Ok(Self { caught, signals })
    }

    /// The flag that the first signal sets, for those who can't wait here.
    pub(crate) fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.caught)
    }

    /// Whether it was interrupted.
    pub(crate) fn is_caught(&self) -> bool {
        self.caught.load(Ordering::Relaxed)
    }

    /// From now on the next signal counts as the first.
    pub(crate) fn forget(&self) {
        self.caught.store(false, Ordering::Relaxed);
    }

    /// Waits for so long; true when it was interrupted.
    pub(crate) fn wait(&self, duration: Duration) -> bool {
        match self.signals.recv_timeout(duration) {
            Ok(()) => true,
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => {
                std::thread::sleep(duration);
                false
            }
        }
    }
}
