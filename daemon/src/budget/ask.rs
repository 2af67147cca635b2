//! What is asked of the budget, and what it answers.

use std::time::Duration;

use super::State;

/// What a stream asks for: at least the pages of its next write, at best all that it has queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Less is of no use.
    pub need_bytes: u64,
    /// More is of no use; at least `need_bytes`.
    pub want_bytes: u64,
    /// Where in its file the next write begins.
    pub offset: u64,
}

/// What became of it.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserve {
    /// So many bytes are charged, from what it needs to what it wants.
    Granted(u64),
    /// The stream waits in line, and asks again when it is woken.
    Throttled(Hold),
}

/// What a stream waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Its device holds as much as its own speed allows.
    Device,
    /// Its device holds all that the others leave it of the total.
    Total,
    /// Another stream of its device has the turn.
    Turn,
    /// Its device does not answer.
    Sick,
}

/// What is to be known of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceView {
    /// How it answers, and since when.
    pub state: State,
    /// See `state`.
    pub since: Duration,
    /// Most bytes that it may hold now.
    pub limit_bytes: u64,
    /// Bytes charged now.
    pub charged_bytes: u64,
    /// How long an extent of one more stream of the usual weight would be.
    pub extent_bytes: u64,
    /// Bytes that it gets clean in a second, while it has something to do.
    pub bytes_per_second: u64,
    /// 95th percentile of an extent's time in writeback.
    pub completion_p95: Duration,
    /// True when its streams take turns.
    pub takes_turns: bool,
}
