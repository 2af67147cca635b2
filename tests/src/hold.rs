//! Holds one thread of the daemon still, as a device does that never answers again: the thread is in
//! the middle of its work, the rest of the process goes on. Done with ptrace, which an ordinary user
//! may do to a child.

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::daemon::{Daemon, wait_until};

/// A thread that is held. It goes on when this is dropped, which must be in the same thread that
/// made it.
#[derive(Debug)]
pub struct Held {
    thread: Pid,
    gone: bool,
}

impl Held {
    /// Holds the thread of stream `stream` while it waits for something to do, so that it has none
    /// of the daemon's locks.
    ///
    /// # Panics
    /// When there is no such thread, or the system does not let us hold it.
    #[must_use]
    pub fn writer(daemon: &Daemon, stream: u64) -> Self {
        let prefix = format!("{stream}:");
        let threads = daemon.threads();
        let found = threads.iter().find(|(name, _)| name.starts_with(&prefix));
        let number = found.expect("the stream has a thread").1;
        let stat = format!("/proc/{}/task/{number}/stat", daemon.pid());
        let sleeps = || {
            let text = std::fs::read_to_string(&stat).unwrap_or_default();
            text.rsplit(") ").next().is_some_and(|rest| rest.starts_with('S'))
        };
        assert!(wait_until(sleeps), "the stream's thread does not rest");
        let thread = Pid::from_raw(number);
        if let Err(refused) = ptrace::seize(thread, ptrace::Options::empty()) {
            panic!(
                "this system does not let us trace a child (kernel.yama.ptrace_scope): {refused}"
            );
        }
        ptrace::interrupt(thread).expect("a thread that is traced can be stopped");
        let held = Self { thread, gone: false };
        match held.wait() {
            Ok(WaitStatus::PtraceEvent(..) | WaitStatus::Stopped(..)) => held,
            other => panic!("the thread did not stop: {other:?}"),
        }
    }

    /// Waits until the thread has died with its process. Until then the process is not over.
    pub fn wait_for_end(mut self) {
        while !matches!(self.wait(), Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) | Err(_))
        {
        }
        self.gone = true;
    }

    fn wait(&self) -> nix::Result<WaitStatus> {
        waitpid(self.thread, Some(WaitPidFlag::__WALL))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.gone {
            // Killed meanwhile is as good.
            let _ = ptrace::detach(self.thread, None);
        }
    }
}
