//! What a test tells the fake daemon in advance.

use std::collections::{BTreeSet, VecDeque};

use freemkvd_proto::Failure;
use freemkvd_proto::hello::DaemonHello;

/// What the daemon does differently from a healthy one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script {
    pub(crate) hello: Option<DaemonHello>,
    pub(crate) never_greets: bool,
    pub(crate) never_opens: bool,
    pub(crate) refuses_open: Option<Failure>,
    /// Content of a file that exists already.
    pub(crate) content: Vec<u8>,
    /// `Failed` instead of the write that goes beyond so many bytes.
    pub(crate) fails_after: Option<(u64, Failure)>,
    /// The connection ends instead of the write that goes beyond so many bytes.
    pub(crate) closes_after: Option<u64>,
    /// Says so before it closes.
    pub(crate) says_going_away: bool,
    pub(crate) fails_sync: Option<Failure>,
    /// Shared slots are offered in vain.
    pub(crate) wants_no_slots: bool,
    /// It gives a token.
    pub(crate) resumable: bool,
    /// The connection ends instead of these frames, counted from 0 over all connections.
    pub(crate) cuts_before: BTreeSet<usize>,
    /// It ends after them, and they are not answered.
    pub(crate) cuts_after: BTreeSet<usize>,
    /// What it does with the next `Resume`s; with those beyond it does what it should.
    pub(crate) on_resume: VecDeque<OnResume>,
    /// It has had the file closed meanwhile.
    pub(crate) unwatched: bool,
}

/// How a `Resume` is answered.
#[derive(Clone, Debug)]
pub(crate) enum OnResume {
    /// As it should be, but content goes inline.
    Inline,
    /// By this.
    Failed(Failure),
    /// By saying that the file is complete.
    Finished,
    /// By the end of the connection.
    Close,
    /// Never.
    Hang,
    /// With version 2, which has no `Resume`.
    Old,
}

impl Script {
    /// A healthy daemon whose streams can be resumed.
    pub(crate) fn resumable() -> Self {
        Self { resumable: true, ..Self::default() }
    }
}
