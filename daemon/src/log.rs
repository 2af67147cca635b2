//! Where messages go: to the journal with their fields when systemd has connected standard error to
//! it, else to standard error as text.
//!
//! 1. No stream, no status and no start waits for it: see `queue`.
//! 2. How much is told can be changed while the daemon runs.

#[cfg_attr(target_os = "linux", path = "log/linux.rs")]
#[cfg_attr(windows, path = "log/windows.rs")]
#[cfg_attr(not(any(target_os = "linux", windows)), path = "log/unix.rs")]
mod platform;

pub mod event;
mod message;
mod queue;
mod text;

pub use self::text::escaped;

use std::io::{self, IsTerminal};
use std::sync::OnceLock;
use std::time::Duration;

use tracing::Level;
use tracing_subscriber::Registry;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;

#[cfg(windows)]
pub use self::platform::to_file;
use self::queue::Queue;

/// How long the end of the daemon waits for a log that takes nothing.
const LAST_WORDS: Duration = Duration::from_millis(200);

static STARTED: OnceLock<(Queue, Handle<LevelFilter, Registry>)> = OnceLock::new();

/// Descriptors that the log has, some of them perhaps not yet: its thread opens it.
pub const DESCRIPTORS: u64 = platform::DESCRIPTORS;

/// Starts logging at `level`. To be called once.
///
/// # Errors
/// There is no thread for it.
pub fn start(level: Level) -> io::Result<()> {
    let queue = Queue::default();
    queue.start(|| {
        platform::sink().unwrap_or_else(|| text::text(io::stderr, io::stderr().is_terminal()))
    })?;
    let (level, handle) = reload::Layer::new(LevelFilter::from_level(level));
    tracing_subscriber::registry().with(level).with(queue.clone()).init();
    let _ = STARTED.set((queue, handle));
    Ok(())
}

/// From now on messages are told from `level` on.
pub fn set_level(level: Level) {
    if let Some((_, handle)) = STARTED.get() {
        // It fails only when there is no subscriber any more, and that one stays.
        let _ = handle.reload(LevelFilter::from_level(level));
    }
}

/// Has what was said told before the process ends, if the log takes it.
pub fn finish() {
    if let Some((queue, _)) = STARTED.get() {
        queue.finish(LAST_WORDS);
    }
}
