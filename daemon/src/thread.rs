//! A thread of some process of this host, and whether it is still there. Where the platform does not tell,
//! nobody has one.

#[cfg(target_os = "linux")]
use procfs::ProcError;
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
        #[cfg(target_os = "linux")]
        {
            let process = rustix::process::getpid().as_raw_pid();
            let thread = rustix::thread::gettid().as_raw_pid();
            Some(Self { process, thread, started: started(process, thread).ok()? })
        }
        #[cfg(not(target_os = "linux"))]
        None
    }

    /// True while it exists, if only in a system call from which it will return to die. A process that was
    /// killed is gone for its parent before such a thread is.
    #[must_use]
    pub fn exists(&self) -> bool {
        #[cfg(target_os = "linux")]
        return match started(self.process, self.thread) {
            Ok(started) => started == self.started,
            Err(ProcError::NotFound(_)) => false,
            // It can't be told at the moment, or is somebody else's. A second writer would be worse than a
            // wait.
            Err(_) => true,
        };
        #[cfg(not(target_os = "linux"))]
        false
    }
}

#[cfg(target_os = "linux")]
fn started(process: i32, thread: i32) -> Result<u64, ProcError> {
    Ok(procfs::process::Process::new(process)?.task_from_tid(thread)?.stat()?.starttime)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_thread_exists_until_it_has_ended() {
        let (sender, stop) = std::sync::mpsc::channel::<()>();
        let (told, thread) = std::sync::mpsc::channel();
        let running = std::thread::spawn(move || {
            told.send(Thread::current().unwrap()).unwrap();
            let _ = stop.recv();
        });
        let thread = thread.recv().unwrap();
        assert!(thread.exists());
        assert!(
            !Thread { started: thread.started + 1, ..thread }.exists(),
            "another with its number"
        );
        drop(sender);
        running.join().unwrap();
        while thread.exists() {
            std::thread::yield_now();
        }
    }
}
