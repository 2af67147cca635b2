//! Calls that may hang in the kernel, on a dead mount above all, each in a thread of its own.

use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;

use crate::Error;
use crate::connection::io_error;
use crate::outlet::Patience;

/// Has `work` done in a thread of this name, and waits for it as long as patience lasts. Then it goes on
/// without being waited for, and `late` gets what comes of it.
pub(crate) fn run<T: Send + 'static>(
    name: &str,
    path: &Path,
    patience: &Patience,
    work: impl FnOnce() -> T + Send + 'static,
    late: impl FnOnce(T) + Send + 'static,
) -> Result<T, Error> {
    // Without room: what was sent has come to somebody.
    let (sender, result) = mpsc::sync_channel(0);
    thread::Builder::new()
        .name(name.into())
        .spawn(move || {
            if let Err(unwanted) = sender.send(work()) {
                late(unwanted.0);
            }
        })
        .map_err(|cause| io_error(path, "start a thread for", cause))?;
    loop {
        match result.recv_timeout(patience.next(path)?) {
            Ok(value) => return Ok(value),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                let cause = std::io::Error::other("its thread panicked");
                return Err(io_error(path, "deal with", cause));
            }
        }
    }
}
