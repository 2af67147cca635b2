//! Where Ctrl-C ends the process as it always does.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Receiver};

#[expect(clippy::unnecessary_wraps, reason = "it can fail on Unix")]
pub(super) fn catch(_caught: &Arc<AtomicBool>) -> io::Result<Receiver<()>> {
    Ok(mpsc::sync_channel(1).1)
}
