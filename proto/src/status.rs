//! The status snapshot: what the daemon answers to `Status`, and, field for field under the same
//! names, what `freemkvctl status --json` prints. Sizes are bytes, rates bytes per second.
//!
//! 1. What a platform does not tell is `None`, in JSON `null`.
//! 2. The bytes of [`Kind::StatusReport`](crate::Kind::StatusReport) are those of protocol version 2 for ever: there a
//!    text that is `None` is empty, and what came later is not there. It follows in blocks of its own, one for
//!    each version that brought something; see [`Since6`] and [`Since9`].

mod wire;

use serde::{Deserialize, Serialize};

pub use self::wire::{Since6, Since9};
use crate::waits::Cause;

/// The whole daemon at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the daemon's package.
    pub version: String,
    /// Highest protocol version that the daemon speaks.
    pub protocol: u16,
    /// The daemon's process id.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// What it is doing as a whole.
    pub state: DaemonState,
    /// The memory that all streams share.
    pub budget: Budget,
    /// Backing stores with at least one open stream.
    pub devices: Vec<Device>,
    /// Open streams, and those that failed or lost their client a short while ago.
    pub streams: Vec<Stream>,
}

/// What the daemon is doing as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DaemonState {
    /// It takes streams.
    Running,
    /// It takes no new ones and writes what is queued.
    Draining,
}

/// The shared memory: dirty pages, and queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Most bytes that may be dirty or in writeback at once.
    pub limit_bytes: u64,
    /// Bytes charged now: written by the daemon, not yet known to be clean.
    pub charged_bytes: u64,
    /// Dirty and writeback bytes of the open files as the kernel counts them, where it can.
    pub kernel_dirty_bytes: Option<u64>,
    /// Bytes that clients have handed over and no thread has written yet.
    pub queued_bytes: u64,
    /// Most bytes that all queues may hold together.
    pub queue_limit_bytes: u64,
}

/// How well a device answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceState {
    /// Writeback completes, or nothing is to be done.
    Healthy,
    /// Writeback has not completed for longer than usual; it gets no more than its floor.
    Suspect,
    /// Nothing has completed for half a minute more; it gets nothing.
    Wedged,
    /// It has begun to complete again, and gets more step by step.
    Recovering,
}

impl DeviceState {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Healthy, Self::Suspect, Self::Wedged, Self::Recovering];

    /// Its name in JSON, in metrics and in words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Suspect => "suspect",
            Self::Wedged => "wedged",
            Self::Recovering => "recovering",
        }
    }
}

/// One backing store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// `MAJOR:MINOR` of its files, or a name where the platform has no such numbers.
    pub id: String,
    /// Where it is mounted.
    #[serde(with = "wire::empty")]
    pub mount: Option<String>,
    /// The file system's name.
    #[serde(with = "wire::empty")]
    pub filesystem: Option<String>,
    /// How well it answers.
    pub state: DeviceState,
    /// How its dirty pages are written back.
    pub drain: String,
    /// Most bytes that it may have charged.
    pub limit_bytes: u64,
    /// Bytes charged to it now.
    pub charged_bytes: u64,
    /// Bytes per second that it gets clean while it has something to do.
    pub rate_bytes_per_second: u64,
    /// 95th percentile of the time from the start of an extent's writeback to its end, recently, in
    /// milliseconds.
    pub completion_ms_p95: u64,
    /// The same bytes as `charged_bytes` as the kernel counts them, where it can.
    pub kernel_dirty_bytes: Option<u64>,
    /// How long an extent is here, in bytes.
    pub extent_bytes: u64,
    /// True when its streams take turns, as on a disk that has to seek.
    pub turns: bool,
    /// For how long it has been in this state, in seconds.
    pub state_seconds: u64,
}

/// What a stream is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StreamState {
    /// Its file is being opened.
    Opening,
    /// It waits for its muxer.
    Idle,
    /// It writes.
    Writing,
    /// It has bytes to write and waits for the budget.
    Throttled,
    /// It makes everything durable because it was asked to.
    Syncing,
    /// It completes the file.
    Finishing,
    /// Its muxer is gone and had not finished; what was accepted is being written, or is durable.
    Abandoned,
    /// It failed; nothing more is written.
    Failed,
    /// It was given up by its muxer.
    Aborted,
    /// The daemon was restarted, and its muxer has not come back yet.
    Suspended,
    /// There is no space for what it has to write; it tries again until there is, or its time is up.
    NoSpace,
    /// Somebody has paused it: it is written no further until it is to go on.
    Paused,
}

impl StreamState {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 12] = [
        Self::Opening,
        Self::Idle,
        Self::Writing,
        Self::Throttled,
        Self::Syncing,
        Self::Finishing,
        Self::Abandoned,
        Self::Failed,
        Self::Aborted,
        Self::Suspended,
        Self::NoSpace,
        Self::Paused,
    ];

    /// Its name in JSON, in metrics and in words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Idle => "idle",
            Self::Writing => "writing",
            Self::Throttled => "throttled",
            Self::Syncing => "syncing",
            Self::Finishing => "finishing",
            Self::Abandoned => "abandoned",
            Self::Failed => "failed",
            Self::Aborted => "aborted",
            Self::Suspended => "suspended",
            Self::NoSpace => "no-space",
            Self::Paused => "paused",
        }
    }
}

/// One stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    /// Its number.
    pub id: u64,
    /// Process id of its muxer, where the platform tells.
    pub client_pid: Option<u32>,
    /// User id of its muxer, where the platform has numbers for users.
    pub client_uid: Option<u32>,
    /// The file.
    pub path: String,
    /// [`Device::id`] of the file's device; `None` while it is being opened.
    #[serde(with = "wire::empty")]
    pub device: Option<String>,
    /// What it is doing.
    pub state: StreamState,
    /// For how long, in seconds.
    pub state_seconds: u64,
    /// The system call that its thread has been in for at least a second.
    pub blocked_in: Option<String>,
    /// Bytes taken from the muxer.
    pub accepted_bytes: u64,
    /// Bytes handed to the kernel.
    pub written_bytes: u64,
    /// Bytes known to be durable.
    pub durable_bytes: u64,
    /// What the muxer hands over, bytes per second.
    pub in_bytes_per_second: u64,
    /// What reaches the device, bytes per second.
    pub out_bytes_per_second: u64,
    /// Bytes taken and not yet written.
    pub queued_bytes: u64,
    /// Bytes charged to the budget: written, not yet known to be clean.
    pub dirty_bytes: u64,
    /// Newest bytes that stay in the page cache.
    pub window_bytes: u64,
    /// Seeks that moved the position.
    pub seeks: u64,
    /// Writes below the highest byte written so far.
    pub patches: u64,
    /// Why it failed.
    pub error: Option<StreamError>,
    /// What it waits for, in words, and for how long, in milliseconds; `None` while it works.
    pub waiting_for: Option<WaitingFor>,
    /// The same bytes as `dirty_bytes` as the kernel counts them, where it can.
    pub kernel_dirty_bytes: Option<u64>,
    /// How its dirty pages are written back; `None` as long as nobody knows.
    #[serde(with = "wire::empty")]
    pub drain: Option<String>,
    /// Its part of the device's speed, relative to the others there.
    pub weight: u32,
    /// True when its content comes in shared slots.
    pub shared: bool,
    /// What the user of its muxer is called, where the platform has names for users rather than numbers: on Windows
    /// the account, as in `NAS\anna`, or its identifier as long as the system has not said.
    #[serde(default, with = "wire::later")]
    pub client_user: Option<String>,
    /// Somebody has paused it, also if that has not stopped its thread yet, which first writes what it has begun, or
    /// waits for its muxer after a restart. `None` from a daemon older than protocol version 9.
    #[serde(default, with = "wire::later")]
    pub paused: Option<bool>,
    /// How much its muxer was held up lately; `None` when it was not, when its muxer is gone, or from a daemon older
    /// than protocol version 9.
    #[serde(default, with = "wire::later")]
    pub held: Option<Held>,
}

/// How much a muxer was held up lately. More of it tells [`Waits`](crate::waits::Waits).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// How much of the time, 1 to 100.
    pub percent: u8,
    /// How long that time is, in seconds.
    pub of_seconds: u64,
    /// What the stream did for most of the time in which its muxer was held up.
    pub cause: Cause,
}

/// What holds a stream up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingFor {
    /// As in "its turn on /rips", "fdatasync on /rips" or "its muxer".
    pub what: String,
    /// For how long, in milliseconds.
    pub ms: u64,
}

/// Why a stream failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamError {
    /// The operating system's error number.
    pub errno: Option<i32>,
    /// Where in the file, in bytes.
    pub offset: Option<u64>,
    /// One sentence.
    pub message: String,
}

impl Status {
    /// The same as a client of protocol version `version` knows it.
    #[must_use]
    pub fn for_version(mut self, version: u16) -> Self {
        for stream in &mut self.streams {
            stream.state = match stream.state {
                StreamState::Suspended if version < 3 => StreamState::Idle,
                StreamState::NoSpace if version < 4 => StreamState::Throttled,
                StreamState::Paused if version < 7 => StreamState::Idle,
                state => state,
            };
            if version < 9 {
                (stream.paused, stream.held) = (None, None);
            }
        }
        self
    }

    /// True when somebody should look: a failed or blocked stream, or a device that is not healthy.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        self.devices.iter().any(|device| device.state != DeviceState::Healthy)
            || self.streams.iter().any(Stream::is_degraded)
    }
}

impl Stream {
    /// True when somebody should look at it: it has failed, was abandoned, has no space, or hangs in a call.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        self.error.is_some()
            || self.blocked_in.is_some()
            || matches!(
                self.state,
                StreamState::Failed | StreamState::Abandoned | StreamState::NoSpace
            )
    }
}
