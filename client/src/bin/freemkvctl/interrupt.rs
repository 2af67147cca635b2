//! Ctrl-C and its kin, as something that can be waited for.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

/// Knows when somebody wants the command to end.
pub(crate) struct Interrupt {
    caught: Arc<AtomicBool>,
    signals: Receiver<()>,
}

impl Interrupt {
    /// From now on SIGHUP, SIGINT and SIGTERM no longer end the process; a second one does.
    #[cfg(unix)]
    pub(crate) fn catch() -> io::Result<Self> {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
        use signal_hook::{flag, iterator::Signals};

        let caught = Arc::new(AtomicBool::new(false));
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            // In this order: the first signal finds the flag unset, and sets it for the second.
            flag::register_conditional_default(signal, Arc::clone(&caught))?;
            flag::register(signal, Arc::clone(&caught))?;
        }
        let mut incoming = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
        let (sender, signals) = mpsc::sync_channel(1);
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            for _ in incoming.forever() {
                // Full means that one is waiting to be seen already.
                let _ = sender.try_send(());
            }
        })?;
        Ok(Self { caught, signals })
    }

    /// Elsewhere Ctrl-C ends the process as it always does.
    #[cfg(not(unix))]
    #[expect(clippy::unnecessary_wraps, reason = "it can fail on Unix")]
    pub(crate) fn catch() -> io::Result<Self> {
        let (_, signals) = mpsc::sync_channel(1);
        Ok(Self { caught: Arc::default(), signals })
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
