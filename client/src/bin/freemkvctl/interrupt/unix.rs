//! SIGHUP, SIGINT and SIGTERM.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Receiver};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::{flag, iterator::Signals};

/// The first of them sets `caught`, the second ends the process; each is told.
pub(super) fn catch(caught: &Arc<AtomicBool>) -> io::Result<Receiver<()>> {
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        // In this order: the first signal finds the flag unset, and sets it for the second.
        flag::register_conditional_default(signal, Arc::clone(caught))?;
        flag::register(signal, Arc::clone(caught))?;
    }
    let mut incoming = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    let (sender, signals) = mpsc::sync_channel(1);
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for _ in incoming.forever() {
            // Full means that one is waiting to be seen already.
            let _ = sender.try_send(());
        }
    })?;
    Ok(signals)
}
