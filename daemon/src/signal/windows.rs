//! Ctrl-C, Ctrl-Break, the end of the console, of the session and of the system stop; so does the service control
//! manager, which can also have the configuration read again.

use std::io;
use std::sync::OnceLock;

use tokio::signal::windows;
use tokio::sync::mpsc;

use crate::server::Signal;

static SENDER: OnceLock<mpsc::UnboundedSender<Signal>> = OnceLock::new();

/// Signals of this process from here on. Must be called within the runtime, once.
///
/// # Errors
/// The system has no handler to give.
pub fn listen() -> io::Result<mpsc::UnboundedReceiver<Signal>> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let _ = SENDER.set(sender.clone());
    let (mut c, mut break_) = (windows::ctrl_c()?, windows::ctrl_break()?);
    let (mut close, mut logoff) = (windows::ctrl_close()?, windows::ctrl_logoff()?);
    let mut shutdown = windows::ctrl_shutdown()?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                Some(()) = c.recv() => {}
                Some(()) = break_.recv() => {}
                Some(()) = close.recv() => {}
                Some(()) = logoff.recv() => {}
                Some(()) = shutdown.recv() => {}
                else => return,
            }
            if sender.send(Signal::Stop).is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

/// The same from the service control manager; before [`listen`] there is nobody to hear it.
pub fn send(signal: Signal) {
    if let Some(sender) = SENDER.get() {
        // Nobody listens any more when it has ended.
        let _ = sender.send(signal);
    }
}
