//! SIGTERM and SIGINT stop, SIGHUP reloads. A thread of their own waits for them, so that a runtime that is busy still
//! hears the second one.

use std::io;

use tokio::sync::mpsc;

use crate::server::Signal;

/// Signals of this process from here on.
///
/// # Errors
/// The system has no thread or no handler to give.
pub fn listen() -> io::Result<mpsc::UnboundedReceiver<Signal>> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

    let mut signals = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            let signal = if signal == SIGHUP { Signal::Reload } else { Signal::Stop };
            if sender.send(signal).is_err() {
                return;
            }
        }
    })?;
    Ok(receiver)
}
