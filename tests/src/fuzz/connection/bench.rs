//! The daemon that all runs have, and what has to be true of it between two of them.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use freemkvd_proto::hello::ClientHello;
use freemkvd_proto::status::{DaemonState, Stream, StreamState};
use freemkvd_proto::{AbortStream, Command};

use super::given;
use super::peer::{Peer, until, until_or};
use crate::faults::{FaultDisk, Ground, Served};

/// What fits on the disk: enough for everything that one input may write.
pub(super) const CAPACITY_BYTES: u64 = 64 << 20;

/// See the module's documentation.
pub(super) struct Bench {
    pub(super) disk: FaultDisk,
    /// `None` for a moment, while it restarts.
    served: Option<Served>,
    /// Descriptors and threads of the process when nobody is connected.
    at_rest: (usize, usize),
    pub(super) runs: u64,
}

fn place() -> MutexGuard<'static, Option<Bench>> {
    static BENCH: Mutex<Option<Bench>> = Mutex::new(None);
    BENCH.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Bench {
    /// Hands the one of this process, which is made if there is none, to one run at a time.
    pub(super) fn with(run: impl FnOnce(&mut Self)) {
        let mut place = place();
        let bench = place.get_or_insert_with(Self::new);
        bench.runs += 1;
        run(bench);
    }

    /// Stops the one of this process, if there is one. A static is never dropped, so what it has on the disk
    /// would outlive the process.
    pub(super) fn clear() {
        drop(place().take());
    }

    fn new() -> Self {
        given::prepare();
        let disk = FaultDisk::new(super::ROOT, Ground::default());
        disk.set_capacity(CAPACITY_BYTES);
        let served = Served::start(&[&disk], |config| {
            config.resume_grace = Duration::from_secs(2);
            config.keep_failed = Duration::ZERO;
            config.no_space_wait = Duration::ZERO;
            config.limits.connections_max = 128;
            config.limits.connections_per_user_max = 128;
            config.limits.streams_max = 128;
            config.limits.streams_per_user_max = 128;
        });
        // The first connection makes what is kept.
        drop(Peer::connect(served.socket()));
        let mut bench = Self { disk, served: Some(served), at_rest: (0, 0), runs: 0 };
        until("at rest", || bench.is_at_rest());
        bench.at_rest = open_in_process();
        bench
    }

    fn served(&self) -> &Served {
        self.served.as_ref().expect("it is there but while it restarts")
    }

    pub(super) fn socket(&self) -> &Path {
        self.served().socket()
    }

    /// Streams that wait for a client are given up first: their threads end with the process, which does not end
    /// here, and the next daemon would wait for them.
    pub(super) fn restart(&mut self) {
        until("resumed or given up", || !self.give_up_suspended());
        self.served = self.served.take().map(Served::restart);
    }

    /// A client has asked it to stop. False when streams were waiting for their clients: then all of it is a new
    /// one, and nothing can be said of the files of before.
    pub(super) fn start_again(&mut self) -> bool {
        until("draining", || self.served().status().state == DaemonState::Draining);
        let waits = |stream: &Stream| stream.state == StreamState::Suspended;
        if self.served().status().streams.iter().any(waits) {
            let runs = self.runs;
            // First the old one, or its threads would be counted.
            drop(self.served.take());
            *self = Self { runs, ..Self::new() };
            return false;
        }
        self.served = self.served.take().map(Served::restart);
        true
    }

    /// Connections and streams of the run have ended, and have given back all that they had.
    pub(super) fn come_to_rest(&mut self) {
        let mut looks = 0;
        let rests = until_or(|| {
            looks += 1;
            if looks > 20 {
                let _ = self.give_up_suspended();
            }
            self.is_at_rest()
        });
        assert!(
            rests,
            "never at rest: {:#?}, {:#?}",
            self.served().claimed(),
            self.served().status()
        );
        // Fewer is possible: whoever else has threads in this process may end them.
        let given_back = until_or(|| {
            let now = open_in_process();
            now.0 <= self.at_rest.0 && now.1 <= self.at_rest.1
        });
        assert!(given_back, "was {:?}, is {}", self.at_rest, what_is_open());
    }

    fn is_at_rest(&self) -> bool {
        if self.served().claimed() > 0 || self.disk.open_files() > 0 {
            return false;
        }
        let status = self.served().status();
        status.budget.charged_bytes == 0
            && status.budget.queued_bytes == 0
            && status.devices.is_empty()
    }

    /// Streams that wait for a client which does not come back; true when there were any.
    fn give_up_suspended(&self) -> bool {
        let status = self.served().status();
        let waits = |state| state == StreamState::Suspended;
        let suspended = status.streams.iter().filter(|stream| waits(stream.state));
        let give_up = |stream: &Stream| {
            let Some(mut peer) = Peer::connect(self.socket()) else { return };
            peer.send(&ClientHello::THIS.encode());
            let abort = AbortStream { stream: stream.id };
            peer.send(&Command::AbortStream(abort).encode(1).expect("it fits a frame"));
            peer.hang_up();
        };
        suspended.map(give_up).count() > 0
    }

    /// Nothing is left on the disk, nor goes wrong on it.
    pub(super) fn clean(&self) {
        self.disk.wipe();
    }
}

/// Descriptors and threads.
fn open_in_process() -> (usize, usize) {
    let count = |path| std::fs::read_dir(path).map_or(0, Iterator::count);
    // The one that the list is read by is in it each time.
    (count("/proc/self/fd"), count("/proc/self/task"))
}

/// The same by their names, for whoever has to find out.
fn what_is_open() -> String {
    let entries = |path| std::fs::read_dir(path).into_iter().flatten().flatten();
    let files = entries("/proc/self/fd").filter_map(|entry| std::fs::read_link(entry.path()).ok());
    let names = entries("/proc/self/task")
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("comm")).ok());
    format!("{:?}, {:?}", files.collect::<Vec<_>>(), names.collect::<Vec<_>>())
}
