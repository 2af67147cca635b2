//! What can be done to a daemon, and asked of it, on Unix.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{Daemon, wait_until};

/// Where a daemon listens that has `home` to itself.
pub(super) fn new_socket(home: &Path) -> PathBuf {
    home.join("s")
}

impl Daemon {
    /// Sends it a signal that is to end it, waits until nothing but threads that hang in the kernel is left of
    /// it, and starts another one in its place. Returns how long each of the two took.
    ///
    /// # Panics
    /// When it does not end, or the other one does not start; the log is in the message.
    pub fn replace(&mut self, signal: Signal) -> (Duration, Duration) {
        let since = Instant::now();
        self.signal(signal);
        let stat = format!("/proc/{}/stat", self.pid());
        // With its main thread, it is dead; its name, in brackets, has no such letter.
        let is_dead = || std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "));
        assert!(wait_until(is_dead), "freemkvd did not end; log:\n{}", self.log());
        let ended = since.elapsed();
        let child = self.command.spawn().expect("freemkvd starts");
        self.replaced.push(std::mem::replace(&mut self.child, child));
        self.wait_for_answer();
        (ended, since.elapsed() - ended)
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When it is gone.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process id"), signal).expect("freemkvd runs");
    }

    /// The names of its threads, as the kernel has them, and their numbers.
    #[must_use]
    pub fn threads(&self) -> Vec<(String, i32)> {
        let tasks = format!("/proc/{}/task", self.pid());
        let entries = std::fs::read_dir(tasks).into_iter().flatten().flatten();
        entries
            .filter_map(|task| {
                let number = task.file_name().to_str()?.parse().ok()?;
                // One that has just ended has no name any more.
                let name = std::fs::read_to_string(task.path().join("comm")).ok()?;
                Some((name.trim_end_matches('\n').to_owned(), number))
            })
            .collect()
    }

    /// How many files and sockets it has open.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).map_or(0, Iterator::count)
    }

    /// Stops it as systemd would, and returns how it ended and what it logged.
    pub fn stop(self) -> (ExitStatus, String) {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Its private memory in bytes, as the kernel counts it.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn resident_bytes(&self) -> io::Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kib.map(|kib| kib << 10).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}
