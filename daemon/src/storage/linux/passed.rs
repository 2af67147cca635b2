//! The descriptors that this process was started with: sockets, and files that were kept for it.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Takes all descriptors that systemd has passed, with their names. The second time there are none.
///
/// # Errors
/// What the environment says of them is no number, or one of them is not there.
#[expect(unsafe_code, reason = "a number from the environment becomes a descriptor")]
pub fn passed() -> io::Result<Vec<(String, OwnedFd)>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    let passed = sd_notify::listen_fds_with_names()?;
    Ok(passed
        .map(|(number, name)| {
            // SAFETY: it was just seen to be open (it is closed on exec now), the protocol says that it is
            // this process' to use, and nobody takes it a second time.
            (name, unsafe { OwnedFd::from_raw_fd(number) })
        })
        .collect())
}
