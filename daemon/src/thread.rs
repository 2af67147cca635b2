//! A thread of some process of this host, and whether it is still there. Where the platform does not tell,
//! nobody has one.

#[cfg_attr(target_os = "linux", path = "thread/linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "thread/none.rs")]
mod platform;

use serde::{Deserialize, Serialize};

/// A thread, told from others that may have its number later by when it was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thread {
    process: i32,
    thread: i32,
    /// In the kernel's clock ticks since boot.
    started: u64,
}

impl Thread {
    /// Whether this platform tells of threads.
    pub const CAN_BE_TOLD: bool = cfg!(target_os = "linux");

    /// The calling thread.
    #[must_use]
    pub fn current() -> Option<Self> {
        let (process, thread, started) = platform::current()?;
        Some(Self { process, thread, started })
    }

    /// True while it exists, if only in a system call from which it will return to die. A process that was
    /// killed is gone for its parent before such a thread is.
    #[must_use]
    pub fn exists(&self) -> bool {
        platform::exists(self.process, self.thread, self.started)
    }
}
