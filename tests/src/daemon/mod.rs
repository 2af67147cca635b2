//! A real daemon on a private socket, which ends with its owner, and can be started again in its place.

#[cfg_attr(unix, path = "unix.rs")]
#[cfg_attr(windows, path = "windows.rs")]
mod platform;

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use freemkvd_client::control::Control;
use freemkvd_client::{Options, RipFile};
use freemkvd_proto::status::Status;

use crate::programs;

/// Longer than anything here takes on a busy machine, whose disk may not answer for half a minute; what takes longer
/// hangs. Less than what is made to hang for a minute.
const PATIENCE: Duration = Duration::from_secs(40);

/// A running `freemkvd`.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    /// Those before it that were replaced while a thread of theirs hung.
    replaced: Vec<Child>,
    command: Command,
    socket: PathBuf,
    log: PathBuf,
    /// Holds the socket and the log.
    home: tempfile::TempDir,
}

/// A directory for a daemon's socket, log and configuration.
///
/// # Panics
/// When there is no place for one.
#[must_use]
pub fn home() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory for the socket")
}

impl Daemon {
    /// Starts a daemon that writes below `root`, with `config` as the text of its configuration file,
    /// and waits until it answers.
    ///
    /// # Panics
    /// When it does not start; its log is in the message.
    #[must_use]
    pub fn start(root: &Path, config: &str) -> Self {
        Self::start_under(&[], root, config)
    }

    /// The same, by a program that sets something up and then becomes the one that it is told: `prlimit`,
    /// `setpriv`.
    ///
    /// # Panics
    /// When it does not start; its log is in the message.
    #[must_use]
    pub fn start_under(launcher: &[&str], root: &Path, config: &str) -> Self {
        let home = home();
        let socket = platform::new_socket(home.path());
        let file = home.path().join("config.toml");
        std::fs::write(&file, config).expect("the configuration can be written");
        let mut words = launcher.iter().map(OsString::from).collect::<Vec<_>>();
        words.push(programs::freemkvd().into());
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .args(["--config".as_ref(), file.as_os_str()])
            .args(["--socket".as_ref(), socket.as_os_str()])
            .args(["--root".as_ref(), root.as_os_str()]);
        Self::start_as(home, socket, command)
    }

    /// Runs `command`, which is a daemon that will listen on `socket`, and waits until it answers.
    /// `home` gets its log, and is removed with it.
    ///
    /// # Panics
    /// When it does not start; its log is in the message.
    #[must_use]
    pub fn start_as(home: tempfile::TempDir, socket: PathBuf, mut command: Command) -> Self {
        let log = home.path().join("log");
        // Appended to, so that a daemon that comes later does not write over what this one said.
        let file = File::options().create(true).append(true).open(&log);
        command.stdin(Stdio::null()).stderr(file.expect("the log can be written"));
        let child = command.spawn().expect("freemkvd starts");
        let mut daemon = Self { child, replaced: Vec::new(), command, socket, log, home };
        daemon.wait_for_answer();
        daemon
    }

    fn wait_for_answer(&mut self) {
        // Asked no more than until it has answered once: muxers may come back meanwhile and take all places.
        let mut has_answered = false;
        let _ = wait_until(|| {
            has_answered = self.try_status().is_some();
            has_answered || !matches!(self.child.try_wait(), Ok(None))
        });
        assert!(has_answered, "freemkvd: {}", self.log());
    }

    /// Kills it, as `kill -9` and the kernel without memory do, and returns when it is gone.
    ///
    /// # Panics
    /// When it had ended before, or a thread of it is stuck in the kernel.
    pub fn kill(&mut self) {
        assert_eq!(self.ended(), None, "freemkvd ended by itself; log:\n{}", self.log());
        self.child.kill().expect("freemkvd runs");
        let end = self.wait_for_end();
        assert!(!end.success(), "{end}; log:\n{}", self.log());
    }

    /// Starts it again as it was started before, and waits until it answers.
    ///
    /// # Panics
    /// When it runs, or does not start; its log is in the message.
    pub fn start_again(&mut self) {
        assert!(self.ended().is_some(), "freemkvd runs");
        self.child = self.command.spawn().expect("freemkvd starts");
        self.wait_for_answer();
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its configuration file, for changing it.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.home.path().join("config.toml")
    }

    /// What it has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Options for a file that is written through it.
    pub fn options(&self) -> Options {
        RipFile::options().socket(&self.socket)
    }

    /// A status report, or `None` when it does not answer.
    #[must_use]
    pub fn try_status(&self) -> Option<Status> {
        Control::connect(Some(&self.socket), PATIENCE).ok()?.status().ok()
    }

    /// A status report.
    ///
    /// # Panics
    /// When it does not answer.
    #[must_use]
    pub fn status(&self) -> Status {
        self.try_status().expect("freemkvd answers")
    }

    /// Waits until its status is as wanted, and returns it.
    ///
    /// # Panics
    /// When it never is.
    pub fn wait_for(&self, what: &str, wanted: impl Fn(&Status) -> bool) -> Status {
        let mut last = None;
        let found = wait_until(|| {
            last = self.try_status();
            last.as_ref().is_some_and(&wanted)
        });
        match last {
            Some(status) if found => status,
            last => panic!("never saw {what}; last: {last:#?}\nlog:\n{}", self.log()),
        }
    }

    /// Waits until it has ended by itself.
    ///
    /// # Panics
    /// When it does not.
    pub fn wait(mut self) -> (ExitStatus, String) {
        let end = self.wait_for_end();
        (end, self.log())
    }

    /// Waits until it has ended by itself; it can be started again then.
    ///
    /// # Panics
    /// When it does not.
    pub fn wait_for_end(&mut self) -> ExitStatus {
        let ended = wait_until(|| self.ended().is_some());
        assert!(ended, "freemkvd did not end; log:\n{}", self.log());
        self.ended().expect("it has ended")
    }

    /// How it has ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits until its log has all of `words` in one line, and returns that line.
    ///
    /// # Panics
    /// When it never has.
    pub fn wait_for_log(&self, words: &[&str]) -> String {
        let mut line = None;
        wait_until(|| {
            let log = self.log();
            let mut lines = log.lines();
            line =
                lines.find(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned);
            line.is_some()
        });
        line.unwrap_or_else(|| panic!("no line with {words:?} in the log:\n{}", self.log()))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.child.kill();
        for child in self.replaced.iter_mut().chain([&mut self.child]) {
            let _ = child.wait();
        }
    }
}

/// Looks every few milliseconds until `wanted` is true; false when it never was.
pub fn wait_until(mut wanted: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if wanted() {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
}
