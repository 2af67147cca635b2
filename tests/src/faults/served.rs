//! A whole daemon in this process, over disks that fail when they are told to: the real server, the real
//! writer threads, a private socket.
//!
//! Injects nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use freemkvd::budget::LIMIT_BYTES_MIN;
use freemkvd::config::{Config, Total};
use freemkvd::descriptors::Table;
use freemkvd::ledger::Ledger;
use freemkvd::server::{self, Ending, Server, Signal, Source};
use freemkvd::storage::{Creation, Descriptors, Known, Open, OpenError, Opened};
use freemkvd::supervisor::Passed;
use freemkvd_client::control::Control;
use freemkvd_client::{Options, RipFile};
use freemkvd_proto::OpenMode;
use freemkvd_proto::status::Status;
use tokio::sync::mpsc;

use super::disk::FaultDisk;
use crate::daemon::wait_until;

/// Longer than anything takes that does not hang.
const PATIENCE: Duration = Duration::from_secs(30);

/// A daemon that serves; it ends when it is told to, or with its owner.
pub struct Served {
    socket: PathBuf,
    server: Arc<Server>,
    descriptors: Arc<Table>,
    stop: mpsc::UnboundedSender<Signal>,
    thread: Option<JoinHandle<Ending>>,
    config: Config,
    disk: Arc<dyn Open>,
    home: Arc<tempfile::TempDir>,
}

/// Several disks as one machine: each file lies on the one that it is below.
struct Machine(Vec<FaultDisk>);

impl Machine {
    fn of(&self, path: &Path) -> &FaultDisk {
        let found = self.0.iter().find(|disk| path.starts_with(disk.root()));
        found.unwrap_or(&self.0[0])
    }
}

impl Open for Machine {
    fn open(
        &self,
        roots: &[PathBuf],
        path: &Path,
        mode: OpenMode,
        creation: Creation,
    ) -> Result<Opened, OpenError> {
        self.of(path).open(roots, path, mode, creation)
    }

    fn reopen(&self, roots: &[PathBuf], path: &Path, known: Known) -> Result<Opened, OpenError> {
        self.of(path).reopen(roots, path, known)
    }

    fn adopt(
        &self,
        given: Descriptors,
        label: &Path,
        known: Option<Known>,
    ) -> Result<Opened, OpenError> {
        self.of(label).adopt(given, label, known)
    }

    fn locate(&self, path: &Path) -> Option<String> {
        self.of(path).locate(path)
    }
}

impl Served {
    /// Starts a daemon whose roots are `disks`. `adjust` changes what is configured: streams can't be resumed
    /// unless `resume_grace` is set, and the budget is the smallest that there is.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(disks: &[&FaultDisk], adjust: impl FnOnce(&mut Config)) -> Self {
        let home = Arc::new(tempfile::tempdir().expect("a directory for the socket"));
        let mut config = Config {
            socket: Some(home.path().join("s")),
            roots: disks.iter().map(|disk| disk.root().to_owned()).collect(),
            budget: Total::Bytes(LIMIT_BYTES_MIN),
            resume_grace: Duration::ZERO,
            ..Config::default()
        };
        adjust(&mut config);
        let machine = Machine(disks.iter().map(|disk| (*disk).clone()).collect());
        Self::start_with(home, config, Arc::new(machine))
    }

    fn start_with(home: Arc<tempfile::TempDir>, config: Config, disk: Arc<dyn Open>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let entered = runtime.enter();
        let socket = config.socket();
        let (ledger, entries) = match config.resume_grace.is_zero() {
            true => (Ledger::default(), Vec::new()),
            false => Ledger::open(&home.path().join("streams")).expect("a ledger"),
        };
        let (listener, _) = server::listen(&config, &mut Passed::default()).expect("it can listen");
        let descriptors = Table::new(None, 0);
        let table = Arc::clone(&descriptors);
        let server = Server::new(config.clone(), Arc::clone(&disk), ledger, table);
        server::adopt(&server, entries, Passed::default());
        let (stop, signals) = mpsc::unbounded_channel();
        let serving = server::run(Arc::clone(&server), listener, signals, Source::default());
        drop(entered);
        let thread = std::thread::spawn(move || {
            let ending = runtime.block_on(serving);
            runtime.shutdown_background();
            ending
        });
        Self { socket, server, descriptors, stop, thread: Some(thread), config, disk, home }
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Options for a file that is written through it.
    pub fn options(&self) -> Options {
        RipFile::options().socket(&self.socket)
    }

    /// A control connection.
    ///
    /// # Panics
    /// When it does not answer.
    #[must_use]
    pub fn control(&self) -> Control {
        Control::connect(Some(&self.socket), PATIENCE).expect("the daemon answers")
    }

    /// A status report, without a connection.
    #[must_use]
    pub fn status(&self) -> Status {
        self.server.status()
    }

    /// How many descriptors are set aside for its connections and streams: none when there are none.
    #[must_use]
    pub fn claimed(&self) -> u64 {
        self.descriptors.claimed()
    }

    /// Waits until its status is as wanted.
    ///
    /// # Panics
    /// When it never is.
    pub fn wait_for(&self, what: &str, wanted: impl Fn(&Status) -> bool) -> Status {
        assert!(wait_until(|| wanted(&self.status())), "never {what}: {:#?}", self.status());
        self.status()
    }

    /// Has it drain and stop.
    ///
    /// # Panics
    /// When it does not.
    pub fn stop(mut self) -> Ending {
        let _ = self.stop.send(Signal::Stop);
        self.stopped()
    }

    /// Stops it if it does not stop already, and starts another one in its place, which goes on with its
    /// streams if they can be resumed.
    ///
    /// # Panics
    /// When it does not stop, or start.
    #[must_use]
    pub fn restart(mut self) -> Self {
        // A second time would be: at once.
        if !self.server.is_draining() {
            let _ = self.stop.send(Signal::Stop);
        }
        let _ = self.stopped();
        Self::start_with(Arc::clone(&self.home), self.config.clone(), Arc::clone(&self.disk))
    }

    fn stopped(&mut self) -> Ending {
        let thread = self.thread.take().expect("it is stopped once");
        assert!(wait_until(|| thread.is_finished()), "it does not stop");
        thread.join().expect("it does not panic")
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // The second time it does not wait for streams that hang.
        let _ = self.stop.send(Signal::Stop);
        let _ = self.stop.send(Signal::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
