//! What the benchmark and its writers say to each other, as JSON.

use std::path::PathBuf;

use freemkvd_tests::trace::{Kind, Trace};
use serde::{Deserialize, Serialize};

use super::contender::Contender;

/// The line that a writer prints when it is ready, and the one that it waits for then.
pub(crate) const READY: &str = "ready";
pub(crate) const GO: &str = "go";
/// Exit code of a writer whose contender can't work here; the reason is on standard error.
pub(crate) const EXIT_UNSUPPORTED: u8 = 3;

/// What one writer does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) contender: Contender,
    /// The daemon's, for those who need one.
    pub(crate) socket: Option<PathBuf>,
    pub(crate) out: PathBuf,
    pub(crate) seed: u64,
    pub(crate) job: Job,
    /// No faster than this.
    pub(crate) pace_bytes_per_second: Option<f64>,
}

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Job {
    /// Writes of one length, one behind the other.
    Sequential { bytes: u64, write_bytes: u64 },
    /// T9: 4 MiB are read, 4 MiB are written.
    Mover { bytes: u64 },
    /// T1 to T6: the calls of a muxer.
    Trace { kind: Kind, content_seconds: f64 },
}

impl Job {
    pub(crate) fn trace(self, seed: u64) -> Option<Trace> {
        match self {
            Self::Trace { kind, content_seconds } => Some(Trace { kind, seed, content_seconds }),
            _ => None,
        }
    }

    pub(crate) fn is_buffered_by_its_muxer(self) -> bool {
        matches!(self, Self::Trace { kind, .. } if kind.is_buffered())
    }

    pub(crate) fn opens_what_exists(self) -> bool {
        matches!(self, Self::Trace { kind: Kind::Patch, .. })
    }

    /// The file only grows, so that its length says how far the stream has come.
    pub(crate) fn grows(self) -> bool {
        !matches!(self, Self::Trace { kind: Kind::Patch | Kind::Sweep | Kind::Mp4, .. })
    }
}

/// What a writer says in the end. Moments are nanoseconds of the clock that all processes share.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) started_ns: u64,
    /// The last write came back.
    pub(crate) taken_ns: u64,
    /// Everything was durable.
    pub(crate) durable_ns: u64,
    /// Bytes handed over, patches and zeros included.
    pub(crate) bytes: u64,
    /// Length of the file.
    pub(crate) len_bytes: u64,
    /// CPU time of the process between start and end.
    pub(crate) cpu_ns: u64,
    /// Its memory before it opened the file.
    pub(crate) memory_before_bytes: u64,
    /// Calls of write and write_zeroes.
    pub(crate) writes: u64,
    /// Frames and seeks that were sent to a daemon.
    pub(crate) sent: Option<(u64, u64)>,
    /// Nanoseconds, and how many calls took them.
    pub(crate) latency: Vec<(u64, u64)>,
}
