//! Linux: a number, and in `/proc` when it began.

use procfs::ProcError;

/// Process, thread, and when that was started, of the calling thread.
pub(super) fn current() -> Option<(i32, i32, u64)> {
    let process = rustix::process::getpid().as_raw_pid();
    let thread = rustix::thread::gettid().as_raw_pid();
    Some((process, thread, started(process, thread).ok()?))
}

pub(super) fn exists(process: i32, thread: i32, began: u64) -> bool {
    match started(process, thread) {
        Ok(started) => started == began,
        Err(ProcError::NotFound(_)) => false,
        // It can't be told at the moment, or is somebody else's. A second writer would be worse than a wait.
        Err(_) => true,
    }
}

fn started(process: i32, thread: i32) -> Result<u64, ProcError> {
    Ok(procfs::process::Process::new(process)?.task_from_tid(thread)?.stat()?.starttime)
}

#[cfg(test)]
mod tests {
    use crate::thread::Thread;

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
