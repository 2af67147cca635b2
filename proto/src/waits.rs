//! Where the time of a stream went: what the daemon answers to `Why`.
//!
//! Every moment from the first request to the end of the stream belongs to exactly one [`Cause`], so the parts add
//! up to the whole, to the nanosecond.

use serde::{Deserialize, Serialize};

/// Body of `Why`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// The stream's number.
    pub stream: u64,
}

/// What the thread of a stream did with a moment. Variants are only appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// It opened the file, or waited for that.
    Opening,
    /// It had nothing to do: its muxer had handed over nothing, or too little to ask a disk that seeks for a turn.
    Muxer,
    /// Work of the daemon itself, between calls of the system.
    Daemon,
    /// Another stream of the same disk had its turn.
    Turn,
    /// Its device had as many dirty pages as it may have.
    DeviceBudget,
    /// Its device had all that the others left it of the total; one device alone gets about half of that.
    TotalBudget,
    /// Its device does not answer and gets nothing to do.
    SickDevice,
    /// In the call that writes: copying, and what the kernel made it wait for (its own limit of dirty pages, memory,
    /// a page that is being written back, space that has to be found).
    Write,
    /// In a call that waits until dirty pages are on the device.
    Writeback,
    /// In a sync that its muxer had asked for, or the one at the end.
    Sync,
    /// There was no space for what it had to write.
    Space,
    /// In another call of the system.
    Call,
    /// The daemon was restarted, and its muxer had not come back yet.
    Restart,
    /// It had failed, was given up or had lost its muxer, and its file was not closed yet.
    Ending,
    /// Somebody had paused it.
    Paused,
}

impl Cause {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 15] = [
        Self::Opening,
        Self::Muxer,
        Self::Daemon,
        Self::Turn,
        Self::DeviceBudget,
        Self::TotalBudget,
        Self::SickDevice,
        Self::Write,
        Self::Writeback,
        Self::Sync,
        Self::Space,
        Self::Call,
        Self::Restart,
        Self::Ending,
        Self::Paused,
    ];

    /// Its name in JSON and in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Muxer => "muxer",
            Self::Daemon => "daemon",
            Self::Turn => "turn",
            Self::DeviceBudget => "device-budget",
            Self::TotalBudget => "total-budget",
            Self::SickDevice => "sick-device",
            Self::Write => "write",
            Self::Writeback => "writeback",
            Self::Sync => "sync",
            Self::Space => "space",
            Self::Call => "call",
            Self::Restart => "restart",
            Self::Ending => "ending",
            Self::Paused => "paused",
        }
    }
}

/// The time that one cause took, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The cause.
    pub cause: Cause,
    /// In the stream's life.
    pub ns: u64,
    /// As much of that as its muxer was held up, as far as the daemon sees: its queue was full, or half of its shared
    /// slots were on their way (the others may be in its window), or it waited for an open, a sync or a finish. A muxer
    /// that sends something else before a sync is answered has not waited for that.
    pub held_ns: u64,
    /// As `ns`, of the last [`Waits::recent_ns`].
    pub recent_ns: u64,
    /// As `held_ns`, of the last [`Waits::recent_ns`].
    pub recent_held_ns: u64,
}

/// Body of `Waits`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waits {
    /// The stream's number.
    pub stream: u64,
    /// The file; the end of its path, if that is very long.
    pub path: String,
    /// Process id of its muxer, where the platform tells.
    pub client_pid: Option<u32>,
    /// How long ago it ended, in seconds; `None` while it goes on.
    pub ended_seconds_ago: Option<u64>,
    /// Why it failed, in a sentence.
    pub error: Option<String>,
    /// How long it has lived in this daemon, in nanoseconds: the sum of all [`Part::ns`].
    pub lifetime_ns: u64,
    /// How far back `recent` reaches, in nanoseconds: the sum of all [`Part::recent_ns`].
    pub recent_ns: u64,
    /// What it does now, or did last.
    pub now: Cause,
    /// For how long it does that without a break, in nanoseconds.
    pub now_ns: u64,
    /// The time of each cause that took any, in the order of [`Cause::ALL`].
    pub parts: Vec<Part>,
}
